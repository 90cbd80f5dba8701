package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"lightcone/internal/retry"
)

const (
	watchBackOff     = 250 * time.Millisecond // base and
	watchBackOffMost = 15 * time.Second       // ceiling of the pause after a failed query
	watchProbe       = time.Second            // how long the first query after an outage may block: it tells that the outage is over
	watchSpacing     = 100 * time.Millisecond // between questions: a flapping service costs ten a second, not a core
)

// Instances asks once, and the leader of the Consul servers, for the service's
// instances whose checks all pass, sorted by ID. It is an error when the token
// may not see them all, and when there is no token, nothing to see and Consul
// denies by default: those two look the same.
func (c *Client) Instances(ctx context.Context, service string) ([]Instance, error) {
	options, cancel := c.reading(ctx)
	defer cancel()
	answer, err := c.ask(service, options)
	if err == nil && answer.filtered {
		err = errors.New(string(refused))
	}
	if err != nil {
		return nil, fmt.Errorf("ask Consul for the instances of %q: %w", service, err)
	}
	return answer.instances, nil
}

// Watch calls apply with the service's passing instances, sorted by ID: once at
// first, also when there are none, and then whenever they change, within
// a fraction of a second. It calls from one goroutine, one call at a time, and the slice is
// the caller's. While Consul cannot answer it calls nothing, tries again for ever
// and logs each outage once. It returns nil when ctx has ended.
//
// It reads from whichever server is near, so that it learns of what is new while
// the servers have no leader; that an instance is gone, it believes the leader
// alone. The caller guards against alarms that many instances share.
func (c *Client) Watch(ctx context.Context, service string, apply func([]Instance)) error {
	if service == "" {
		return errors.New("watch a Consul service: its name is empty; name one")
	}
	logger := c.config.Logger.With("service", service)
	var stands position
	failures := 0
	for ctx.Err() == nil {
		asked := time.Now()
		wait := longestWait
		if failures > 0 {
			wait = watchProbe
		}
		verdict, next, err := c.follow(ctx, service, stands, wait)
		stands = next
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			failures++
			if failures == 1 {
				logger.Warn("Consul does not tell who offers the service; the last known set stays", "error", err)
			}
			_ = retry.Pause(ctx, retry.BackOff(failures, watchBackOff, watchBackOffMost, rand.Float64())) // the loop looks at ctx
			continue
		}
		if verdict == applyIt {
			apply(slices.Clone(stands.instances))
		}
		recovered(logger, &failures)
		_ = retry.Pause(ctx, watchSpacing-time.Since(asked))
	}
	return nil
}

func recovered(logger *slog.Logger, failures *int) {
	if *failures > 0 {
		logger.Info("Consul tells again who offers the service", "failed_queries", *failures)
	}
	*failures = 0
}

// follow asks for the next answer after the position. A verdict that brings
// nothing usable is an error; starting over and confirming are not: a question follows.
func (c *Client) follow(ctx context.Context, service string, stands position, wait time.Duration) (verdict, position, error) {
	answer, err := c.next(ctx, service, stands, wait)
	if err != nil {
		return "", stands, err
	}
	verdict, stands := stands.judge(answer)
	if verdict == refused || verdict == knowsNone {
		err = errors.New(string(verdict))
	}
	return verdict, stands, err
}

// next asks the leader when there is no position, and any server from then on.
// Only before the first answer, a set that may be old is better than none.
func (c *Client) next(ctx context.Context, service string, stands position, wait time.Duration) (answer, error) {
	if stands.index > 0 {
		options, cancel := c.blocking(ctx, stands.index, wait)
		defer cancel()
		options.AllowStale = true
		return c.ask(service, options)
	}
	options, cancel := c.reading(ctx)
	options.RequireConsistent = true
	got, err := c.ask(service, options)
	cancel()
	if err == nil || stands.applied {
		return got, err
	}
	options, cancel = c.reading(ctx)
	defer cancel()
	options.AllowStale = true
	got, staleErr := c.ask(service, options)
	if staleErr != nil {
		return got, errors.Join(err, staleErr)
	}
	return got, nil
}

func (c *Client) ask(service string, options *api.QueryOptions) (answer, error) {
	entries, meta, err := c.api.Health().Service(service, "", true, options)
	if err != nil {
		return answer{}, err
	}
	// Consul does not tell a client without a token that it hides something.
	blind := c.config.Token == "" && meta.DefaultACLPolicy == "deny" && len(entries) == 0
	return answer{
		index:       meta.LastIndex,
		knownLeader: meta.KnownLeader,
		filtered:    meta.ResultsFilteredByACLs || blind,
		instances:   instancesOf(entries),
	}, nil
}
