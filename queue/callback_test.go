package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"lightcone"
	"lightcone/internal/problem"
)

// deliver lets c deliver until the test ends.
func (b *bed) deliver(c *Client, to func(context.Context, *Callback) error) {
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
		b.deliver(c, func(_ context.Context, got *Callback) error {
			mu.Lock()
			defer mu.Unlock()
			heard[got.URL] = append(heard[got.URL], *got)
			switch {
			case strings.HasSuffix(got.URL, "/third") && got.Attempt < 3:
				return errors.New("503")
			case strings.HasSuffix(got.URL, "/forbidden"):
				return problem.New(problem.Forbidden, "It is in here.")
			}
			return nil
		})
		b.work(c, echo)
		urls := map[string]int{"https://a/first": 1, "https://a/third": 3, "https://a/forbidden": 1, "https://a/large": 1}
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
				if try.Attempt != i+1 || try.Attempts != 12 || try.Invocation.ID != ids[url] || try.Invocation.Status != lightcone.InvocationSucceeded ||
					try.Omitted != large || !large && string(try.Result.Body) != url || large && len(try.Result.Body) != 0 || try.Result.Status != 200 {
					t.Errorf("%s: try %d: %+v", url, i, try)
				}
			}
		}
	})
}

func TestACallbackIsGivenUpInTheEnd(t *testing.T) {
	limits := testLimits
	limits.CallbackAttempts = 3
	b := oneNode(t)
	c := b.connect(limits)
	tries := make(chan int, 10)
	b.deliver(c, func(_ context.Context, got *Callback) error {
		tries <- got.Attempt
		return errors.New("503")
	})
	b.work(c, crash)
	q := queued(t, "x")
	q.Callback = "https://a/dead"
	b.accept(c, q)
	b.until(c, q.Call.ID, lightcone.InvocationDead)
	for want := 1; want <= 3; want++ {
		if got := <-tries; got != want {
			t.Errorf("try %d, not %d", got, want)
		}
	}
	eventually(t, "an end", func(context.Context) error {
		if left := kept(t, c.js, callbacksStream); left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
}
