package admission

import (
	"math"
	"time"

	"lightcone"
)

// Limit names what refused a call, as callers and metrics see it.
type Limit string

// The limits. All but Crashes are fields of a lightcone.Quota.
const (
	CallsPerSecond  Limit = "calls_per_second"
	ConcurrentCalls Limit = "concurrent_calls"
	CPUPerMonth     Limit = "cpu_seconds_per_month"
	BytesPerMonth   Limit = "bytes_per_month"
	Crashes         Limit = "crashes"
)

// Limits are all limits there are.
func Limits() []Limit {
	return []Limit{CallsPerSecond, ConcurrentCalls, CPUPerMonth, BytesPerMonth, Crashes}
}

// Never is a Refusal's RetryAfter when waiting does not help: the quota is 0.
const Never = time.Duration(math.MaxInt64)

// Refusal says why a call may not go on; with an empty Limit, it may.
type Refusal struct {
	Limit      Limit
	RetryAfter time.Duration // until the limit would admit a call again, as far as is known; 0 = nobody knows; or Never
	Standing   Standing
}

// Standing is what a tenant has left, for those of its quotas that limit something.
type Standing struct {
	Tokens    int64         // calls that could come at once now
	NextToken time.Duration // until there is one more; 0 = the bucket is full
	Free      int64         // calls that could be added to those in flight
	Bytes     int64         // of the month
	MonthEnds time.Duration
}

// tenant is what is remembered of one tenant. Times are nanoseconds of the table's
// clock; fields are ordered to leave no gaps, for there are many tenants.
type tenant struct {
	month    monthly
	full     int64 // when the bucket is full again
	breaker  breaker
	held     int64 // bytes of memory
	inFlight int32
	looking  uint16 // questions under way, see Table.Look
	limited  bool   // its quota limits the month
	called   bool   // it was heard of since the last exchange
}

// fresh is a tenant nobody has heard of.
func fresh(now int64, m month) tenant { return tenant{full: now, month: monthly{month: m}} }

// judge says whether a call may go on, when the bucket will be full after that, and
// whether the call is the breaker's probe. Of several limits it names the one that
// lasts longest. It changes nothing.
func (t *tenant) judge(r *BreakerRules, q *lightcone.Quota, now int64, at time.Time) (refused Limit, wait time.Duration, full int64, probe bool) {
	b, none := bucketOf(q)
	switch {
	case none:
		return CallsPerSecond, Never, t.full, false
	case q.ConcurrentCalls == 0:
		return ConcurrentCalls, Never, t.full, false
	case q.CPUPerMonth == 0:
		return CPUPerMonth, Never, t.full, false
	case q.BytesPerMonth == 0:
		return BytesPerMonth, Never, t.full, false
	}
	if limit := t.month.reached(q); limit != "" {
		return limit, (t.month.month + 1).begins().Sub(at), t.full, false
	}
	cooling, probe := t.breaker.judge(r, now)
	if cooling > 0 {
		return Crashes, time.Duration(cooling), t.full, false
	}
	if q.ConcurrentCalls > 0 && int(t.inFlight) >= q.ConcurrentCalls {
		return ConcurrentCalls, 0, t.full, false
	}
	full, missing := b.take(t.full, now)
	if missing > 0 {
		return CallsPerSecond, time.Duration(missing), full, false
	}
	return "", 0, full, probe
}

// standing is what the tenant has left of q.
func (t *tenant) standing(q *lightcone.Quota, now int64, at time.Time) (s Standing) {
	if b, none := bucketOf(q); !none {
		tokens, next := b.level(t.full, now)
		s.Tokens, s.NextToken = tokens, time.Duration(next)
	}
	s.Free = max(int64(q.ConcurrentCalls)-int64(t.inFlight), 0)
	if isMonthly(q) {
		s.Bytes = max(q.BytesPerMonth-t.month.bytes(), 0)
		s.MonthEnds = (t.month.month + 1).begins().Sub(at)
	}
	return s
}

// worth is what would be lost by forgetting the tenant.
type worth int

const (
	nothing   worth = iota
	aBurst          // its bucket would be full, and it would be refused less than it should be
	someUsage       // what it used would not reach the region
	aCrasher        // its breaker would be closed
	aCall           // a call in flight could not be settled, or the memory it holds given back
)

// worthOf is what the tenant's memory is worth. told is whether there is a region
// to tell what it used.
func (t *tenant) worthOf(r *BreakerRules, now int64, told bool) worth {
	t.breaker.forget(r, now)
	switch {
	case t.inFlight > 0 || t.looking > 0 || t.held > 0:
		return aCall
	case t.breaker.worst != Untold:
		return aCrasher
	case t.month.own != lightcone.Usage{} && (told || t.limited):
		return someUsage
	case t.full > now:
		return aBurst
	default:
		return nothing
	}
}
