package admission

import (
	"fmt"
	"math/bits"
	"time"
)

// Outcome is what became of an admitted call, as far as the breaker cares.
type Outcome uint8

// The outcomes, in the order of what they cost. A function that answers with an error of
// its own has answered.
const (
	Untold   Outcome = iota // it was not run, or nobody knows what came of it
	Answered                // the function answered
	Stopped                 // its deadline passed while the function worked on it, and the process was stopped
	Crashed                 // the function's process died of it
)

// costly is whether the call has cost a process.
func (o Outcome) costly() bool { return o >= Stopped }

// BreakerRules say when the calls of a tenant are held back because they crash
// functions, and for how long. A call that crashes, or has to be stopped, costs a slot
// for as long as a process takes to start, so such calls cost other tenants. Below,
// both are crashes.
type BreakerRules struct {
	Calls   int     // how many of the tenant's last calls are looked at, 1 to 32
	Crashes int     // of them, so many must have crashed, 1 to Calls
	Share   float64 // and more than this share, 0 to below 1

	CoolDown    time.Duration // no call is let through for so long, and twice as long after each probe that crashes
	MaxCoolDown time.Duration // the longest cool-down

	// Memory is for how long after a crash, or after the end of a cool-down, the
	// tenant's crashes are remembered.
	Memory time.Duration
}

// DefaultBreakerRules trip when at least 5 of a tenant's last 20 calls crashed and
// they are more than half.
func DefaultBreakerRules() BreakerRules {
	return BreakerRules{Calls: 20, Crashes: 5, Share: 0.5, CoolDown: time.Second, MaxCoolDown: time.Minute, Memory: time.Minute}
}

// Validate names the first field that cannot be used.
func (r BreakerRules) Validate() error {
	switch {
	case r.Calls < 1 || r.Calls > 32:
		return fmt.Errorf("breaker: Calls is %d: want 1 to 32", r.Calls)
	case r.Crashes < 1 || r.Crashes > r.Calls:
		return fmt.Errorf("breaker: Crashes is %d: want 1 to %d, which is Calls", r.Crashes, r.Calls)
	case !(r.Share >= 0 && r.Share < 1):
		return fmt.Errorf("breaker: Share is %v: want 0 to below 1", r.Share)
	case r.CoolDown <= 0 || r.MaxCoolDown < r.CoolDown:
		return fmt.Errorf("breaker: CoolDown is %v and MaxCoolDown %v: want 0 < CoolDown <= MaxCoolDown", r.CoolDown, r.MaxCoolDown)
	case r.Memory <= 0:
		return fmt.Errorf("breaker: Memory is %v: want more than 0", r.Memory)
	}
	return nil
}

// coolDown is how long the breaker stays open after so many trips in a row.
func (r *BreakerRules) coolDown(trips uint8) int64 {
	if doublings := int(trips) - 1; doublings < 32 && r.CoolDown <= r.MaxCoolDown>>doublings {
		return int64(r.CoolDown << doublings)
	}
	return int64(r.MaxCoolDown)
}

// breaker is one tenant's. It is closed while trips is 0; else open until a moment,
// and then half open: one call at a time is let through as a probe. A probe that
// is answered closes it, one that crashes opens it for twice as long. Times are
// nanoseconds of the table's clock.
type breaker struct {
	last    int64  // when a call last crashed
	until   int64  // the end of the cool-down
	history uint32 // the last calls, the newest in the lowest bit: 1 = it crashed
	seen    uint8  // how many calls are in history
	trips   uint8
	probing bool
	worst   Outcome // of what is remembered; Untold = there is nothing
}

// confines is whether the tenant's calls should keep to the tenant's shard. That some
// were stopped is no reason: their callers may just be hasty.
func (b *breaker) confines() bool { return b.worst == Crashed || b.trips > 0 }

// forget drops what is older than Memory, and what a clock that was set back would
// keep for too long.
func (b *breaker) forget(r *BreakerRules, now int64) {
	if b.worst == Untold {
		return
	}
	b.last = min(b.last, now)
	if b.trips > 0 {
		b.until = min(b.until, now+r.coolDown(b.trips))
	}
	if !b.probing && now-max(b.last, b.until) > int64(r.Memory) {
		*b = breaker{}
	}
}

// judge says how long no call may be let through; 0 = now, and then probe is
// whether the call is the probe. It changes nothing.
func (b *breaker) judge(r *BreakerRules, now int64) (wait int64, probe bool) {
	switch {
	case b.trips == 0:
		return 0, false
	case now < b.until:
		return b.until - now, false
	case b.probing:
		return int64(r.CoolDown), false // nobody knows how long the probe takes
	default:
		return 0, true
	}
}

// record notes what became of a call. Calls that were let through before the
// breaker opened say nothing about what has happened since.
func (b *breaker) record(r *BreakerRules, outcome Outcome, probe bool, now int64) {
	b.forget(r, now)
	if probe {
		b.probing = false
	}
	if outcome.costly() {
		b.last, b.worst = now, max(b.worst, outcome)
	}
	switch {
	case outcome == Untold:
	case probe && outcome.costly():
		b.open(r, now)
	case probe:
		b.trips, b.history, b.seen, b.until = 0, 0, 0, now
	case b.trips == 0:
		b.push(r, outcome)
		if crashes := bits.OnesCount32(b.history); crashes >= r.Crashes && float64(crashes) > r.Share*float64(b.seen) {
			b.open(r, now)
		}
	}
}

func (b *breaker) open(r *BreakerRules, now int64) {
	b.trips = min(b.trips+1, 100) // far above where the cool-down stops growing
	b.until = now + r.coolDown(b.trips)
}

func (b *breaker) push(r *BreakerRules, outcome Outcome) {
	b.history <<= 1
	if outcome.costly() {
		b.history |= 1
	}
	b.history &= uint32(1<<r.Calls - 1)
	b.seen = min(b.seen+1, uint8(r.Calls))
}
