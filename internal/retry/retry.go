// Package retry holds what every retry in Lightcone is made of: how long to wait,
// a wait that a context ends, and a budget that keeps retries from becoming the
// load that nobody gets up from.
//
// Invariants: BackOff is pure; a Pause does not outlive its context; a Budget
// never grants more retries than its deposits and its start allow.
//
// It does not decide what may be tried again, nor how often: whoever knows what a
// failure means does.
package retry

import (
	"context"
	"sync"
	"time"
)

// BackOff is the wait after so many failures in a row (1 or more): drawn evenly
// from zero to base x 2^(failures-1), at most most. random is in [0, 1). It is "full
// jitter" (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
// 2015).
func BackOff(failures int, base, most time.Duration, random float64) time.Duration {
	ceiling := most
	if doublings := max(failures-1, 0); doublings < 63 && base <= most>>doublings {
		ceiling = base << doublings
	}
	return time.Duration(random * float64(ceiling))
}

// Pause waits for d, or until ctx ends, and returns ctx's error: nil means that
// there is reason to go on.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Budget bounds the retries of many calls together to a share of the calls: a
// token bucket into which each call pays a part of a token, and from which each
// retry takes one (the idea is Finagle's RetryBudget). Make it with NewBudget. It
// is safe for concurrent use.
type Budget struct {
	share, most float64

	mu     sync.Mutex
	tokens float64
}

// NewBudget is a budget that grants share retries for each call, start of them
// before the first call, and never more than most at once.
func NewBudget(share, start, most float64) *Budget {
	return &Budget{share: share, most: most, tokens: start}
}

// Deposit notes a new call, and what may be retried on its account.
func (b *Budget) Deposit() {
	b.mu.Lock()
	b.tokens = min(b.tokens+b.share, b.most)
	b.mu.Unlock()
}

// Withdraw takes one retry from the budget, and says whether it was there.
func (b *Budget) Withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
