package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// ClientConfig says which worker a Client calls. A bound of 0 or less is its default.
type ClientConfig struct {
	Address string // host:port
	Key     string // the fleet's key; empty = none is sent

	PollEvery   time.Duration // between two looks at the worker's load, jittered by a quarter; default 250 ms
	PollTimeout time.Duration // for one look; default 500 ms
	LostAfter   time.Duration // without a good look or an answered call, the worker counts as lost; default 1 s
	DialTimeout time.Duration // for a connection; default 1 s
	IdleTimeout time.Duration // an idle connection is closed after it; default 30 s; shorter than the Server's
	MaxCalls    int           // in flight, one connection each; default 1024
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.PollEvery = positive(c.PollEvery, 250*time.Millisecond)
	c.PollTimeout = positive(c.PollTimeout, 500*time.Millisecond)
	c.LostAfter = positive(c.LostAfter, time.Second)
	c.DialTimeout = positive(c.DialTimeout, time.Second)
	c.IdleTimeout = positive(c.IdleTimeout, 30*time.Second)
	if c.MaxCalls <= 0 {
		c.MaxCalls = 1024
	}
	return c
}

// Client is a gateway's end of the wire to one worker. Make one with Dial. Its
// methods may be called from many goroutines.
type Client struct {
	config        ClientConfig
	authorization string

	ctx   context.Context // ends with Close
	end   context.CancelFunc
	tasks sync.WaitGroup // the poll, and every Run

	mu       sync.Mutex
	state    state
	missed   error // why the last look at the load was not good
	load     Load
	offers   []functions.Offer
	idle     []*clientConn // the longest unused first
	open     map[*clientConn]struct{}
	inFlight int
	leaving  bool            // Drain was called
	quiet    chan struct{}   // closed when inFlight is 0 again; nil unless a Drain waits
	heard    time.Time       // when its load was last seen
	answered time.Time       // when the worker last answered a call: a sign of life, too
	reach    context.Context // ends when the worker is lost, and dials with it
	cutReach context.CancelFunc
}

// state is what a Client knows of its worker.
type state int

const (
	unheard  state = iota // no good look yet
	serving               // it takes calls
	draining              // it is about to stop
	lost                  // no sign of life for LostAfter
	closed                // Close was called
)

// Dial makes a client and starts looking at the worker's load. It does not wait
// for the worker: see Ready.
func Dial(config ClientConfig) *Client {
	c := &Client{config: config.withDefaults(), open: make(map[*clientConn]struct{})}
	if config.Key != "" {
		c.authorization = bearerScheme + config.Key
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	c.reach, c.cutReach = context.WithCancel(c.ctx)
	c.tasks.Add(1)
	go c.poll()
	return c
}

// Close cuts every call in flight and waits until all of them have returned and
// the polling has ended.
func (c *Client) Close() {
	c.mu.Lock()
	c.state = closed
	c.cutAll()
	c.mu.Unlock()
	c.end()
	c.tasks.Wait()
}

// Functions lists what the worker said it can run when its load was last seen,
// with no slots while it is draining or lost.
func (c *Client) Functions() []functions.Offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.offers)
}

// Busy is how many calls of the function, of all gateways, the worker was running
// when its load was last seen.
func (c *Client) Busy(function lightcone.FunctionName) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load.function(function).Busy
}

// Heard is when the worker last gave a sign of life: zero if it never did. What
// was sent to it before may have been lost since.
func (c *Client) Heard() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answered.After(c.heard) {
		return c.answered
	}
	return c.heard
}

// Ready is nil while the worker gave a sign of life within LostAfter and is not
// draining, and Drain was not called, else why not, in a sentence.
func (c *Client) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readiness()
}

