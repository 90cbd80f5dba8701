package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lightcone"
)

// deliver lets c deliver until the test ends.
func (b *bed) deliver(c *Client, to func(context.Context, *Callback) Verdict) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Deliver(ctx, 4, to) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
}

func TestCallbacksAreHandedOutUntilDelivered(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		var mu sync.Mutex
		heard := make(map[string][]Callback)
		attempt := func(_ context.Context, got *Callback) Verdict {
			mu.Lock()
			defer mu.Unlock()
			heard[got.URL] = append(heard[got.URL], *got)
			return Verdict{Done: !strings.HasSuffix(got.URL, "/third") || got.Attempt == 3, After: time.Millisecond}
		}
		b.deliver(c, attempt)
		b.deliver(b.connect(testLimits), attempt) // the attempts are counted over both
		b.work(c, echo)
		urls := map[string]int{"https://a/first": 1, "https://a/third": 3, "https://a/large": 1}
		ids := make(map[string]lightcone.CallID)
		for url := range urls {
			q := queued(t, url)
			if strings.HasSuffix(url, "/large") {
				q.Call.Body = make([]byte, MostInline+1)
			}
			q.Callback = url
			b.accept(c, q)
			ids[url] = q.Call.ID
		}
		eventually(t, "no callbacks left", func(ctx context.Context) error {
			for url, id := range ids {
				if got, err := c.Find(ctx, "acme", id); err != nil || !got.Status.Final() {
					return fmt.Errorf("%s: %+v, %v", url, got, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if left := kept(t, c.js, callbacksStream) + kept(t, c.js, workStream); left > 0 || len(heard) < len(urls) {
				return fmt.Errorf("%d are left, %d heard", left, len(heard))
			}
			return nil
		})
		mu.Lock()
		defer mu.Unlock()
		for url, tries := range urls {
			got := heard[url]
			if len(got) != tries {
				t.Errorf("%s: %d tries", url, len(got))
				continue
			}
			for i, try := range got {
				large := strings.HasSuffix(url, "/large")
				if try.Attempt != i+1 || try.Invocation.ID != ids[url] || try.Invocation.Status != lightcone.InvocationSucceeded ||
					try.Omitted != large || !large && string(try.Result.Body) != url || large && len(try.Result.Body) != 0 || try.Result.Status != 200 {
					t.Errorf("%s: try %d: %+v", url, i, try)
				}
			}
		}
	})
}

// What was no attempt does not count, and a wait is waited, also of dead calls' callbacks.
func TestOnlyAttemptsAtACallbackCount(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	type try struct {
		attempt int
		at      time.Time
	}
	const wait = 300 * time.Millisecond
	verdicts := []Verdict{{Uncounted: true}, {Uncounted: true}, {}, {Uncounted: true}, {After: wait}, {Done: true}}
	tries := make(chan try, len(verdicts)+1)
	b.deliver(c, func(_ context.Context, got *Callback) Verdict {
		tries <- try{got.Attempt, time.Now()}
		return verdicts[min(len(tries), len(verdicts))-1]
	})
	b.work(c, crash)
	q := queued(t, "x")
	q.Callback = "https://a/dead"
	b.accept(c, q)
	b.until(c, q.Call.ID, lightcone.InvocationDead)
	eventually(t, "an end", func(context.Context) error {
		if left := kept(t, c.js, callbacksStream); left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
	close(tries)
	var attempts []int
	var last, before time.Time
	for each := range tries {
		attempts, before, last = append(attempts, each.attempt), last, each.at
	}
	if want := []int{1, 1, 1, 2, 2, 3}; !slices.Equal(attempts, want) {
		t.Errorf("attempts %v, want %v", attempts, want)
	}
	if last.Sub(before) < wait {
		t.Errorf("the last attempt came %v after the one before, want %v or more", last.Sub(before), wait)
	}
}

func TestCallbacksThatAreInTheWayWaitLonger(t *testing.T) {
	for deliveries, want := range map[uint64]time.Duration{0: 1, 1: 1, 2: 2, 3: 4, 7: 64, 8: 64, 1 << 40: 64} {
		if got := postponement(time.Second, deliveries); got != want*time.Second {
			t.Errorf("after %d deliveries: %v, want %v", deliveries, got, want*time.Second)
		}
	}
}
