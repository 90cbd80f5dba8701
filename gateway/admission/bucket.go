package admission

import (
	"math"

	"lightcone"
)

// bucket is a tenant's rate as the generic cell rate algorithm has it, in the
// form of virtual scheduling (ITU-T I.371, annex A; ATM Forum, Traffic Management
// 4.0, 4.4.2): one number is kept for each tenant, the time at which its bucket
// will be full again ("theoretical arrival time"). It equals a token bucket that
// holds burst tokens and gains one each interval.
type bucket struct {
	interval int64 // between two tokens, in nanoseconds; 0 = no limit
	capacity int64 // burst x interval: how far ahead of now the bucket may be full again
}

const (
	longestInterval = 1 << 55 // ns, more than a year: keeps sums of times far from overflowing
	largestCapacity = 1 << 61 // ns, 73 years
)

// bucketOf is the bucket of a quota. none is whether it never has a token. A rate
// without a burst has one of a second's calls; the interval is rounded up, so that
// a rate is never exceeded.
func bucketOf(q *lightcone.Quota) (b bucket, none bool) {
	rate := q.CallsPerSecond
	switch {
	case q.Burst == 0 || !(rate < 0 || rate > 0): // also NaN
		return bucket{}, true
	case rate < 0:
		return bucket{}, false
	}
	burst := int64(q.Burst)
	if burst < 0 {
		burst = int64(min(math.Ceil(rate), 1<<40))
	}
	b.interval = int64(max(min(math.Ceil(1e9/rate), longestInterval), 1))
	b.capacity = min(burst, largestCapacity/b.interval) * b.interval
	return b, false
}

// clamp is the time at which the bucket is full, seen from now: never in the past,
// and never later than if it were empty, which is what a clock that was set back
// would make of it.
func (b bucket) clamp(full, now int64) int64 { return min(max(full, now), now+b.capacity) }

// take takes a token: full is when the bucket will be full after that. wait is 0,
// or how long there is none; nothing is taken then.
func (b bucket) take(full, now int64) (after, wait int64) {
	full = b.clamp(full, now)
	if b.interval == 0 {
		return full, 0
	}
	if wait = full + b.interval - b.capacity - now; wait > 0 {
		return full, wait
	}
	return full + b.interval, 0
}

// level is how many tokens there are, and how long until there is one more; 0 =
// the bucket is full.
func (b bucket) level(full, now int64) (tokens, next int64) {
	if b.interval == 0 {
		return math.MaxInt64, 0
	}
	missing := b.clamp(full, now) - now
	tokens = (b.capacity - missing) / b.interval
	if missing > 0 {
		next = (missing-1)%b.interval + 1
	}
	return tokens, next
}
