package bulk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Policy is how patient a share is with the platform and the storage. The wait
// after attempt n is drawn evenly from zero to Base x 2^(n-1), at most Cap ("full
// jitter", Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
// 2015).
type Policy struct {
	Attempts int           // for one step of one object, the first included; at least 1
	Base     time.Duration // the first wait's upper end
	Cap      time.Duration // every wait's upper end
}

// DefaultPolicy outlives a hiccup of ten seconds: its waits add up to 11
// seconds in the mean and 23 at most.
var DefaultPolicy = Policy{Attempts: 8, Base: 200 * time.Millisecond, Cap: 10 * time.Second}

// Validate names the first field that cannot be used.
func (p Policy) Validate() error {
	if p.Attempts < 1 || p.Base <= 0 || p.Cap < p.Base {
		return fmt.Errorf("retry policy %+v: want at least one attempt, and 0 < base <= cap", p)
	}
	return nil
}

// after is the wait after a failed attempt with the given number (from 1), and
// whether there is to be another. random is from [0, 1).
func (p Policy) after(attempt int, random float64) (wait time.Duration, again bool) {
	ceiling := p.Cap
	if shift := attempt - 1; shift < 32 && p.Base<<shift < p.Cap {
		ceiling = p.Base << shift
	}
	return time.Duration(random * float64(ceiling)), attempt < p.Attempts
}

// The budget: a fifth of the objects may cost one more attempt, beyond a start
// that outlasts a short trouble of all objects in flight. (The idea is Finagle's
// RetryBudget.)
const (
	budgetShare   = 0.2
	budgetReserve = 100.0
)

// budget bounds the retries of a share, so that a store or machine in trouble is
// not called eight times as often as a healthy one.
type budget struct {
	mu     sync.Mutex
	tokens float64
}

func newBudget() *budget { return &budget{tokens: budgetReserve} }

// deposit notes an object, and what may be retried on its account.
func (b *budget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetShare, budgetReserve)
}

// withdraw takes one retry, and says whether it was there.
func (b *budget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// patience tries things again, within the policy and the budget.
type patience struct {
	policy Policy
	budget *budget
}

// try runs act until it says that there is no point in another attempt, ctx ends,
// or patience does; the error is act's last one.
func (p patience) try(ctx context.Context, act func() (again bool, err error)) error {
	for attempt := 1; ; attempt++ {
		again, err := act()
		if !again || ctx.Err() != nil {
			return err
		}
		wait, more := p.policy.after(attempt, rand.Float64())
		if !more || !p.budget.withdraw() || !pause(ctx, wait) {
			return err
		}
	}
}

// pause waits, and says whether ctx let it.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
