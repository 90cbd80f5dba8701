package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"lightcone"
)

// load is callers that call echo one call after the other, each with an input of
// its own, until they are stopped. Each counts what became of its calls.
type load struct {
	t       *testing.T
	gateway *service
	stop    chan struct{}
	callers sync.WaitGroup

	mu     sync.Mutex
	good   int
	failed []string // what the others were answered
}

func (s *service) load(callers int, query string) *load {
	l := &load{t: s.t, gateway: s, stop: make(chan struct{})}
	for i := range callers {
		l.callers.Go(func() { l.call(i, query) })
	}
	return l
}

func (l *load) call(caller int, query string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		if n%5 == 0 { // a new connection now and then
			client.CloseIdleConnections()
		}
		digest := lightcone.DigestOf(fmt.Append(nil, caller, n))
		input := bytes.Repeat(digest[:], 300)
		response, answer, err := l.gateway.call(client, "echo?"+query, input)
		if err == nil && response.StatusCode == http.StatusOK && !bytes.Equal(input, answer) {
			err = errors.New("the answer is not the input")
		}
		l.mu.Lock()
		switch {
		case err != nil:
			l.failed = append(l.failed, err.Error())
		case response.StatusCode != http.StatusOK:
			l.failed = append(l.failed, fmt.Sprintf("%s: %s", response.Status, answer))
		default:
			l.good++
		}
		l.mu.Unlock()
	}
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good
}

// more waits until so many further calls have been answered.
func (l *load) more(calls int) {
	l.t.Helper()
	before := l.answered()
	within(l.t, fmt.Sprintf("%d further calls are answered", calls), func() bool { return l.answered() >= before+calls })
}

// end stops the callers and tells the yield: the share of the calls that was answered.
func (l *load) end() (yield float64) {
	close(l.stop)
	l.callers.Wait()
	yield = float64(l.good) / float64(max(l.good+len(l.failed), 1))
	l.t.Logf("%d calls, of which %d were not answered: a yield of %.4f", l.good+len(l.failed), len(l.failed), yield)
	if len(l.failed) > 0 {
		l.t.Logf("among them %s", strings.Join(l.failed[:min(3, len(l.failed))], "; "))
	}
	return yield
}
