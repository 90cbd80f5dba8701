package jobs

import (
	"context"
	"time"
)

const (
	retryBase = 100 * time.Millisecond
	retryMost = 5 * time.Second
)

// backOff is how long to wait before the attempt after the given number of
// failures in a row (1 or more): exponential with full jitter, as in
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
// random is in [0, 1).
func backOff(failures int, random float64) time.Duration {
	ceiling := retryMost
	if doublings := failures - 1; doublings < 6 { // beyond, the base has outgrown the most
		ceiling = min(retryMost, retryBase<<doublings)
	}
	return time.Duration(random * float64(ceiling))
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
