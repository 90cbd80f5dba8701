package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// watcher looks at a worker's load, on a connection of its own.
type watcher struct {
	address       string
	authorization string
	conn          *clientConn
}

// look asks once, until ctx ends.
func (w *watcher) look(ctx context.Context) (Load, error) {
	if w.conn == nil {
		conn, err := dial(ctx, w.address, w.authorization, 0)
		if err != nil {
			return Load{}, err
		}
		w.conn = conn
	}
	conn := w.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // fetchLoad sees the error
	load, err := conn.fetchLoad()
	if !stop() && err != nil {
		err = fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	if ctx.Err() != nil || err != nil || conn.response.ConnectionClose() || conn.reader.Buffered() > 0 {
		w.close()
	}
	return load, err
}

func (w *watcher) close() {
	if w.conn != nil {
		_ = w.conn.Close() // nobody needs it any more
		w.conn = nil
	}
}

// loadTimeout bounds FetchLoad for a ctx that has no deadline.
const loadTimeout = 5 * time.Second

// FetchLoad asks the worker at address (host:port) for its load, once, within
// ctx and five seconds. key is the fleet's; empty = none is sent.
func FetchLoad(ctx context.Context, address, key string) (Load, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	w := watcher{address: address}
	if key != "" {
		w.authorization = bearerScheme + key
	}
	defer w.close()
	load, err := w.look(ctx)
	if err != nil {
		return Load{}, fmt.Errorf("load of the worker %s: %w", address, err)
	}
	return load, nil
}

// pulse decides when a worker counts as lost.
type pulse struct {
	lostAfter time.Duration
	seen      time.Time // the last sign of life; zero = no good look yet
}

// lost says whether the worker counts as lost at now. One never seen does not:
// there is nothing to lose.
func (p pulse) lost(now time.Time) bool {
	return !p.seen.IsZero() && now.Sub(p.seen) >= p.lostAfter
}

// within shortens d so that it ends when the loss is due.
func (p pulse) within(d time.Duration, now time.Time) time.Duration {
	if p.seen.IsZero() || p.lost(now) {
		return d
	}
	return min(d, p.lostAfter-now.Sub(p.seen))
}

// jitter spreads the looks of many gateways: three to five quarters of d, by
// random in [0, 1).
func jitter(d time.Duration, random float64) time.Duration {
	return time.Duration((0.75 + random/2) * float64(d))
}

var errSilent = errors.New("it was not asked in time")

// poll is the goroutine that looks at the worker's load until Close.
func (c *Client) poll() {
	defer c.tasks.Done()
	w := watcher{address: c.config.Address, authorization: c.authorization}
	defer w.close()
	beat := pulse{lostAfter: c.config.LostAfter}
	for c.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(c.ctx, beat.within(c.config.PollTimeout, time.Now()))
		load, err := w.look(ctx)
		cancel()
		if now := time.Now(); err == nil {
			beat.seen = now
			c.saw(load, now)
		} else {
			beat.seen = c.laterAnswer(beat.seen)
			c.sawNothing(err, beat.lost(now))
		}
		pause := time.NewTimer(beat.within(jitter(c.config.PollEvery, rand.Float64()), time.Now()))
		select {
		case <-pause.C:
		case <-c.ctx.Done():
			pause.Stop()
		}
		beat.seen = c.laterAnswer(beat.seen)
		if beat.lost(time.Now()) {
			c.sawNothing(cmp.Or(err, errSilent), true)
		}
	}
}

// laterAnswer is when the worker last answered a call, if that is after seen: a
// busy machine may be late with its load and is not lost. Only a good look finds
// a worker.
func (c *Client) laterAnswer(seen time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seen.IsZero() || c.answered.Before(seen) {
		return seen
	}
	return c.answered
}

// saw takes over what the worker said of itself.
func (c *Client) saw(load Load, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == closed {
		return
	}
	if c.state == lost {
		c.reach, c.cutReach = context.WithCancel(c.ctx)
	}
	c.state, c.missed, c.heard = serving, nil, now
	idleSince := now.Add(-c.config.IdleTimeout)
	if load.Draining {
		c.state = draining
		idleSince = time.Time{} // before the worker closes them under a call
	}
	c.closeIdle(idleSince)
	c.load, c.offers = load, load.offers(true)
}

// sawNothing takes note of a look that failed, and of the loss it may complete.
func (c *Client) sawNothing(err error, isLost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == closed {
		return
	}
	c.missed = err
	if isLost && c.state != lost {
		c.state = lost
		c.offers = c.load.offers(false)
		c.cutAll()
	}
}
