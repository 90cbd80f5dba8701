package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// weighed lets each node weigh what is kept, as nodes do, until the test ends.
func (b *bed) weighed(limits Limits) {
	b.t.Helper()
	nodes := 1
	if b.cluster != nil {
		nodes = len(b.cluster.nodes)
	}
	for n := range nodes {
		var c *Client
		if b.cluster != nil {
			c = b.connect(limits, n)
		} else {
			c = b.connect(limits)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.tend(ctx, time.Hour, time.Hour)
		}()
		b.t.Cleanup(func() {
			cancel()
			<-ended
		})
	}
}

// answering answers with so many bytes.
func answering(bytes int) function {
	return func(_ context.Context, _ *functions.Call, answer *functions.Answer) error {
		answer.Status, answer.Body = 200, []byte(strings.Repeat("x", bytes))
		return nil
	}
}

func (b *bed) refusedForBytes(c *Client, what string) {
	b.t.Helper()
	eventually(b.t, "a tenant that is refused", func(ctx context.Context) error {
		_, err := c.Accept(ctx, queued(b.t, "x"))
		var refused *problem.Error
		switch {
		case !errors.As(err, &refused):
			return fmt.Errorf("it is not: %w", err)
		case refused.Kind != problem.LimitReached || refused.Quota != "kept_bytes" || refused.RetryAfter <= 0 || !strings.Contains(refused.Detail, what):
			b.t.Fatalf("%+v", refused)
		}
		return nil
	})
}

// What is kept of one tenant's calls is bounded, and is no matter for another.
func TestATenantHasItsShareOfWhatIsKept(t *testing.T) {
	limits := testLimits
	limits.Keep = 25 * time.Second
	b := threeNodes(t)
	c := b.connect(limits)
	b.weighed(limits)
	var ids []lightcone.CallID
	for range 130 { // a quarter of 96 MiB is what 96 of them come to
		q := queued(t, "x")
		b.accept(c, q)
		ids = append(ids, q.Call.ID)
	}
	b.work(c, answering(256<<10))
	b.refusedForBytes(c, "results")
	other := queued(t, "x")
	other.Call.Tenant = "other"
	b.accept(c, other)
	b.ends(c, other)
	eventually(t, "room again", func(ctx context.Context) error {
		_, err := c.Accept(ctx, queued(t, "x"))
		return err
	})
	b.left(c, 0) // also those that were left to wait for room
	for _, id := range ids {
		if got, err := c.Find(t.Context(), "acme", id); err == nil && (got.Status != lightcone.InvocationSucceeded || got.Attempts != 1) {
			t.Errorf("%+v", got)
		}
	}
}

func TestWhatIsKeptInTheOtherPlacesIsWeighed(t *testing.T) {
	limits := testLimits
	limits.MaxBytes, limits.Attempts, limits.Keep = 16<<20, 1, 5*time.Second
	for _, test := range []struct {
		what, input string
		run         function
		gone        func(context.Context, *Client, lightcone.CallID) error
	}{
		{"large results", "x", answering(3 << 19), func(ctx context.Context, c *Client, id lightcone.CallID) error {
			if _, err := c.Find(ctx, "acme", id); problem.Of(err).Kind != problem.NotFound {
				return fmt.Errorf("the record is still there: %w", err)
			}
			return nil
		}},
		{"dead letters", strings.Repeat("x", 1<<20), crash, func(ctx context.Context, c *Client, id lightcone.CallID) error { return c.Drop(ctx, id) }},
		{"large inputs", strings.Repeat("x", 3<<19), nil, func(ctx context.Context, c *Client, id lightcone.CallID) error {
			_, err := c.Cancel(ctx, "acme", id)
			return err
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := oneNode(t)
			c := b.connect(limits)
			b.weighed(limits)
			var ids []lightcone.CallID
			for range 5 {
				q := queued(t, test.input)
				if _, err := c.Accept(t.Context(), q); err != nil { // it has been weighed already
					wantKind(t, err, problem.LimitReached)
					break
				}
				ids = append(ids, q.Call.ID)
			}
			if test.run != nil {
				b.work(c, test.run)
			}
			b.refusedForBytes(c, test.what)
			later := b.connect(limits)
			later.protocol.now = func() time.Time { return time.Now().Add(time.Hour) }
			for _, id := range ids {
				eventually(t, "the end of what is kept", func(ctx context.Context) error { return test.gone(ctx, later, id) })
			}
			eventually(t, "room again", func(ctx context.Context) error {
				if _, err := later.Sweep(ctx); err != nil { // of calls that came while it was not refused yet
					return err
				}
				_, err := c.Accept(ctx, queued(t, "x"))
				return err
			})
		})
	}
}

