package queue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
	"lightcone/functions"
)

// A gateway that is killed between the quorum's answer and its own leaves a call that
// runs, and nothing else.
func TestACallWhoseGatewayIsKilledRuns(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	q := queued(t, "x")
	j := job{ID: q.Call.ID, Tenant: "acme", Function: "echo", CreatedAt: time.Now(), QueuedAt: time.Now(), Timeout: q.Timeout, InputBytes: 1}
	if _, err := c.store.enqueue(t.Context(), &j, q.Call.Body); err != nil {
		t.Fatal(err)
	}
	b.work(c, echo)
	if got := b.until(c, q.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}

// A gateway that is killed after it has taken the key, or after it has queued the call
// without its record, is no obstacle to the repetition.
func TestARepetitionTakesUpWhatAKilledGatewayLeft(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	for _, alsoQueued := range []bool{false, true} {
		first := queued(t, "x")
		first.IdempotencyKey = first.Call.ID.String()
		now := time.Now()
		j := job{
			ID: first.Call.ID, Tenant: "acme", Function: "echo", CreatedAt: now, QueuedAt: now, Timeout: first.Timeout,
			Query: first.Call.Query, ContentType: first.Call.ContentType, InputBytes: 1,
		}
		if _, known, err := c.claim(t.Context(), &j, first, nil); err != nil || known != nil {
			t.Fatalf("%+v, %v", known, err)
		}
		if alsoQueued {
			if _, err := c.store.enqueue(t.Context(), &j, first.Call.Body); err != nil {
				t.Fatal(err)
			}
		}
		again := queued(t, "x")
		again.IdempotencyKey = first.IdempotencyKey
		if got := b.accept(c, again); got.ID != first.Call.ID || got.Status != lightcone.InvocationQueued {
			t.Errorf("queued before %t: %+v", alsoQueued, got)
		}
	}
	if n := kept(t, c.js, workStream); n != 2 {
		t.Errorf("%d work messages of 2 calls", n)
	}
}

// A call that was refused keeps its key; when it is repeated after hours it is as young
// as if it came for the first time, and is run.
func TestARepetitionAfterHoursIsRun(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	first := queued(t, "x")
	first.IdempotencyKey = first.Call.ID.String()
	long := time.Now().Add(-c.limits.MaxAge - time.Hour)
	j := job{ID: first.Call.ID, Tenant: "acme", Function: "echo", CreatedAt: long, Query: first.Call.Query, ContentType: first.Call.ContentType}
	if _, known, err := c.claim(t.Context(), &j, first, nil); err != nil || known != nil {
		t.Fatalf("%+v, %v", known, err)
	}
	again := queued(t, "x")
	again.IdempotencyKey = first.IdempotencyKey
	if got := b.accept(c, again); got.ID != first.Call.ID || !got.CreatedAt.Equal(long) {
		t.Errorf("%+v", got)
	}
	b.work(c, echo)
	b.until(c, first.Call.ID, lightcone.InvocationSucceeded)
}

// A worker that was silent for so long that another took its call has nothing to gain
// from going on: what it comes to would not be stored.
func TestAnAttemptThatAnotherHasTakenOverIsKilled(t *testing.T) {
	limits := testLimits
	limits.Silence = 1500 * time.Millisecond
	b := oneNode(t)
	c := b.connect(limits)
	q := queued(t, "x")
	b.accept(c, q)
	running, killed := make(chan struct{}, 8), make(chan struct{}, 8)
	b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		running <- struct{}{}
		if len(killed) > 0 {
			return echo(ctx, call, answer)
		}
		<-ctx.Done()
		killed <- struct{}{}
		return ctx.Err()
	})
	<-running
	found, err := c.ledger.readNow(t.Context(), "acme", q.Call.ID)
	if err != nil {
		t.Fatal(err)
	}
	after, next := take(found.record, &job{ID: q.Call.ID, Tenant: "acme", Function: "echo"}, time.Now(), c.limits)
	if next != stepRun {
		t.Fatal(next)
	}
	if _, err := c.protocol.write(t.Context(), &after, nil, found.sequence); err != nil { // the other, which is lost in turn
		t.Fatal(err)
	}
	select {
	case <-killed:
		killed <- struct{}{}
	case <-time.After(10 * time.Second): // the call's own time is twice that
		t.Fatal("the first attempt goes on")
	}
	if got := b.until(c, q.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 3 {
		t.Errorf("%+v", got)
	}
}

