package edge

import (
	"math/rand/v2"
	"sync"
	"time"

	"lightcone/internal/retry"
)

// breaker keeps a store that fails from costing every call a timeout: after a few
// failures in a row only one try is let through, now and then.
type breaker struct {
	outage *outage

	mu       sync.Mutex
	failures int
	closedAt time.Time // when the next try may go; the zero time while all may
}

const (
	failuresToOpen = 3
	shortestBreak  = 200 * time.Millisecond
	longestBreak   = 2 * time.Second
)

// allow says whether the store may be tried. Each true needs a report.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < failuresToOpen {
		return true
	}
	if now.Before(b.closedAt) {
		return false
	}
	b.closedAt = now.Add(longestBreak) // this try is the only one, until it reports
	return true
}

// report says how the try went; the error must not say which document it was for.
func (b *breaker) report(err error, now time.Time) {
	b.outage.report(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	if b.failures++; b.failures >= failuresToOpen {
		pause := retry.BackOff(b.failures-failuresToOpen+1, 2*shortestBreak, longestBreak, rand.Float64())
		b.closedAt = now.Add(max(pause, shortestBreak))
	}
}
