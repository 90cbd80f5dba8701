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

// report says how the try went.
func (b *breaker) report(ok bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
		b.failures = 0
		return
	}
	if b.failures++; b.failures >= failuresToOpen {
		pause := retry.BackOff(b.failures-failuresToOpen+1, 2*shortestBreak, longestBreak, rand.Float64())
		b.closedAt = now.Add(max(pause, shortestBreak))
	}
}
