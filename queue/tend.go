package queue

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"lightcone/internal/retry"
)

const (
	sweepEvery = 10 * time.Minute
	buryEvery  = time.Minute
)

// Tend does, until ctx ends, what no worker does: now and then it sweeps, and ends the
// calls that are older than Limits.MaxAge though nobody works on their functions. It
// runs on the queue's nodes; several may tend at once. Its error is nil.
func (c *Client) Tend(ctx context.Context) error {
	c.tend(ctx, sweepEvery, buryEvery)
	return nil
}

func (c *Client) tend(ctx context.Context, sweepEvery, buryEvery time.Duration) {
	var tending sync.WaitGroup
	defer tending.Wait()
	tending.Go(func() {
		var w weigher
		failures := 0
		nowAndThen(ctx, weighEvery, func() {
			err := w.look(ctx, c)
			if failures++; err == nil {
				failures = 0
			}
			if failures == 10 && ctx.Err() == nil {
				c.logger.Warn("what tenants have in the queue could not be weighed", "error", err)
			}
		})
	})
	tending.Go(func() {
		nowAndThen(ctx, buryEvery, func() {
			buried, err := c.buryOverdue(ctx)
			if err != nil && ctx.Err() == nil {
				c.logger.Warn("calls that nobody has run in time could not be looked for", "error", err)
			}
			if buried > 0 {
				c.logger.Warn("queued calls that nobody has run in time were ended", "calls", buried)
			}
		})
	})
	nowAndThen(ctx, sweepEvery, func() {
		removed, err := c.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			c.logger.Warn("the queue's stored inputs and results could not be swept", "error", err)
		}
		if removed > 0 {
			c.logger.Info("stored inputs and results of calls that are over were removed", "objects", removed)
		}
	})
}

// nowAndThen does something until ctx ends, about as often as every says, so that those
// who began together do not go on together.
func nowAndThen(ctx context.Context, every time.Duration, do func()) {
	for retry.Pause(ctx, every/2+time.Duration(rand.Float64()*float64(every))) == nil {
		do()
	}
}
