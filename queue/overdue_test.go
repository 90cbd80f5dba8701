package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/internal/problem"
)

// tended lets c look for overdue calls, often, until the test ends.
func (b *bed) tended(c *Client) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.tend(ctx, time.Hour, 50*time.Millisecond)
	}()
	b.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// left waits until there are so many work messages.
func (b *bed) left(c *Client, want uint64) {
	b.t.Helper()
	eventually(b.t, "the work messages", func(context.Context) error {
		if got := kept(b.t, c.js, workStream); got != want {
			return fmt.Errorf("%d, want %d", got, want)
		}
		return nil
	})
}

func TestCallsThatNobodyWorksOnEnd(t *testing.T) {
	limits := testLimits
	limits.TenantShare = 4 // two in each of the tenant's lanes
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		past := b.connect(limits) // so that what it accepts has waited for long
		past.protocol.now = func() time.Time { return time.Now().Add(-c.limits.MaxAge - time.Minute) }
		var old []lightcone.CallID
		for range 3 {
			q := queued(t, "old")
			q.Callback = "https://caller.example/"
			b.accept(past, q)
			old = append(old, q.Call.ID)
		}
		young := queued(t, "young") // whichever lane it has, an old one is before it
		b.accept(c, young)
		next := queued(t, "next")
		_, err := c.Accept(t.Context(), next)
		wantKind(t, err, problem.LimitReached)

		b.tended(c)
		for _, id := range old {
			dead := b.until(c, id, lightcone.InvocationDead)
			if dead.Attempts != 0 || !strings.Contains(dead.Error, "not done within 6h0m0s") {
				t.Errorf("%+v", dead)
			}
			if letter, err := c.DeadLetter(t.Context(), id); err != nil || string(letter.Input) != "old" || letter.Invocation.Error != dead.Error {
				t.Errorf("%+v, %v", letter, err)
			}
		}
		b.left(c, 1)
		if news := kept(t, c.js, callbacksStream); news != 3 {
			t.Errorf("%d callbacks of 3 calls", news)
		}
		b.accept(c, next) // the share is free
		if got := b.until(c, young.Call.ID, lightcone.InvocationQueued); got.Attempts != 0 {
			t.Errorf("%+v", got)
		}
		b.work(c, echo)
		for _, id := range []lightcone.CallID{young.Call.ID, next.Call.ID} {
			if got := b.until(c, id, lightcone.InvocationSucceeded); got.Attempts != 1 {
				t.Errorf("%+v", got)
			}
		}
	})
}

func TestAMessageThatCannotBeReadHidesNoOverdueCall(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	for _, lane := range lanesOf("echo", "acme") {
		m := &nats.Msg{Subject: workSubject("echo", lane, "acme"), Header: nats.Header{headHeader: {"of another time"}}}
		if _, err := c.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	q := queued(t, "x")
	b.accept(c, q)
	later := b.connect(testLimits)
	later.protocol.now = func() time.Time { return time.Now().Add(c.limits.MaxAge + time.Minute) }
	b.tended(later)
	b.until(c, q.Call.ID, lightcone.InvocationDead)
	b.left(c, LanesPerTenant) // they are not thrown away
}

// A call that has been run owes something: it ends like any other, and its message is
// left for a worker, because nobody else can tell.
func TestWhatAnOverdueCallSpentIsLeftForAWorkerToTell(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1000 // they are not what ends it
	b := oneNode(t)
	c := b.connect(limits)
	limits.MaxAge = 3 * time.Second
	later := b.connect(limits)
	later.protocol.now = func() time.Time { return time.Now().Add(time.Hour) }
	q := queued(t, "x")
	b.accept(c, q)
	stop := b.billed(c, new(bill), crash)
	eventually(t, "an attempt that is over", func(ctx context.Context) error {
		found, err := c.ledger.readNow(ctx, "acme", q.Call.ID)
		if err == nil && (found.record == nil || found.record.Spent == nil) {
			err = fmt.Errorf("%+v", found.record)
		}
		return err
	})
	stop()
	eventually(t, "the end", func(ctx context.Context) error { // the message may be in its back-off
		if _, err := later.buryOverdue(ctx); err != nil {
			return err
		}
		found, err := c.Find(ctx, "acme", q.Call.ID)
		if err == nil && found.Status != lightcone.InvocationDead {
			err = fmt.Errorf("%+v", found)
		}
		return err
	})
	if n := kept(t, c.js, workStream); n != 1 {
		t.Errorf("%d work messages", n)
	}
	var told bill
	b.billed(c, &told, echo)
	b.emptied(c)
	if got := told.records(); len(got) != 1 || got[0].Call != q.Call.ID || got[0].Outcome != lightcone.OutcomeFailed {
		t.Errorf("%+v", got)
	}
}

// TestEveryOverdueLaneIsLookedInto: none that is due is left out or gets less than another.
func TestEveryOverdueLaneIsLookedInto(t *testing.T) {
	limits := Limits{}.withDefaults()
	rapid.Check(t, func(t *rapid.T) {
		var lanes []waitingLane
		want := 0
		for i := range rapid.IntRange(0, 1500).Draw(t, "lanes") {
			age := rapid.SampledFrom([]time.Duration{0, limits.MaxAge, limits.MaxAge + 1, 2 * limits.MaxAge}).Draw(t, "age")
			if age > limits.MaxAge {
				want++
			}
			lanes = append(lanes, waitingLane{lightcone.FunctionName(fmt.Sprint("f", i/Lanes)), i % Lanes, epoch.Add(-age)})
		}
		due, each := overdue(lanes, epoch, limits)
		if len(due) != want || each < 1 || len(due)*each > max(buryMost, len(due)) {
			t.Fatalf("%d lanes of %d, %d calls of each", len(due), want, each)
		}
		if !slices.IsSortedFunc(due, func(a, b waitingLane) int { return a.oldest.Compare(b.oldest) }) {
			t.Fatal("the oldest are not the first")
		}
	})
}
