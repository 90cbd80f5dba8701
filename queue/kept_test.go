package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	limits.Keep, limits.KeptShare = 25*time.Second, 0.05 // 4.8 MiB, and so much more before calls are not run
	b := threeNodes(t)
	c := b.connect(limits)
	b.weighed(limits)
	var ids []lightcone.CallID
	for range 25 { // 20 of them come to more than that, and all to less than twice that
		q := queued(t, "much")
		b.accept(c, q)
		ids = append(ids, q.Call.ID)
	}
	b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		if string(call.Body) == "much" {
			return answering(256<<10)(ctx, call, answer)
		}
		return echo(ctx, call, answer)
	})
	b.refusedForBytes(c, "results")
	other := queued(t, "x")
	other.Call.Tenant = "other"
	b.accept(c, other)
	b.ends(c, other)
	b.left(c, 0)
	for _, id := range ids {
		if got, err := c.Find(t.Context(), "acme", id); err == nil && (got.Status != lightcone.InvocationSucceeded || got.Attempts != 1) {
			t.Errorf("%+v", got)
		}
	}
	eventually(t, "room again", func(ctx context.Context) error {
		_, err := c.Accept(ctx, queued(t, "x"))
		return err
	})
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

// neighbour is another tenant whose calls of echo go to the lanes of acme's.
func neighbour() lightcone.TenantID {
	for n := 0; ; n++ {
		tenant := lightcone.TenantID(fmt.Sprintf("other%d", n))
		mine, its := lanesOf("echo", "acme"), lanesOf("echo", tenant)
		if slices.Sort(mine[:]); slices.Contains(mine[:], its[0]) && slices.Contains(mine[:], its[1]) {
			return tenant
		}
	}
}

// A tenant that has so much that there might be no room for what its calls come to: they
// end, are not run, cost nothing, and are not in the way of another's.
func TestCallsOfATenantThatIsFarBeyondEndUnrun(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		var mine []*functions.Queued
		for n := range 20 {
			q := queued(t, "x")
			q.IdempotencyKey, q.Callback = fmt.Sprintf("mine-%d", n), "https://acme/ended"
			b.accept(c, q)
			mine = append(mine, q)
		}
		behind := queued(t, "x")
		behind.Call.Tenant = neighbour()
		b.accept(c, behind)
		w := new(weigher)
		word := func(all map[lightcone.TenantID]excess) {
			if err := w.say(t.Context(), c, all); err != nil {
				t.Fatal(err)
			}
			eventually(t, "word of it", func(context.Context) error {
				if c.store.hearFullness(); !maps.Equal(c.store.room().beyond, all) {
					return errors.New("it has not been heard")
				}
				return nil
			})
		}
		word(map[lightcone.TenantID]excess{"acme": {Of: "large results", Far: true}})
		again := queued(t, "x")
		again.IdempotencyKey, again.Callback = mine[0].IdempotencyKey, mine[0].Callback
		if got := b.accept(c, again); got.ID != mine[0].Call.ID { // it adds nothing
			t.Errorf("%+v", got)
		}
		refused, keys := queued(t, "x"), kept(t, c.js, keysStream)
		refused.IdempotencyKey = "refused"
		_, err := c.Accept(t.Context(), refused)
		wantKind(t, err, problem.LimitReached)
		if now := kept(t, c.js, keysStream); now > keys {
			t.Errorf("a refused call took a key: %d, before %d", now, keys)
		}
		var ran, billed atomic.Int64 // of acme
		b.workAs(c, WorkConfig{
			Function: "echo", AtOnce: 1, Room: func() bool { return true },
			Run: func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
				if call.Tenant == "acme" {
					ran.Add(1)
				}
				return echo(ctx, call, answer)
			},
			Ended: func(used *lightcone.UsageRecord) error {
				if used.Tenant == "acme" {
					billed.Add(1)
				}
				return nil
			},
		})
		b.ends(c, behind)
		for _, q := range mine {
			if got := b.until(c, q.Call.ID, lightcone.InvocationFailed); got.Attempts != 0 || !strings.Contains(got.Error, "large results") {
				t.Errorf("%+v", got)
			}
			got, err := c.Result(t.Context(), "acme", q.Call.ID)
			if err != nil || got.Problem != problem.LimitReached || got.Status != 0 || !strings.Contains(string(got.Body), "sent again") {
				t.Errorf("%+v, %v", got, err)
			}
		}
		b.left(c, 0)
		if letters, told := kept(t, c.js, deadStream), kept(t, c.js, callbacksStream); letters > 0 || told != uint64(len(mine)) || ran.Load() > 0 || billed.Load() > 0 {
			t.Errorf("%d dead letters, %d callbacks, %d runs, %d billed", letters, told, ran.Load(), billed.Load())
		}
		word(map[lightcone.TenantID]excess{})
		later := queued(t, "x")
		b.accept(c, later)
		if got := b.until(c, later.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// What comes again goes before what is new: a call whose dead letter there is no room for
// must not come again at once.
func TestACallThatThereIsNoRoomToBuryRestsForLong(t *testing.T) {
	limits := testLimits
	limits.MaxBytes, limits.Attempts = 4<<20, 1
	b := oneNode(t)
	c := b.connect(limits)
	body, filling := make([]byte, 1<<18), true
	for n := 0; filling && n < 100; n++ {
		_, err := c.store.bury(t.Context(), &letter{Job: job{ID: queued(t, "").Call.ID, Tenant: "other"}}, body)
		if filling = err == nil; !filling && !errors.Is(err, errFull) {
			t.Fatal(err)
		}
	}
	old := &job{ID: queued(t, "").Call.ID, Tenant: "acme", Function: "echo", QueuedAt: time.Now().Add(-c.limits.MaxAge - time.Hour)}
	err := (&attempt{protocol: c.protocol, job: old, input: body}).process(t.Context())
	if got := restOf(err, c.limits); err == nil || got != c.limits.BackOffMost {
		t.Errorf("it rests for %v after %v", got, err)
	}
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