// A tenant that has so much that there might be no room for what its calls come to: they
// wait, as long as they may, and count no attempt.
func TestCallsOfATenantThatIsFarBeyondWait(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		past := b.connect(testLimits)
		past.protocol.now = func() time.Time { return time.Now().Add(-c.limits.MaxAge - time.Minute) }
		mine, old, other, again := queued(t, "x"), queued(t, "old"), queued(t, "x"), queued(t, "x")
		mine.IdempotencyKey, again.IdempotencyKey, other.Call.Tenant = "mine", "mine", "other"
		b.accept(c, mine)
		b.accept(past, old)
		b.accept(c, other)
		w := new(weigher)
		if err := w.say(t.Context(), c, map[lightcone.TenantID]excess{"acme": {Of: "large results", Far: true}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "word of it", func(context.Context) error {
			if c.store.hearFullness(); !c.store.room().beyond["acme"].Far {
				return errors.New("it has not been heard")
			}
			return nil
		})
		if got := b.accept(c, again); got.ID != mine.Call.ID { // it adds nothing
			t.Errorf("%+v", got)
		}
		refused, keys := queued(t, "x"), kept(t, c.js, keysStream)
		refused.IdempotencyKey = "refused"
		_, err := c.Accept(t.Context(), refused)
		wantKind(t, err, problem.LimitReached)
		if now := kept(t, c.js, keysStream); now > keys {
			t.Errorf("a refused call took a key: %d, before %d", now, keys)
		}
		var ran atomic.Int64
		b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			if call.Tenant == "acme" {
				ran.Add(1)
			}
			return echo(ctx, call, answer)
		})
		b.ends(c, other)
		if got := b.until(c, old.Call.ID, lightcone.InvocationDead); got.Attempts != 0 {
			t.Errorf("%+v", got)
		}
		if got := b.until(c, mine.Call.ID, lightcone.InvocationQueued); got.Attempts != 0 || ran.Load() != 0 {
			t.Errorf("%d runs, %+v", ran.Load(), got)
		}
		if err := w.say(t.Context(), c, map[lightcone.TenantID]excess{}); err != nil {
			t.Fatal(err)
		}
		if got := b.until(c, mine.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// ends awaits the good end of anybody's call.
func (b *bed) ends(c *Client, q *functions.Queued) {
	b.t.Helper()
	eventually(b.t, "a call's good end", func(ctx context.Context) error {
		got, err := c.Await(ctx, q.Call.Tenant, q.Call.ID)
		if err == nil && got.Status != lightcone.InvocationSucceeded {
			err = fmt.Errorf("it is %s", got.Status)
		}
		return err
	})
}

// TestNoByteIsForgottenTooEarly: a tenant has what came within the time, and at most what
// came a slot before it.
func TestNoByteIsForgottenTooEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := weights{lasts: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "lasts"))}
		type message struct {
			tenant lightcone.TenantID
			bytes  int64
			came   time.Time
		}
		var all []message
		now := epoch
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(w.lasts)/3).Draw(t, "passes")))
			m := message{rapid.SampledFrom([]lightcone.TenantID{"a", "b"}).Draw(t, "tenant"), rapid.Int64Range(1, 1<<20).Draw(t, "bytes"), now}
			all = append(all, m)
			w.add(m.tenant, m.bytes, m.came)
			kept := w.kept(now)
			for _, tenant := range []lightcone.TenantID{"a", "b"} {
				var least, most int64
				for _, m := range all {
					if m.tenant != tenant {
						continue
					}
					if now.Sub(m.came) <= w.lasts {
						least += m.bytes
					}
					if now.Sub(m.came) <= w.lasts+w.lasts/keptSlots+1 {
						most += m.bytes
					}
				}
				if kept[tenant] < least || kept[tenant] > most {
					t.Fatalf("%s has %d, want %d to %d", tenant, kept[tenant], least, most)
				}
			}
		}
	})
}
