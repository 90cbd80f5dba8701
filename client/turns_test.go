package client

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lightcone/internal/problem"
)

// refuseCrowd refuses a call while another is under way, as for a tenant that may have
// one at a time, and asks for an hour's wait. The first call stays until one was refused.
func refuseCrowd(t *testing.T, next http.HandlerFunc) (handler http.HandlerFunc, refusals *atomic.Int64) {
	refusals = new(atomic.Int64)
	crowd := make(chan struct{})
	var underWay atomic.Bool
	var calls atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next(w, r)
			return
		}
		if !underWay.CompareAndSwap(false, true) {
			if refusals.Add(1) == 1 {
				close(crowd)
			}
			w.Header().Set("Retry-After", "3600")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprintf(w, `{"type":"urn:lightcone:problem:%s","detail":"One at a time.","quota":"concurrent_calls"}`, problem.LimitReached)
			return
		}
		defer underWay.Store(false)
		if calls.Add(1) == 1 {
			select {
			case <-crowd:
			case <-time.After(time.Minute):
				t.Error("nothing came beside the first call")
			}
		}
		next(w, r)
	}, refusals
}

// TestJobNarrowsToItsQuota: where one call at a time is allowed, a job learns it from a
// few refusals, and neither waits the hour nor stops asking about what it has queued.
func TestJobNarrowsToItsQuota(t *testing.T) {
	files := make(map[string]string)
	for i := range 60 {
		files[fmt.Sprintf("%02d.jpg", i)] = fmt.Sprint(i)
	}
	in := writeTree(t, files)
	for name, run := range map[string]func(*Client, Job) (Summary, error){
		"calls": func(c *Client, job Job) (Summary, error) { return c.Run(t.Context(), job, func(Progress) {}) },
		"queued calls": func(c *Client, job Job) (Summary, error) {
			return c.RunQueued(t.Context(), QueuedJob{Job: job}, func(Progress) {})
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := http.HandlerFunc(toWebP)
			if name == "queued calls" {
				next = newCounter().ServeHTTP
			}
			handler, refusals := refuseCrowd(t, next)
			c := startServer(t, handler)
			c.policy.LongestAsk = 2 * time.Hour
			summary, err := run(c, Job{Function: "echo", In: in, Out: t.TempDir(), Parallel: 4})
			if err != nil || summary.Done != 60 {
				t.Errorf("%+v, %v", summary, err)
			}
			if refusals.Load() < 1 || refusals.Load() > 3 {
				t.Errorf("%d refusals, want one for each call beside the first of four, at most", refusals.Load())
			}
		})
	}
}

// TestRefusedCallHoldsNoQuestions: Lightcone takes no call for an hour, and answers what
// it is asked about those it has.
func TestRefusedCallHoldsNoQuestions(t *testing.T) {
	server := newCounter()
	var full atomic.Bool
	c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && full.Load() {
			w.Header().Set("Retry-After", "3600")
			refuse(w, http.StatusServiceUnavailable, problem.Overloaded, "Full.")
			return
		}
		server.ServeHTTP(w, r)
	})
	c.policy.LongestAsk, c.policy.Attempts = 2*time.Hour, 1
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	queued, err := c.Enqueue(ctx, "echo", nil, BytesInput([]byte("a")), Queueing{Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if _, err := c.Enqueue(ctx, "echo", nil, BytesInput([]byte("b")), Queueing{Key: "b"}); err == nil {
		t.Fatal("the second call was not refused")
	}
	if c.held(callRequest) <= 0 {
		t.Error("calls are not held back")
	}
	if _, err := c.Invocation(ctx, queued.ID); err != nil {
		t.Errorf("a question: %v", err)
	}
}

// TestRetriesPauseOutsideTheirTurn: the first call waits an hour for its second attempt,
// and the others go on, although one request at a time is all that the job has.
func TestRetriesPauseOutsideTheirTurn(t *testing.T) {
	server := newCounter()
	var refused atomic.Bool
	c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && refused.CompareAndSwap(false, true) {
			refuse(w, http.StatusServiceUnavailable, problem.Overloaded, "Busy.")
			return
		}
		server.ServeHTTP(w, r)
	})
	c.policy.Base, c.policy.Cap = 1000*time.Hour, 1000*time.Hour // of which a wait is a random part
	in := writeTree(t, map[string]string{"a.jpg": "a", "b.jpg": "b", "c.jpg": "c"})
	ctx, interrupt := context.WithTimeout(t.Context(), time.Minute)
	defer interrupt()
	summary, err := c.RunQueued(ctx, QueuedJob{Job: Job{Function: "echo", In: in, Out: t.TempDir(), Parallel: 1}}, func(p Progress) {
		if p.Done == 2 {
			interrupt()
		}
	})
	if err != nil || summary.Done != 2 || summary.NotTried != 1 {
		t.Errorf("%+v, %v", summary, err)
	}
}

func TestTurnsGoToCallsAndThenToTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newTurns(1)
		first := turn{turns: shared, order: 9}
		if err := first.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var got []int
		given := func() []int {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(got)
		}
		for _, order := range []int{7, 3, 5, 0, 3} {
			go func() {
				waiting := turn{turns: shared, order: order}
				if waiting.take(t.Context()) == nil {
					mu.Lock()
					got = append(got, order)
					mu.Unlock()
					waiting.leave(turnAnswered)
				}
			}()
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() { gaveUp <- turn{turns: shared, order: 1}.take(ctx) }()
		synctest.Wait()
		cancel() // who gives up leaves no gap in the line
		if err := <-gaveUp; err == nil || len(given()) != 0 {
			t.Errorf("%v, and %v had a turn while there was none", err, given())
		}
		first.leave(turnAnswered)
		synctest.Wait()
		if want := []int{0, 3, 3, 5, 7}; !slices.Equal(given(), want) {
			t.Errorf("turns went to %v, want %v", given(), want)
		}
		if shared.free != 1 || len(shared.waiting) != 0 || len(shared.calls) != 0 {
			t.Errorf("left: %+v", shared)
		}
	})
}

func TestCallsAtOnceNarrowAndWiden(t *testing.T) {
	shared := newTurns(3)
	call := turn{turns: shared}
	take := func(end turnEnd) {
		t.Helper()
		if err := call.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		call.leave(end)
	}
	for _, want := range []int{2, 1, 1} {
		if take(turnCrowded); shared.open != want || cap(shared.calls)-len(shared.calls) != want {
			t.Errorf("%d calls at once, and room for %d, want %d", shared.open, cap(shared.calls)-len(shared.calls), want)
		}
	}
	for range widenAfter - 1 {
		take(turnAnswered)
	}
	take(turnUnused)
	if shared.open != 1 {
		t.Errorf("%d calls at once after %d answers", shared.open, widenAfter-1)
	}
	for range 5 * widenAfter {
		take(turnAnswered)
	}
	if shared.open != 3 || len(shared.calls) != 0 {
		t.Errorf("%d calls at once, and %d not to be had, after many answers", shared.open, len(shared.calls))
	}
}
