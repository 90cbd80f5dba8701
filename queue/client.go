package queue

import (
	"context"
	"errors"
	"time"

	"lightcone"
	"lightcone/functions"
)

// Client is a gateway's, a worker's or an operator's way to the queue. Make it with
// Connect. Its methods are safe for concurrent use. Their errors are problems: besides
// those that each names, problem.Overloaded with RetryAfter when the queue has no
// quorum or cannot be reached in time.
type Client struct{}

// Connect makes a client. It does not wait for the nodes: it goes on trying to reach
// them, and to create the streams that are missing, until Close. Its errors are of
// the Config.
func Connect(conf Config) (*Client, error) { return nil, errors.ErrUnsupported }

// Ready says why the queue cannot be used now, or nil: there is a node, and the
// streams exist.
func (c *Client) Ready() error { return errors.ErrUnsupported }

// Close ends the client and waits for what it runs in the background. Work and
// Deliver are to have returned before.
func (c *Client) Close() {}

// Accept queues a call. Without an error a quorum has it on disk, and it will end.
// With an idempotency key that the tenant used for this function within Limits.Keep,
// it answers with the first call, whatever became of it. It keeps nothing of q.
//
// Errors: problem.KeyReused when the key came with another call;
// problem.LimitReached with Quota "queued_calls" when the tenant's share of the
// function's queue is full; problem.Overloaded when the whole queue is full, or when
// there is no quorum: then the call may have been accepted all the same, as Detail
// says. A refused call keeps its key: it may be repeated, not replaced.
func (c *Client) Accept(ctx context.Context, q *functions.Queued) (lightcone.Invocation, error) {
	return lightcone.Invocation{}, errors.ErrUnsupported
}

// Find is the call's state, linearizable. Error: problem.NotFound for ids that the
// tenant does not have, and after Limits.Keep.
func (c *Client) Find(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	return lightcone.Invocation{}, errors.ErrUnsupported
}

// Await is Find that returns as soon as the call has ended, or else, without an
// error, with its state when ctx ends. Its errors are Find's.
func (c *Client) Await(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	return lightcone.Invocation{}, errors.ErrUnsupported
}

// Result is what a succeeded or failed call came to. Errors: problem.NotFound as in
// Find; problem.NotFinished while there is no result, or when there never will be
// (cancelled, dead).
func (c *Client) Result(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (functions.Result, error) {
	return functions.Result{}, errors.ErrUnsupported
}

// Cancel takes a call back: it is not run any more, and if it runs its worker kills
// it, at once in the usual case and within 5 s in any. It answers with the state after
// it; a call that has ended is left as it is. Errors: problem.NotFound as in Find.
func (c *Client) Cancel(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	return lightcone.Invocation{}, errors.ErrUnsupported
}

// WorkConfig is what a worker takes calls for.
type WorkConfig struct {
	Function lightcone.FunctionName
	AtOnce   int         // most queued calls that run at once; 1 or more
	Room     func() bool // whether a call may start now: a slot is idle beyond the reserve; called often

	// Run runs one attempt: the end of ctx kills it (the call's timeout, or a cancel).
	// The call's Deadline is set; call.Body and what it puts into answer are its own
	// until it returns. Its errors are problems, as the sync path knows them;
	// problem.Overloaded says that the function has not seen the call.
	Run func(ctx context.Context, call *functions.Call, answer *functions.Answer) error
}

// Work takes and runs calls of one function until ctx ends. Then it takes no more,
// lets those that run finish, and returns nil. Errors are of the WorkConfig. A queue
// that cannot be reached is no error: it waits for it.
func (c *Client) Work(ctx context.Context, w WorkConfig) error { return errors.ErrUnsupported }

// Backlog is how much a function has waiting.
type Backlog struct {
	Function lightcone.FunctionName
	Waiting  int           // calls that no worker has had yet
	Running  int           // calls that a worker has, or that wait to be tried again
	Oldest   time.Duration // how long the oldest of the Waiting has waited; 0 = none waits
}

// Backlogs lists the functions that have calls queued or running, by name. It is a
// measurement, not linearizable.
func (c *Client) Backlogs(ctx context.Context) ([]Backlog, error) { return nil, errors.ErrUnsupported }

// DeadLetter is a call that was given up: attempts or age used up.
type DeadLetter struct {
	Invocation  lightcone.Invocation // as it died; Error says why
	Timeout     time.Duration
	Callback    string
	Query       []byte
	ContentType []byte
	Accept      []byte
	InputBytes  int64
	Input       []byte // nil in lists, and when it is over MostInline
	Generation  int    // times that it was redriven
}

// DeadLetters lists dead letters of a tenant ("" = of all) by id, those after a given
// id (zero = from the first), at most so many.
func (c *Client) DeadLetters(ctx context.Context, tenant lightcone.TenantID, after lightcone.CallID, most int) ([]DeadLetter, error) {
	return nil, errors.ErrUnsupported
}

// DeadLetter is one dead letter with its input. Error: problem.NotFound.
func (c *Client) DeadLetter(ctx context.Context, id lightcone.CallID) (DeadLetter, error) {
	return DeadLetter{}, errors.ErrUnsupported
}

// Redrive queues a dead call again, with all its attempts. Killed at any point, it may
// be repeated. Errors: problem.NotFound; problem.LimitReached and problem.Overloaded
// as in Accept.
func (c *Client) Redrive(ctx context.Context, id lightcone.CallID) (lightcone.Invocation, error) {
	return lightcone.Invocation{}, errors.ErrUnsupported
}

// Drop removes a dead letter for good. Error: problem.NotFound.
func (c *Client) Drop(ctx context.Context, id lightcone.CallID) error { return errors.ErrUnsupported }

// Callback is the news of a call's end for the URL that its caller named.
type Callback struct {
	Invocation lightcone.Invocation
	URL        string
	Result     functions.Result // of succeeded and failed calls; without Body when that is Omitted
	Omitted    bool             // the result is over MostInline: it has to be fetched
	Attempt    int              // 1 for the first try of this callback
	Attempts   int              // how often it will be tried at most
}

// Deliver hands out callbacks until ctx ends, each again with back-off until deliver
// returns nil or Limits.CallbackAttempts are used up; errors of the kinds
// problem.BadParameter and problem.Forbidden are final at once. Each is handed out at
// least once, some at once up to atOnce. deliver is to return within 30 s. It runs on
// the queue's nodes.
func (c *Client) Deliver(ctx context.Context, atOnce int, deliver func(context.Context, *Callback) error) error {
	return errors.ErrUnsupported
}

// Sweep removes the inputs in the object store that no call needs any more, once, and
// says how many. Anybody may run it, at any time.
func (c *Client) Sweep(ctx context.Context) (int, error) { return 0, errors.ErrUnsupported }

// Tend sweeps now and then until ctx ends. It runs on the queue's nodes.
func (c *Client) Tend(ctx context.Context) error { return errors.ErrUnsupported }
