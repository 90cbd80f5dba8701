package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	random "math/rand/v2"
	"strings"
	"sync"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
	"lightcone/queue"
	"lightcone/queue/history"
)

const (
	// callers are the operations that one client process has under way at once.
	callers = 4
	// operationBound is how long one may take.
	operationBound = 4 * time.Second
	// pauseBetween is about how long a caller rests after each: the load is there to
	// find faults, not limits.
	pauseBetween = 25 * time.Millisecond
	// recentCalls are the accepted calls that callers ask about.
	recentCalls = 64
)

// clientProcess is one client: it accepts calls as a gateway does, finds and cancels
// them, and notes what it was told.
type clientProcess struct {
	queue  *queue.Client
	notes  journal
	number int

	mu     sync.Mutex
	recent []accepted
}

type accepted struct {
	tenant lightcone.TenantID
	id     lightcone.CallID
}

// run makes operations until ctx ends.
func (c *clientProcess) run(ctx context.Context) error {
	var running sync.WaitGroup
	failures := make([]error, callers)
	for i := range callers {
		running.Go(func() {
			for ctx.Err() == nil && failures[i] == nil {
				failures[i] = c.operate(ctx, c.number*callers+i)
				_ = retry.Pause(ctx, time.Duration(random.Int64N(int64(2*pauseBetween))))
			}
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

// operate makes one operation and notes it.
func (c *clientProcess) operate(ctx context.Context, caller int) error {
	one, any := c.pick()
	o := history.Operation{Client: caller, Kind: history.Accept, Call: one.id}
	switch dice := random.IntN(100); {
	case !any || dice < 50:
		id, err := lightcone.NewCallID(time.Now(), rand.Reader)
		if err != nil {
			return err
		}
		one = accepted{tenantFor(id), id}
		o.Call = id
	case dice < 85:
		o.Kind = history.Find
	default:
		o.Kind = history.Cancel
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), operationBound)
	defer cancel()
	o.Began = clock()
	if o.Kind != history.Find {
		// Noted before it begins, too: it may have its effect though whoever asked is killed.
		o.Failed = true
		if err := c.notes.note(o); err != nil {
			return err
		}
	}
	said, err := c.ask(bound, o.Kind, one)
	o.Ended = clock()
	switch {
	case err == nil:
		o.Failed, o.Said = false, said.Status
	case o.Kind != history.Accept && problem.Of(err).Kind == problem.NotFound:
		o.Failed, o.Said = false, history.Unknown
	default:
		o.Failed = true
	}
	if o.Kind == history.Accept {
		c.remember(one)
	}
	if o.Kind == history.Find && o.Said == lightcone.InvocationSucceeded {
		if result, err := c.queue.Result(bound, one.tenant, one.id); err == nil {
			o.Result = string(result.Body)
		}
	}
	if o.Kind != history.Find && o.Failed {
		return nil // as noted before
	}
	return c.notes.note(o)
}

func (c *clientProcess) ask(ctx context.Context, kind history.Kind, one accepted) (lightcone.Invocation, error) {
	switch kind {
	case history.Accept:
		return c.queue.Accept(ctx, callOf(one))
	case history.Find:
		return c.queue.Find(ctx, one.tenant, one.id)
	default:
		return c.queue.Cancel(ctx, one.tenant, one.id)
	}
}

// callOf is the call that is accepted under the id.
func callOf(one accepted) *functions.Queued {
	return &functions.Queued{
		Call: functions.Call{
			ID: one.id, Tenant: one.tenant, Function: drilled, Query: []byte("drill=1"), ContentType: []byte("text/plain"),
			Body: []byte(strings.Repeat(one.id.String()+"\n", sizeOf(one.id))),
		},
		Timeout: 5 * time.Second,
	}
}

// sizeOf is how many lines a call's input has: mostly one kilobyte, now and then more
// than fits a message.
func sizeOf(id lightcone.CallID) int {
	if id[15] == 0 {
		return 45_000 // 1.2 MB
	}
	return 38
}

// tenantFor spreads calls over a few tenants.
func tenantFor(id lightcone.CallID) lightcone.TenantID {
	return lightcone.TenantID(fmt.Sprintf("tenant-%d", id[14]%5))
}

// pick is an accepted call to ask about.
func (c *clientProcess) pick() (accepted, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.recent) == 0 {
		return accepted{}, false
	}
	return c.recent[random.IntN(len(c.recent))], true
}

func (c *clientProcess) remember(one accepted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.recent) < recentCalls {
		c.recent = append(c.recent, one)
		return
	}
	c.recent[random.IntN(recentCalls)] = one
}
