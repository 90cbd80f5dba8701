package edge

import "time"

// instant is time since the Directory was made, by the monotonic clock, in
// nanoseconds: what an entry can keep in one atomic word.
type instant = int64

// clock tells both times: the monotonic one for how old something is, the wall's
// for when a key expires.
type clock struct {
	start time.Time
	wall  func() time.Time // time.Now; tests turn it
}

func newClock() *clock { return &clock{start: time.Now(), wall: time.Now} }

func (c *clock) now() instant { return int64(time.Since(c.start)) }

// hasPassed says whether an expiry (Unix nanoseconds) has passed: by the wall's
// clock as it is, or as it was at the start and the time since. So a clock that goes
// back opens nothing that has expired since the start, and one that jumps ahead
// closes keys only until it is put right. One that was ahead at the start closes keys
// early until the Directory is made anew.
func (c *clock) hasPassed(expiry int64) bool {
	return c.start.UnixNano()+c.now() >= expiry || c.wall().UnixNano() >= expiry
}
