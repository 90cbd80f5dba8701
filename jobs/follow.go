package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/hashicorp/nomad/api"

	"lightcone/internal/retry"
)

// Follow watches the newest version of a job until it is in effect or has failed,
// and reports each change on the way; report may be nil, and runs in the caller's
// goroutine. A version with a deployment ends with it; one without, such as those
// of system and batch jobs, when all its allocations run or one has failed for good.
//
// A version that failed is an outcome, not an error. An error means that nobody
// knows: the context has ended, or Nomad was away for longer than the client's
// patience (ErrUnreachable), or there is no such job (ErrNotFound).
func (c *Client) Follow(ctx context.Context, job string, report func(Progress)) (Outcome, error) {
	return c.follow(ctx, job, 0, report)
}

// FollowSubmission is Follow for just the version that was submitted, even if
// Nomad has already rolled it back.
func (c *Client) FollowSubmission(ctx context.Context, submission Submission, report func(Progress)) (Outcome, error) {
	return c.follow(ctx, submission.JobID, submission.ModifyIndex, report)
}

// follower is one call of Follow.
type follower struct {
	client *Client
	job    string
	index  uint64   // of the version's writing; 0 = the newest at the first look
	pinned *api.Job // that version, once found

	seen [3]uint64 // the index at which each of the lists was read, by wait
}

func (c *Client) follow(ctx context.Context, job string, index uint64, report func(Progress)) (Outcome, error) {
	f := &follower{client: c, job: job, index: index}
	var last *Progress
	suspected := false
	for {
		var now verdict
		err := c.persist(ctx, func() (err error) {
			now, err = f.look(ctx)
			return err
		})
		if err != nil {
			return Outcome{}, interrupted(err, last)
		}
		if report != nil && (last == nil || !reflect.DeepEqual(*last, now.progress)) {
			report(now.progress)
		}
		last = &now.progress
		if now.outcome != nil && (!now.suspect || suspected) {
			return *now.outcome, nil
		}
		suspected = now.suspect
		if suspected {
			continue // a second look at once: what Nomad planned meanwhile is in it
		}
		if err := c.persist(ctx, func() error { return f.await(ctx, now.next) }); err != nil {
			return Outcome{}, interrupted(err, last)
		}
	}
}

// interrupted adds to an error what was known last.
func interrupted(err error, last *Progress) error {
	if last == nil {
		return err
	}
	return fmt.Errorf("%w; at last: %s", err, last)
}

// persist repeats a read while Nomad is away, for at most the client's patience.
func (c *Client) persist(ctx context.Context, read func() error) error {
	var since time.Time // of the first failure: a blocking read may have held long before it
	for failures := 1; ; failures++ {
		err := read()
		if err == nil || !errors.Is(err, ErrUnreachable) {
			return err
		}
		if since.IsZero() {
			since = time.Now()
		}
		if away := time.Since(since); away >= c.patience {
			return fmt.Errorf("given up after %v: %w", away.Round(time.Millisecond), err)
		}
		if retry.Pause(ctx, backOff(failures, rand.Float64())) != nil {
			return fmt.Errorf("%w, while %w", context.Cause(ctx), err)
		}
	}
}

// look reads all that decides, in the order that rollout wants.
func (f *follower) look(ctx context.Context) (verdict, error) {
	c := f.client
	read, cancel := c.read(ctx)
	defer cancel()
	newest, _, err := c.nomad.Jobs().Info(f.job, read)
	if err != nil {
		return verdict{}, c.failed(ctx, err, "follow job %s", f.job)
	}
	if err := f.pin(ctx, newest); err != nil {
		return verdict{}, err
	}
	r := rollout{version: f.pinned, newest: newest}
	evaluations, meta, err := c.nomad.Jobs().Evaluations(f.job, read)
	if err != nil {
		return verdict{}, c.failed(ctx, err, "follow job %s: read its evaluations", f.job)
	}
	r.evaluations, f.seen[forEvaluations] = evaluations, meta.LastIndex
	deployments, meta, err := c.nomad.Jobs().Deployments(f.job, false, read)
	if err != nil {
		return verdict{}, c.failed(ctx, err, "follow job %s: read its deployments", f.job)
	}
	r.deployments, f.seen[forDeployments] = deployments, meta.LastIndex
	allocations, meta, err := c.nomad.Jobs().Allocations(f.job, false, read)
	if err != nil {
		return verdict{}, c.failed(ctx, err, "follow job %s: read its allocations", f.job)
	}
	f.seen[forAllocations] = meta.LastIndex
	for _, allocation := range allocations {
		if allocation.JobVersion == deref(f.pinned.Version) {
			r.allocations = append(r.allocations, allocation)
		}
	}
	return r.judge(), nil
}

// pin finds the version to follow, once.
func (f *follower) pin(ctx context.Context, newest *api.Job) error {
	switch {
	case f.pinned != nil:
		return nil
	case f.index == 0 || f.index == deref(newest.JobModifyIndex):
		f.pinned = newest
		return nil
	}
	c := f.client
	read, cancel := c.read(ctx)
	defer cancel()
	versions, _, _, err := c.nomad.Jobs().Versions(f.job, false, read)
	if err != nil {
		return c.failed(ctx, err, "follow job %s: read its versions", f.job)
	}
	for _, version := range versions {
		if deref(version.JobModifyIndex) == f.index {
			f.pinned = version
			return nil
		}
	}
	return fmt.Errorf("follow job %s: Nomad keeps no version that was written at index %d: %w", f.job, f.index, ErrNotFound)
}

// await returns when something may have changed since the last look.
func (f *follower) await(ctx context.Context, what wait) error {
	c := f.client
	watch, cancel := c.watch(ctx, f.seen[what], watchWait)
	defer cancel()
	var err error
	switch what {
	case forEvaluations:
		_, _, err = c.nomad.Jobs().Evaluations(f.job, watch)
	case forDeployments:
		_, _, err = c.nomad.Jobs().Deployments(f.job, false, watch)
	case forAllocations:
		_, _, err = c.nomad.Jobs().Allocations(f.job, false, watch)
	}
	if err != nil {
		return c.failed(ctx, err, "follow job %s", f.job)
	}
	return nil
}

// backOff is how long to wait before asking Nomad again after so many failures in a
// row (1 or more). random is in [0, 1).
func backOff(failures int, random float64) time.Duration {
	return retry.BackOff(failures, 100*time.Millisecond, 5*time.Second, random)
}
