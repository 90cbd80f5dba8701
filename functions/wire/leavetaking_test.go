package wire

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// drained tells when Drain has returned.
func drained(ctx context.Context, client *Client) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		client.Drain(ctx)
		close(done)
	}()
	return done
}

// isDraining says whether a Drain waits for the client's calls.
func (c *Client) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quiet != nil
}

func TestDrainWaitsForTheLastCall(t *testing.T) {
	slow := newBlocking()
	_, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	client := dialReady(t, ClientConfig{Address: address})
	results := make(chan error)
	for range 2 {
		go func() { results <- client.Run(newCall([]byte("input")), new(functions.Answer)) }()
		<-slow.started
	}
	first, second := drained(t.Context(), client), drained(t.Context(), client)
	eventually(t, "it drains", client.isDraining)
	slow.release <- struct{}{}
	if err := <-results; err != nil {
		t.Error(err)
	}
	select {
	case <-first:
		t.Fatal("it returned with a call in flight")
	case <-second:
		t.Fatal("it returned with a call in flight")
	default:
	}
	slow.release <- struct{}{}
	if err := <-results; err != nil {
		t.Error(err)
	}
	<-first
	<-second
	<-drained(t.Context(), client) // nothing is in flight: at once
}

func TestDrainEndsWithItsContext(t *testing.T) {
	slow := newBlocking()
	_, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	client := dialReady(t, ClientConfig{Address: address})
	result := make(chan error)
	go func() { result <- client.Run(newCall(nil), new(functions.Answer)) }()
	<-slow.started
	ctx, cancel := context.WithCancel(t.Context())
	impatient, patient := drained(ctx, client), drained(t.Context(), client)
	eventually(t, "it drains", client.isDraining)
	cancel()
	<-impatient
	select {
	case <-patient:
		t.Error("it returned with a call in flight")
	default:
	}
	close(slow.release)
	if err := <-result; err != nil {
		t.Error(err)
	}
	<-patient
}

// A worker that is lost or a client that is closed ends its calls, and so a Drain.
func TestDrainEndsWithTheWorker(t *testing.T) {
	for name, end := range map[string]func(*Client, func(bool)){
		"lost":   func(_ *Client, swallow func(bool)) { swallow(true) },
		"closed": func(client *Client, _ func(bool)) { client.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			slow := newBlocking()
			_, worker := serve(t, ServerConfig{Runner: newRunner(slow.run)})
			address, swallow := blackHole(t, worker)
			client := dialReady(t, ClientConfig{Address: address, PollEvery: 20 * time.Millisecond, PollTimeout: 50 * time.Millisecond, LostAfter: 200 * time.Millisecond})
			result := make(chan error, 1)
			go func() { result <- client.Run(newCall(nil), new(functions.Answer)) }()
			<-slow.started
			done := drained(t.Context(), client)
			eventually(t, "it drains", client.isDraining)
			end(client, swallow)
			<-done
			wantKind(t, <-result, problem.WorkerLost)
			close(slow.release)
		})
	}
}

// TestLeaveTakingLosesNoCall: whoever follows a set of workers may pick a member
// just before it is dismissed. Its call is run or refused, and never cut.
func TestLeaveTakingLosesNoCall(t *testing.T) {
	var ran atomic.Int64
	_, address := serve(t, ServerConfig{Runner: newRunner(func(call *functions.Call, answer *functions.Answer) error {
		ran.Add(1)
		time.Sleep(100 * time.Microsecond) // so that Close would find it running
		return echo(call, answer)
	})})
	var answered int64
	for range 50 {
		client := dialReady(t, ClientConfig{Address: address})
		var mu sync.Mutex
		var callers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range cap(begun) {
			callers.Go(func() {
				for n := 0; ; n++ {
					err := client.Run(newCall([]byte("input")), new(functions.Answer))
					if n == 0 {
						begun <- struct{}{}
					}
					if err != nil {
						if kind := problem.Of(err).Kind; kind != problem.Overloaded {
							t.Errorf("%s: %v", kind, err)
						}
						return
					}
					mu.Lock()
					answered++
					mu.Unlock()
				}
			})
		}
		<-begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		client.Drain(ctx)
		cancel()
		client.Close()
		callers.Wait()
	}
	if ran := ran.Load(); ran != answered {
		t.Errorf("%d calls were run, and %d answered", ran, answered)
	}
}
