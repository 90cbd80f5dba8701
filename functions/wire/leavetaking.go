package wire

import "context"

// Drain returns when no call is in flight, or ctx has ended. It refuses nothing:
// whoever calls it has stopped sending. The worker may be lost or closed meanwhile,
// which ends its calls, too.
func (c *Client) Drain(ctx context.Context) {
	c.mu.Lock()
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
