package wire

import "context"

// Drain refuses calls from now on, as Overloaded, and returns when none is in
// flight any more, or ctx has ended. A worker that is lost or a client that is closed
// meanwhile ends its calls, too.
//
// It refuses because callers may have picked this worker before they were told of
// another: their calls would else come between Drain and Close, which cuts them.
func (c *Client) Drain(ctx context.Context) {
	c.mu.Lock()
	c.leaving = true
	if c.inFlight == 0 {
		c.mu.Unlock()
		return
	}
	if c.quiet == nil {
		c.quiet = make(chan struct{})
	}
	quiet := c.quiet
	c.mu.Unlock()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
}
