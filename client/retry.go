package client

import (
	"errors"
	"net/http"
	"time"

	"lightcone/internal/retry"
)

// Policy is how patient a Client is. Wait n is drawn evenly from zero to
// Base x 2^n, at most Cap ("full jitter", Marc Brooker, "Exponential Backoff And
// Jitter", AWS Architecture Blog, 2015), and never less than a Retry-After.
type Policy struct {
	Attempts   int           // for one call, the first included
	Base       time.Duration // the first wait's upper end
	Cap        time.Duration // every wait's upper end
	LongestAsk time.Duration // a Retry-After above this is not waited for: the caller is told instead
}

// DefaultPolicy is for a job that should outlive a restart of Lightcone: its
// waits add up to 18 seconds in the mean and 37 at most.
var DefaultPolicy = Policy{Attempts: 10, Base: 200 * time.Millisecond, Cap: 8 * time.Second, LongestAsk: 30 * time.Second}

// Verdict is what to do about a failed attempt.
type Verdict struct {
	Retry   bool
	Wait    time.Duration // before the next attempt
	Hold    bool          // other requests of the same kind should wait, too
	HoldAll bool          // requests of every kind should
	Crowded bool          // fewer calls at once would have been accepted
	Charged bool          // the retry is paid from the budget
}

// Decide says what to do after the attempt with the given number (from 1)
// failed with err. The number random is from [0, 1).
//
// Only what cannot be the function's own answer is retried: a refused
// connection, a lost one, 429 and 503. Two of them are not charged to the
// budget, which is there to spare a server in trouble: a 429 is the caller's own
// limit, and a refused connection reached nobody.
//
// Too many calls at once is no question of time: the next one may be sent when one of
// those is answered, which is sooner than the whole seconds of a Retry-After.
func (p Policy) Decide(err error, attempt int, random float64) Verdict {
	verdict := Verdict{Wait: p.backOff(attempt, random), Charged: true}
	var refusal *Refusal
	var unreachable *Unreachable
	var lost *Lost
	switch {
	case errors.As(err, &refusal):
		if refusal.Status != http.StatusTooManyRequests && refusal.Status != http.StatusServiceUnavailable {
			return Verdict{}
		}
		verdict.Charged = refusal.Status != http.StatusTooManyRequests
		if refusal.RetryAfter > p.LongestAsk {
			return Verdict{}
		}
		if refusal.Quota == concurrentCalls {
			verdict.Crowded = true
			break
		}
		verdict.Hold = refusal.RetryAfter > 0
		verdict.Wait += refusal.RetryAfter
	case errors.As(err, &unreachable):
		verdict.Charged = false
		verdict.HoldAll = true
	case errors.As(err, &lost):
	default:
		return Verdict{}
	}
	verdict.Retry = attempt < p.Attempts
	return verdict
}

// backOff is the random wait after attempt n.
func (p Policy) backOff(n int, random float64) time.Duration {
	return retry.BackOff(n, p.Base, p.Cap, random)
}

// A fifth of the calls may be sent once more, and a start of budgetReserve retries
// lets a small job survive a restart.
const (
	budgetShare   = 0.2
	budgetReserve = 50.0
)

// NewBudget bounds the retries of all calls together to a share of the calls.
func NewBudget() *retry.Budget { return retry.NewBudget(budgetShare, budgetReserve, budgetReserve) }
