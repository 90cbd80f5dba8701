package queue

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// find is the call's record with the body of an inline result.
func (c *Client) find(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (entry, error) {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	found, err := c.ledger.readNow(ctx, tenant, id)
	if err == nil && found.record == nil {
		err = unknownCall(id)
	}
	return found, asProblem(err)
}

// Find is the call's state, linearizable. Error: problem.NotFound for ids that the
// tenant does not have, and after Limits.Keep.
func (c *Client) Find(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	found, err := c.find(ctx, tenant, id)
	if err != nil {
		return lightcone.Invocation{}, err
	}
	return found.record.invocation(), nil
}

// lookAgain is how often Await looks at a call that nobody speaks of: word of a change
// may be lost.
const lookAgain = 2 * time.Second

// mostChanges is more than a call has while Await looks at it once.
const mostChanges = 16

// Await is Find that returns as soon as the call has ended, or else, without an
// error, with its state when ctx ends. Its errors are Find's.
func (c *Client) Await(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	changes := make(chan *nats.Msg, mostChanges)
	word, err := c.nc.ChanSubscribe(changedPrefix+string(tenant)+"."+id.String(), changes)
	if err != nil {
		return lightcone.Invocation{}, asProblem(err)
	}
	defer func() { _ = word.Unsubscribe() }()
	var last lightcone.Invocation
	for {
		found, err := c.Find(ctx, tenant, id)
		switch {
		case err != nil && ctx.Err() != nil && last.Status != "":
			return last, nil
		case err != nil && ctx.Err() != nil: // not even once: one more look, which costs no more than Find does
			return c.Find(context.WithoutCancel(ctx), tenant, id)
		case err != nil || found.Status.Final():
			return found, err
		}
		last = found
		timer := time.NewTimer(lookAgain)
		select {
		case <-changes:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return last, nil
		}
	}
}

// Result is what a succeeded or failed call came to. Errors: problem.NotFound as in
// Find; problem.NotFinished while there is no result, or when there never will be
// (cancelled, dead).
func (c *Client) Result(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (functions.Result, error) {
	found, err := c.find(ctx, tenant, id)
	if err != nil {
		return functions.Result{}, err
	}
	r := found.record
	switch {
	case r.Result == nil && r.Status.Final():
		return functions.Result{}, problem.New(problem.NotFinished, "The call %s has no result and will have none: it is %s.", id, r.Status)
	case r.Result == nil:
		return functions.Result{}, problem.New(problem.NotFinished, "The call %s has no result yet: it is %s.", id, r.Status)
	case r.Result.Object == "":
		return r.Result.result(found.body), nil
	}
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	body, err := c.warehouse.get(ctx, resultsBucket, r.Result.Object)
	if err == nil && body == nil {
		err = unknownCall(id) // its time ended between the two reads
	}
	if err != nil {
		return functions.Result{}, asProblem(err)
	}
	return r.Result.result(body), nil
}

// Cancel takes a call back: it is not run any more, and if it runs its worker kills
// it, at once in the usual case and within seconds in any. It answers with the state
// after it; a call that has ended is left as it is. Errors: problem.NotFound as in Find.
func (c *Client) Cancel(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	ctx, stop := within(ctx, c.limits.Patience)
	defer stop()
	r, changed, err := c.cancel(ctx, tenant, id)
	if r.Status == "" {
		return lightcone.Invocation{}, asProblem(err)
	}
	if changed {
		// It is cancelled: what follows only makes the room free sooner.
		_ = c.nc.Publish(cancelPrefix+id.String(), nil)
		if err == nil && r.Work != 0 && r.StartedAt.IsZero() { // or else a worker ends it, and tells what it spent
			err = c.store.delete(ctx, workStream, r.Work)
		}
		if err == nil && r.FarInput {
			err = c.warehouse.dropInput(ctx, tenant, id)
		}
		if err != nil {
			c.logger.Info("a cancelled call stays in its lane until a worker meets it", "call", id, "error", err)
		}
	}
	return r.invocation(), nil
}