// The nodes' operator may have had to begin with empty disks; workers that are there
// already go on.
func TestLanesThatAreLostAreMadeAgain(t *testing.T) {
	drawn := lanesOf("echo", "acme")
	for name, lost := range map[string][]int{"all": {0, 1, 2, 3, 4, 5, 6, 7}, "some": drawn[:]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := oneNode(t)
			c := b.connect(testLimits)
			b.work(c, echo)
			first, second := queued(t, "x"), queued(t, "x")
			b.accept(c, first)
			b.until(c, first.Call.ID, lightcone.InvocationSucceeded)
			for _, lane := range lost {
				if err := c.js.DeleteConsumer(t.Context(), workStream, laneName("echo", lane)); err != nil {
					t.Fatal(err)
				}
			}
			b.accept(c, second)
			b.until(c, second.Call.ID, lightcone.InvocationSucceeded)
		})
	}
}

// Lanes that nobody asks for calls are removed, and lose none: of a function that was taken
// away, and has calls, or none.
func TestLanesWithoutWorkersAreRemovedAndLoseNoCall(t *testing.T) {
	short, long := testLimits, testLimits
	short.MaxAge, short.Silence = 500*time.Millisecond, time.Second // so that a lane is idle after two seconds
	long.MaxAge = 1500 * time.Millisecond                           // and with this one after six
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		brief := b.connect(short)
		stop := b.workAs(b.connect(long), WorkConfig{Function: "resize", AtOnce: 1, Room: func() bool { return true }, Run: echo})
		for lane := range Lanes { // as clients of earlier versions made them
			_, err := c.js.CreateOrUpdateConsumer(t.Context(), workStream, jetstream.ConsumerConfig{
				Durable: laneName("echo", lane), FilterSubject: workSubject("echo", lane, "*"), AckPolicy: jetstream.AckExplicitPolicy,
				AckWait: brief.limits.Silence, MaxDeliver: -1, MaxAckPending: brief.limits.TenantShare + 1000,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		var ids []lightcone.CallID
		for range 10 {
			q := queued(t, "x")
			b.accept(c, q)
			ids = append(ids, q.Call.ID)
		}
		inbox := c.nc.NewInbox()
		pulled, err := c.nc.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		for _, lane := range lanesOf("echo", "acme") { // one of each is in the hands of somebody who is lost
			if m, err := c.pullOne(t.Context(), waitingLane{function: "echo", lane: lane}, inbox, pulled); m == nil || err != nil {
				t.Fatal(m, err)
			}
		}
		if !brief.makeLanes(t.Context(), "echo") {
			t.Fatal("the lanes could not be made")
		}
		began := time.Now()
		lanes := func(function lightcone.FunctionName) (n int) {
			for lane := range Lanes {
				_, err := c.js.Consumer(t.Context(), workStream, laneName(function, lane))
				switch {
				case err == nil:
					n++
				case !errors.Is(err, jetstream.ErrConsumerNotFound):
					t.Fatal(err)
				}
			}
			return n
		}
		eventually(t, "the end of the lanes", func(context.Context) error {
			if n := lanes("echo"); n > 0 {
				return fmt.Errorf("%d are left", n)
			}
			return nil
		})
		eventually(t, "when lanes that nobody asks would be gone", func(context.Context) error {
			if age := time.Since(began); age < 3*laneIdles(long)/2 {
				return fmt.Errorf("they are %v old", age)
			}
			return nil
		})
		if n := lanes("resize"); n != Lanes {
			t.Errorf("of a function with an idle worker %d lanes are left", n)
		}
		stop()
		if all, err := c.Backlogs(t.Context()); err != nil || len(all) != 1 || all[0].Waiting != len(ids) || all[0].Running != 0 || all[0].Oldest <= 0 {
			t.Errorf("%+v, %v", all, err)
		}
		b.work(c, echo)
		for _, id := range ids {
			if got := b.until(c, id, lightcone.InvocationSucceeded); got.Attempts != 1 {
				t.Errorf("%+v", got)
			}
		}
	})
}