// readiness is Ready for those who hold c.mu.
func (c *Client) readiness() error {
	switch c.state {
	case serving:
		if c.leaving {
			return fmt.Errorf("no more calls are sent to the worker %s", c.config.Address)
		}
		return nil
	case draining:
		return fmt.Errorf("the worker %s is stopping", c.config.Address)
	case closed:
		return fmt.Errorf("the connection to the worker %s has been closed", c.config.Address)
	case lost:
		return fmt.Errorf("the worker %s has not been heard of for %v: %w", c.config.Address, c.config.LostAfter, c.missed)
	default:
		if c.missed != nil {
			return fmt.Errorf("the worker %s has not been heard of yet: %w", c.config.Address, c.missed)
		}
		return fmt.Errorf("the worker %s has not been heard of yet", c.config.Address)
	}
}

// Run sends the call to the worker, once, and waits for its answer, until
// shortly after the call's deadline. The error is a *problem.Error: the
// worker's own as its runner gave it; Overloaded when the call was certainly not
// started; WorkerLost when it was sent and the worker, or the connection, went
// away; DeadlineExceeded when the time is over.
func (c *Client) Run(call *functions.Call, answer *functions.Answer) error {
	*answer = functions.Answer{Body: answer.Body[:0]}
	if !isTarget(call.Query) || !functions.IsFieldValue(call.ContentType) || !functions.IsFieldValue(call.Accept) || !functions.IsFieldValue(call.Traceparent) {
		return problem.New(problem.BadParameter, "The call's query or a header of it has characters that HTTP does not allow there; encode them.")
	}
	if !time.Now().Before(call.Deadline) {
		return problem.New(problem.DeadlineExceeded, "The call's deadline passed before it was sent to a worker; it was not run.")
	}
	if err := c.enter(); err != nil {
		return c.notStarted(err)
	}
	defer c.leave()
	conn, err := c.connection(call.Deadline)
	if err != nil {
		if !time.Now().Before(call.Deadline) {
			return problem.New(problem.DeadlineExceeded, "The call's deadline passed while it was being sent to a worker; it was not run.").Because(err)
		}
		return c.notStarted(err)
	}
	sent, err := conn.exchange(call, answer)
	if err == nil {
		err = c.verdict(conn)
		c.giveBack(conn, true) // the next call's from here on
		return err
	}
	c.giveBack(conn, false)
	*answer = functions.Answer{Body: answer.Body[:0]}
	return c.explain(conn, call, sent, err)
}

// explain says why there is no answer. sent is whether all of the call was
// handed to the kernel: a worker that cannot have all of it has not started it.
func (c *Client) explain(conn *clientConn, call *functions.Call, sent bool, cause error) error {
	switch {
	case !time.Now().Before(call.Deadline) && !conn.cut.Load():
		return problem.New(problem.DeadlineExceeded, "No answer came by the call's deadline.").Because(c.named(cause))
	case !sent:
		return c.notStarted(cause)
	default:
		return problem.New(problem.WorkerLost, "The machine that ran the call went away before it answered.").Because(c.named(cause))
	}
}

// notStarted is for calls of which the worker has seen nothing that it could run.
func (c *Client) notStarted(cause error) error {
	return problem.New(problem.Overloaded, "The call could not be handed to a worker; it was not run.").Because(c.named(cause))
}

func (c *Client) named(cause error) error {
	return fmt.Errorf("worker %s: %w", c.config.Address, cause)
}

var errManyCalls = errors.New("as many calls are in flight as may be")

// enter takes a place for a call, unless the worker is known to take none.
func (c *Client) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.readiness(); err != nil {
		return err
	}
	if c.inFlight >= c.config.MaxCalls {
		return errManyCalls
	}
	c.inFlight++
	c.tasks.Add(1) // not closed, so the poll holds it above 0
	return nil
}

func (c *Client) leave() {
	c.mu.Lock()
	c.inFlight--
	if c.inFlight == 0 && c.quiet != nil {
		close(c.quiet)
		c.quiet = nil
	}
	c.mu.Unlock()
	c.tasks.Done()
}
