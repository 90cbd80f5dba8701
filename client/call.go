package client

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"lightcone"
	"lightcone/internal/retry"
)

const (
	// defaultTimeout bounds one attempt when the caller leaves the call's
	// deadline to the function: longer than any function's default.
	defaultTimeout = 60 * time.Second
	// transferSlack is what an attempt may take on top of the call's own
	// timeout: the bytes' way there and back, and the server's own 504.
	transferSlack = 5 * time.Second
)

// Client calls one Lightcone. Make it with New. It is safe for concurrent use.
type Client struct {
	base    string
	key     string
	timeout time.Duration
	slack   time.Duration
	http    *http.Client
	budget  *retry.Budget
	policy  Policy
	holds   [requestKinds]atomic.Int64 // no attempt of a kind starts before this time (Unix nanoseconds)
	retries atomic.Int64
}

// Options are what a Client needs to know.
type Options struct {
	API      string        // the front door's address, such as http://127.0.0.1:8080
	Key      string        // the API key; empty sends none
	Timeout  time.Duration // for one attempt, sent as X-Timeout; 0 leaves it to the function
	Parallel int           // connections kept open; at least 1
	Policy   Policy        // the zero Policy is DefaultPolicy
}

// New makes a client. Its error says what is wrong with the address. Close it
// when done.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.API)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("the API address %q is not usable: want one such as http://127.0.0.1:8080", o.API)
	}
	if o.Policy == (Policy{}) {
		o.Policy = DefaultPolicy
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = max(1, o.Parallel)
	transport.MaxIdleConns = transport.MaxIdleConnsPerHost
	transport.DisableCompression = true // results come as the function made them
	return &Client{
		base:    strings.TrimRight(o.API, "/"),
		key:     o.Key,
		timeout: o.Timeout,
		slack:   transferSlack,
		http:    &http.Client{Transport: transport},
		budget:  NewBudget(),
		policy:  o.Policy,
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Retries is how many attempts so far were not a call's first.
func (c *Client) Retries() int64 { return c.retries.Load() }

// Input is what a call sends. Open is called once an attempt, and each reader
// gives exactly Size bytes.
type Input struct {
	ContentType string
	Size        int64
	Open        func() (io.ReadCloser, error)
}

// Call runs function on input. An answer's body goes to receive while it
// arrives; receive may run again after a connection broke, and must start over.
// It must not keep the answer's body.
//
// Errors: *Refusal when Lightcone answered no, *Unreachable when it could not be
// asked, *Lost when its answer did not arrive, else what input or receive said.
func (c *Client) Call(ctx context.Context, function lightcone.FunctionName, params url.Values, input Input, receive func(Answer, io.Reader) error) (Answer, error) {
	return c.call(ctx, function, params, input, receive, turn{})
}

func (c *Client) call(ctx context.Context, function lightcone.FunctionName, params url.Values, input Input, receive func(Answer, io.Reader) error, turn turn) (Answer, error) {
	if err := function.Validate(); err != nil {
		return Answer{}, err
	}
	return c.exchange(ctx, exchange{
		method: http.MethodPost, path: withQuery("/function/"+string(function), params), input: &input, waits: true, want: http.StatusOK, receive: receive, turn: turn,
	})
}

func withQuery(path string, params url.Values) string {
	if len(params) == 0 {
		return path
	}
	return path + "?" + params.Encode()
}

// exchange is a request and what is done with its good answer.
type exchange struct {
	method, path string
	input        *Input // nil = no body
	header       http.Header
	waits        bool // the answer comes when the function has run
	want         int  // the status of a good answer
	receive      func(Answer, io.Reader) error
	turn         turn // had by each attempt
}

// Kinds of requests: a Lightcone that takes no more calls still answers questions
// about those that it has.
const (
	callRequest = iota
	questionRequest
	requestKinds
)

func (e exchange) kind() int {
	if e.input != nil {
		return callRequest
	}
	return questionRequest
}

// exchange sends the request, again as far as the policy allows.
func (c *Client) exchange(ctx context.Context, e exchange) (Answer, error) {
	c.budget.Deposit()
	for attempt := 1; ; attempt++ {
		if err := c.enter(ctx, e); err != nil {
			return Answer{}, err
		}
		answer, err := c.attempt(ctx, e)
		answer.Attempts = attempt
		if err == nil || ctx.Err() != nil {
			e.turn.leave(turnAnswered)
			return answer, err
		}
		verdict := c.policy.Decide(err, attempt, rand.Float64())
		for kind := range c.holds {
			if verdict.HoldAll || verdict.Hold && kind == e.kind() {
				c.holdUntil(kind, time.Now().Add(verdict.Wait))
			}
		}
		if verdict.Crowded {
			e.turn.leave(turnCrowded)
		} else {
			e.turn.leave(turnAnswered)
		}
		if !verdict.Retry || (verdict.Charged && !c.budget.Withdraw()) {
			return answer, err
		}
		c.retries.Add(1)
		if err := retry.Pause(ctx, verdict.Wait); err != nil {
			return answer, err
		}
	}
}

// enter waits until an attempt may start: nothing holds its kind back, and it has its turn.
func (c *Client) enter(ctx context.Context, e exchange) error {
	for {
		if err := c.waitForHold(ctx, e.kind()); err != nil {
			return err
		}
		if err := e.turn.take(ctx); err != nil {
			return err
		}
		if c.held(e.kind()) <= 0 {
			return nil
		}
		e.turn.leave(turnUnused) // held back while it waited for its turn
	}
}

// attempt sends the request once and passes a good answer's body on.
func (c *Client) attempt(ctx context.Context, e exchange) (Answer, error) {
	bound := defaultTimeout
	if c.timeout > 0 && e.waits {
		bound = c.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, bound+c.slack)
	defer cancel()
	request, sent, err := c.request(ctx, e)
	if err != nil {
		return Answer{}, err
	}
	began := time.Now()
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, transportError(c.base, err)
	}
	defer response.Body.Close()
	answer := answerOf(response, sent)
	if response.StatusCode != e.want {
		answer.Took = time.Since(began)
		return answer, refusalOf(response, time.Now())
	}
	counted := &countingReader{reader: response.Body}
	err = e.receive(answer, counted)
	answer.BytesOut = counted.count
	answer.Took = time.Since(began)
	if counted.err != nil {
		return answer, transportError(c.base, counted.err)
	}
	return answer, err
}

// request makes an attempt's request, and says how long its body is.
func (c *Client) request(ctx context.Context, e exchange) (request *http.Request, sent int64, err error) {
	var body io.ReadCloser = http.NoBody
	if e.input != nil {
		if body, err = e.input.Open(); err != nil {
			return nil, 0, err
		}
	}
	request, err = http.NewRequestWithContext(ctx, e.method, c.base+e.path, body)
	if err != nil {
		_ = body.Close() // nothing was read
		return nil, 0, fmt.Errorf("make the request to %s%s: %w", c.base, e.path, err)
	}
	if e.header != nil {
		request.Header = e.header.Clone()
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	if e.input == nil {
		return request, 0, nil
	}
	request.ContentLength = e.input.Size
	request.GetBody = e.input.Open
	if e.input.Size == 0 {
		request.Body = http.NoBody
		_ = body.Close()
	}
	request.Header.Set("Content-Type", e.input.ContentType)
	if c.timeout > 0 {
		request.Header.Set("X-Timeout", c.timeout.String())
	}
	return request, e.input.Size, nil
}

// countingReader counts what was read, and keeps a read error apart from what
// the reader's user did with it.
type countingReader struct {
	reader io.Reader
	count  int64
	err    error
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	r.count += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func (c *Client) holdUntil(kind int, t time.Time) {
	until := t.UnixNano()
	for {
		old := c.holds[kind].Load()
		if until <= old || c.holds[kind].CompareAndSwap(old, until) {
			return
		}
	}
}

// held is how long no request of the kind may be sent; zero or less when one may.
func (c *Client) held(kind int) time.Duration { return time.Until(time.Unix(0, c.holds[kind].Load())) }

// waitForHold waits until the Client may send the kind again, plus a random while, so
// that the requests held back do not all come at once.
func (c *Client) waitForHold(ctx context.Context, kind int) error {
	for {
		wait := c.held(kind)
		if wait <= 0 {
			return ctx.Err()
		}
		jitter := time.Duration(rand.Float64() * float64(c.policy.Base))
		if err := retry.Pause(ctx, wait+jitter); err != nil {
			return err
		}
	}
}
