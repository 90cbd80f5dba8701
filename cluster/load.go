package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"lightcone/internal/retry"
)

// load is an open-loop load: calls begin at a steady rate, whatever becomes of
// those before them, and none is tried twice. So what fails is seen.
type load struct {
	url, key string
	body     []byte
	rate     float64       // calls per second
	patience time.Duration // a call without an answer by then has failed
}

// tally is what a load saw.
type tally struct {
	sent, answered int
	latency        *hdrhistogram.Histogram // of the answered, in microseconds
	failures       map[string]int          // by what was seen instead of a 200
	cpu            map[string]float64      // what each of the answered cost, in milliseconds, by its id
}

// yield is the share of the calls that were answered, in percent.
func (t *tally) yield() float64 {
	if t.sent == 0 {
		return 0
	}
	return 100 * float64(t.answered) / float64(t.sent)
}

// milliseconds is a percentile of the latency of the answered.
func (t *tally) milliseconds(percentile float64) float64 {
	return float64(t.latency.ValueAtPercentile(percentile)) / 1000
}

// during runs the load while do runs, and lead before it and after it.
func (l load) during(ctx context.Context, lead time.Duration, do func() error) (*tally, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan *tally, 1)
	go func() { result <- l.run(ctx) }()
	err := retry.Pause(ctx, lead)
	if err == nil {
		err = do()
	}
	if err == nil {
		err = retry.Pause(ctx, lead)
	}
	stop()
	return <-result, err
}

// run sends calls until ctx ends, and returns when all of them have ended.
func (l load) run(ctx context.Context) *tally {
	seen := &tally{latency: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3), failures: make(map[string]int), cpu: make(map[string]float64)}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: l.patience}
	var mu sync.Mutex // guards seen
	var calls sync.WaitGroup
	ticker := time.NewTicker(time.Duration(float64(time.Second) / l.rate))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			calls.Wait()
			return seen
		case <-ticker.C:
		}
		calls.Go(func() {
			began := time.Now()
			id, cpu, failure := l.call(client)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			seen.sent++
			if failure != "" {
				seen.failures[failure]++
				return
			}
			seen.answered++
			seen.cpu[id] = cpu
			_ = seen.latency.RecordValue(took.Microseconds()) // within the patience, so within its range
		})
	}
}

// call makes one call and gives its id and its CPU time in milliseconds, or says what was
// seen instead of a 200.
func (l load) call(client *http.Client) (id string, cpu float64, failure string) {
	request, err := http.NewRequest(http.MethodPost, l.url, bytes.NewReader(l.body))
	if err != nil {
		return "", 0, err.Error()
	}
	request.GetBody = nil // nothing is sent twice
	request.Header.Set("Authorization", "Bearer "+l.key)
	response, err := client.Do(request)
	if err != nil {
		return "", 0, reason(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	switch {
	case err != nil:
		return "", 0, "the answer broke off"
	case response.StatusCode != http.StatusOK:
		return "", 0, fmt.Sprintf("%d %s", response.StatusCode, detail(text))
	}
	_, timing, _ := strings.Cut(response.Header.Get("Server-Timing"), "cpu;dur=")
	if cpu, err = strconv.ParseFloat(timing, 64); err != nil {
		return "", 0, "200 without what it cost"
	}
	return response.Header.Get("X-Call-Id"), cpu, ""
}

// detail is the sentence of a problem document: equal ones are counted together.
func detail(document []byte) string {
	var problem struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(document, &problem) != nil {
		return "without a reason"
	}
	return problem.Detail
}
