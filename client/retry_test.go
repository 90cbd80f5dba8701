package client

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	policy := Policy{Attempts: 3, Base: 100 * time.Millisecond, Cap: 300 * time.Millisecond, LongestAsk: 10 * time.Second}
	busy := func(status int, after time.Duration) error { return &Refusal{Status: status, RetryAfter: after} }
	crowded := func(after time.Duration) error {
		return &Refusal{Status: 429, Quota: concurrentCalls, RetryAfter: after}
	}
	for _, test := range []struct {
		name    string
		err     error
		attempt int
		random  float64
		want    Verdict
	}{
		{"shed", busy(503, 0), 1, 0.5, Verdict{Retry: true, Wait: 50 * time.Millisecond, Charged: true}},
		{"shed, and told when to come back", busy(503, time.Second), 1, 0.5, Verdict{Retry: true, Wait: 1050 * time.Millisecond, Charged: true, Hold: true}},
		{"the wait doubles", busy(503, 0), 2, 0.5, Verdict{Retry: true, Wait: 100 * time.Millisecond, Charged: true}},
		{"no attempt is left, others still hold back", busy(503, time.Second), 3, 0.5, Verdict{Wait: 1150 * time.Millisecond, Charged: true, Hold: true}},
		{"the caller's own limit is not charged", busy(429, time.Second), 1, 0, Verdict{Retry: true, Wait: time.Second, Hold: true}},
		{"too many calls at once", crowded(time.Second), 1, 0.5, Verdict{Retry: true, Wait: 50 * time.Millisecond, Crowded: true}},
		{"no calls at all are allowed", crowded(24 * time.Hour), 1, 0.5, Verdict{}},
		{"a quota that comes back next month", busy(429, 720*time.Hour), 1, 0.5, Verdict{}},
		{"refused connection", &Unreachable{Err: syscall.ECONNREFUSED}, 1, 0.5, Verdict{Retry: true, Wait: 50 * time.Millisecond, HoldAll: true}},
		{"lost connection", fmt.Errorf("call: %w", &Lost{Err: syscall.ECONNRESET}), 1, 0.5, Verdict{Retry: true, Wait: 50 * time.Millisecond, Charged: true}},
		{"the function's own answer", busy(422, 0), 1, 0.5, Verdict{}},
		{"crashed functions crash again", busy(502, 0), 1, 0.5, Verdict{}},
		{"the deadline", busy(504, 0), 1, 0.5, Verdict{}},
		{"no time left", context.DeadlineExceeded, 1, 0.5, Verdict{}},
		{"the disk is full", errors.New("no space left"), 1, 0.5, Verdict{}},
	} {
		if diff := cmp.Diff(test.want, policy.Decide(test.err, test.attempt, test.random)); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
	}
}

func TestWaitsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attempt := rapid.IntRange(1, 10_000).Draw(t, "attempt")
		random := rapid.Float64Range(0, 1).Draw(t, "random")
		asked := rapid.Int64Range(0, int64(time.Minute)).Draw(t, "asked")
		verdict := DefaultPolicy.Decide(&Refusal{Status: 503, RetryAfter: time.Duration(asked)}, attempt, random)
		if verdict.Retry && verdict.Wait < time.Duration(asked) {
			t.Fatalf("waits %v, asked to wait %v", verdict.Wait, time.Duration(asked))
		}
		if most := DefaultPolicy.LongestAsk + DefaultPolicy.Cap; verdict.Wait > most || verdict.Wait < 0 {
			t.Fatalf("waits %v, want at most %v", verdict.Wait, most)
		}
		if verdict.Retry && attempt >= DefaultPolicy.Attempts {
			t.Fatalf("retries after attempt %d of %d", attempt, DefaultPolicy.Attempts)
		}
	})
}

func TestBudgetBoundsRetriesToAShareOfTheCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := NewBudget()
		calls, retries := 0, 0
		for range rapid.IntRange(0, 2000).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "a call") {
				budget.Deposit()
				calls++
			} else if budget.Withdraw() {
				retries++
			}
		}
		if most := budgetReserve + budgetShare*float64(calls) + 1e-6; float64(retries) > most {
			t.Fatalf("%d retries for %d calls, want at most %.1f", retries, calls, most)
		}
	})
}

func TestBudgetRunsDryAndFillsAgain(t *testing.T) {
	budget := NewBudget()
	for i := range int(budgetReserve) {
		if !budget.Withdraw() {
			t.Fatalf("the reserve was gone after %d retries, want %v", i, budgetReserve)
		}
	}
	if budget.Withdraw() {
		t.Fatal("an empty budget gave a retry")
	}
	for range 6 { // a fifth each; one more than five, for what floating point rounds away
		budget.Deposit()
	}
	if !budget.Withdraw() {
		t.Error("six calls did not pay for one retry")
	}
}
