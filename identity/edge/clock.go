package edge

import (
	"sync/atomic"
	"time"
)

// instant is time since the Directory was made, by the monotonic clock, in
// nanoseconds: what an entry can keep in one atomic word.
type instant = int64

// clock tells both times: the monotonic one for how old something is, the wall's
// for when a key expires.
type clock struct {
	start   time.Time
	wall    func() time.Time // time.Now; tests turn it back
	expired atomic.Int64     // the latest expiry that was seen to have passed, Unix nanoseconds
}

func newClock() *clock { return &clock{start: time.Now(), wall: time.Now} }

func (c *clock) now() instant { return int64(time.Since(c.start)) }

// hasPassed says whether an expiry (Unix nanoseconds) has passed. It says so for
// ever after, whatever becomes of the clock: if one has passed, so have all before it.
func (c *clock) hasPassed(expiry int64) bool {
	seen := c.expired.Load()
	if expiry <= seen {
		return true
	}
	if c.wall().UnixNano() < expiry {
		return false
	}
	for !c.expired.CompareAndSwap(seen, max(seen, expiry)) {
		seen = c.expired.Load()
	}
	return true
}
