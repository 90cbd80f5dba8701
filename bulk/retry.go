package bulk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"lightcone/internal/retry"
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
	return retry.BackOff(attempt, p.Base, p.Cap, random), attempt < p.Attempts
}

// A fifth of the objects may cost one more attempt, beyond a start that outlasts a
// short trouble of all objects in flight: a store or machine in trouble is not called
// eight times as often as a healthy one.
const (
	budgetShare   = 0.2
	budgetReserve = 100.0
)

func newBudget() *retry.Budget { return retry.NewBudget(budgetShare, budgetReserve, budgetReserve) }

// patience tries things again, within the policy and the budget.
type patience struct {
	policy Policy
	budget *retry.Budget
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
		if !more || !p.budget.Withdraw() || retry.Pause(ctx, wait) != nil {
			return err
		}
	}
}
