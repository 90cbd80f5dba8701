package queue

import (
	"testing"
	"time"

	"lightcone"
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
		if _, known, err := c.claim(t.Context(), &j, first); err != nil || known != nil {
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
