package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lightcone/internal/retry"
	"lightcone/usage"
	"lightcone/usage/store"
)

const (
	// workerKills is how many kills there are to one of a worker.
	workerKills = 5
	// longestAbsence is how long what was killed is away at most.
	longestAbsence = 500 * time.Millisecond
	// settleBound is how long all records may take into the bucket, which fails half of
	// all requests, when no more come.
	settleBound = 10 * time.Minute
)

// killed counts what was killed.
type killed struct{ gateways, workers int }

// kill kills a gateway, or now and then a worker, in the middle of each of so many
// parts of the course, and starts it again on what it has kept. The next part begins
// when it takes calls.
func (r *region) kill(ctx context.Context, c *course, kills int, random *rand.Rand) (k killed, err error) {
	defer func() {
		if err != nil {
			c.halt()
		}
	}()
	if kills == 0 {
		c.allow(c.total)
	}
	for part := range kills {
		c.allow((part + 1) * c.total / kills)
		if !c.reach((2*part + 1) * c.total / (2 * kills)) {
			return k, nil
		}
		var victim *service
		if part%workerKills == workerKills-1 {
			victim = r.workers[random.IntN(workerCount)]
			k.workers++
		} else {
			victim = r.gateways[random.IntN(gatewayCount)]
			k.gateways++
		}
		victim.process.kill()
		if err := retry.Pause(ctx, time.Duration(random.Int64N(int64(longestAbsence)))); err != nil {
			return k, err
		}
		if err := errors.Join(victim.begin(), victim.ready(ctx)); err != nil {
			return k, err
		}
	}
	return k, nil
}

// settle stops the gateways in order until all that they have written down is in the
// bucket, and they have said so there. A stop waits 10 s for a store that fails; what
// is left then is there for the next.
func (r *region) settle(ctx context.Context, b *store.Bucket, hours []time.Time) error {
	for deadline := time.Now().Add(settleBound); ; {
		if err := r.endGateways(); err != nil {
			return err
		}
		left, err := r.unsettled(ctx, b, hours)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", settleBound, strings.Join(left, "; "))
		}
		for _, g := range r.gateways {
			if err := g.begin(); err != nil {
				return err
			}
		}
		for _, g := range r.gateways {
			if err := g.ready(ctx); err != nil {
				return err
			}
		}
	}
}

// endGateways stops all gateways at once, as Nomad does.
func (r *region) endGateways() error {
	failures := make([]error, len(r.gateways))
	var ending sync.WaitGroup
	for i, g := range r.gateways {
		ending.Go(func() { failures[i] = g.end(endBound) })
	}
	ending.Wait()
	return errors.Join(failures...)
}

// unsettled is what the bucket still lacks, a line each.
func (r *region) unsettled(ctx context.Context, b *store.Bucket, hours []time.Time) ([]string, error) {
	left, err := r.segments()
	if err != nil {
		return nil, err
	}
	for i := range r.gateways {
		for _, hour := range hours {
			key := usage.CountsKey(nodeOf(i), hour)
			content, err := b.Read(ctx, key, longestObject)
			if errors.Is(err, store.ErrNotFound) {
				continue // it has had no call then; the reconciliation looks at records without counts
			}
			if err != nil {
				return nil, err
			}
			counts, err := usage.ParseCounts(content)
			if err != nil {
				return nil, err
			}
			if !counts.Closed {
				left = append(left, key+" is not closed")
			}
		}
	}
	return left, nil
}

// segments are the files of records that are still on the gateways' disks.
func (r *region) segments() ([]string, error) {
	return filepath.Glob(filepath.Join(r.dir, "ledger-*", "*.segment"))
}
