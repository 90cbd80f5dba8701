package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// What is kept of calls that have ended fills up: calls are refused before one that was
// accepted has no room for its end, and those that wait go on waiting.
func TestNoCallIsRunThatThereIsNoRoomForTheEndOf(t *testing.T) {
	limits := testLimits
	limits.MaxBytes = 8 << 20
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		var ids []lightcone.CallID
		for range 200 { // whose results are longer than what there is room for
			q := queued(t, "x")
			b.accept(c, q)
			ids = append(ids, q.Call.ID)
		}
		b.workAs(c, WorkConfig{Function: "echo", AtOnce: 1, Room: func() bool { return true }, Run: func(_ context.Context, _ *functions.Call, answer *functions.Answer) error {
			c.store.hearFullness()
			answer.Status, answer.Body = 200, []byte(strings.Repeat("x", 64<<10))
			return nil
		}})
		eventually(t, "a queue that is full", func(context.Context) error {
			if c.store.hearFullness(); c.store.room().filled < runBelow {
				return errors.New("it is not")
			}
			return nil
		})
		_, err := c.Accept(t.Context(), queued(t, "x"))
		if full := wantKind(t, err, problem.Overloaded); full.RetryAfter <= 0 || !strings.Contains(full.Detail, "full") {
			t.Errorf("%+v", full)
		}
		left := make(map[lightcone.InvocationStatus]int)
		for _, id := range ids {
			got, err := c.Find(t.Context(), "acme", id)
			if err != nil {
				t.Fatal(err)
			}
			if left[got.Status]++; got.Attempts > 1 {
				t.Errorf("%+v", got)
			}
		}
		if left[lightcone.InvocationSucceeded] == 0 || left[lightcone.InvocationQueued] == 0 || left[lightcone.InvocationDead] > 0 {
			t.Errorf("%v", left)
		}
		if got, err := c.Cancel(t.Context(), "acme", ids[len(ids)-1]); err != nil || got.Status != lightcone.InvocationCancelled {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// A result that cannot be kept is a failed attempt, and who asks is told why.
func TestAResultThatThereIsNoRoomForIsAFailedAttempt(t *testing.T) {
	limits := testLimits
	limits.MaxBytes, limits.Attempts = 4<<20, 2
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		b.work(c, func(_ context.Context, _ *functions.Call, answer *functions.Answer) error {
			answer.Status, answer.Body = 200, []byte(strings.Repeat("x", MostInline+MostInline/2))
			return nil
		})
		for _, want := range []lightcone.InvocationStatus{lightcone.InvocationSucceeded, lightcone.InvocationSucceeded, lightcone.InvocationDead} {
			q := queued(t, "x")
			b.accept(c, q)
			if got := b.until(c, q.Call.ID, want); want == lightcone.InvocationDead && !strings.Contains(got.Error, "large inputs and results is full") {
				t.Errorf("%+v", got)
			}
		}
	})
}

// Who asks rarely, or in vain, must not go by what was said hours ago.
func TestWordOfWhoHasTooMuchIsVoidWhenItIsOld(t *testing.T) {
	var f fullness
	far := func(at time.Duration) bool {
		heard, _ := f.last(epoch.Add(at))
		return heard.beyond["acme"].Far
	}
	f.hear(room{filled: 0.5, beyond: map[lightcone.TenantID]excess{"acme": {Of: "large results", Far: true}}}, nil, epoch)
	if !far(0) || !far(beyondStays) {
		t.Error("it is void at once")
	}
	f.hear(room{}, errors.New("nobody answers"), epoch.Add(beyondStays))
	if far(beyondStays + 1) {
		t.Error("it still holds")
	}
	if heard, stale := f.last(epoch.Add(3 * beyondStays)); heard.filled != 0.5 || !stale {
		t.Errorf("%+v, stale %t", heard, stale)
	}
	f.hear(room{beyond: map[lightcone.TenantID]excess{"acme": {Of: "large results", Far: true}}}, nil, epoch.Add(3*beyondStays))
	if !far(4 * beyondStays) {
		t.Error("what was said again is void")
	}
}
