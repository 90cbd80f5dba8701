package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lightcone"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// Invocation is what Lightcone says of a queued call.
type Invocation struct {
	ID         string                     `json:"id"`
	Function   lightcone.FunctionName     `json:"function"`
	Status     lightcone.InvocationStatus `json:"status"`
	Attempts   int                        `json:"attempts"`
	CreatedAt  time.Time                  `json:"created_at"`
	FinishedAt *time.Time                 `json:"finished_at"` // nil until Status is final
	Error      *string                    `json:"error"`       // why the last attempt failed; nil when none did
}

// Repeated says, of what Enqueue returned, that the call came before with the same key,
// and that a worker has had it since, or will not: a new one is waiting.
func (i Invocation) Repeated() bool {
	return i.Status != lightcone.InvocationQueued || i.Attempts > 0
}

// EndOfRepeat is err, what the outcome of a call failed with that Enqueue returned as i.
// An *Ended of before says how to have the call all the same.
func (i Invocation) EndOfRepeat(err error) error {
	var ended *Ended
	if i.Status.Final() && errors.As(err, &ended) {
		return &Ended{Invocation: ended.Invocation, Before: true}
	}
	return err
}

// Ended says that a queued call ended without a result.
type Ended struct {
	Invocation Invocation
	Before     bool // it had when it was queued once more
}

// Error says how, and why.
func (e *Ended) Error() string {
	attempts := fmt.Sprintf("%d attempts", e.Invocation.Attempts)
	if e.Invocation.Attempts == 1 {
		attempts = "1 attempt"
	}
	text := fmt.Sprintf("The call %s is %s after %s, without a result", e.Invocation.ID, e.Invocation.Status, attempts)
	if e.Invocation.Error != nil {
		text += ": " + strings.TrimRight(printable(*e.Invocation.Error), ". ")
	}
	text += "."
	if e.Before {
		text += " To run it anew: --series NAME"
	}
	return text
}

// Queueing is how a call is to be queued.
type Queueing struct {
	Key      string // Idempotency-Key: with the same one, the same call is queued once; see ContentKey
	Callback string // URL that hears of the end; empty = none
}

// Enqueue has function queued with input, and returns when it is sure that it will be
// run. With a Key, that is retried as safely as anything else. Errors are those of Call.
func (c *Client) Enqueue(ctx context.Context, function lightcone.FunctionName, params url.Values, input Input, q Queueing) (Invocation, error) {
	return c.enqueue(ctx, function, params, input, q, turn{})
}

func (c *Client) enqueue(ctx context.Context, function lightcone.FunctionName, params url.Values, input Input, q Queueing, turn turn) (Invocation, error) {
	if err := function.Validate(); err != nil {
		return Invocation{}, err
	}
	header := make(http.Header)
	if q.Key != "" {
		header.Set("Idempotency-Key", q.Key)
	}
	if q.Callback != "" {
		header.Set("X-Callback-Url", q.Callback)
	}
	var invocation Invocation
	_, err := c.exchange(ctx, exchange{
		method: http.MethodPost, path: withQuery("/async-function/"+string(function), params), input: &input, header: header, want: http.StatusAccepted, turn: turn,
		receive: func(_ Answer, body io.Reader) error { return readInvocation(body, &invocation) },
	})
	return invocation, err
}

// Invocation asks how a queued call is.
func (c *Client) Invocation(ctx context.Context, id string) (Invocation, error) {
	return c.about(ctx, http.MethodGet, id, turn{})
}

// Cancel takes a queued call back, if it has not ended, and says how it is then.
func (c *Client) Cancel(ctx context.Context, id string) (Invocation, error) {
	return c.about(ctx, http.MethodDelete, id, turn{})
}

func (c *Client) about(ctx context.Context, method, id string, turn turn) (invocation Invocation, err error) {
	_, err = c.exchange(ctx, exchange{
		method: method, path: "/v1/invocations/" + url.PathEscape(id), want: http.StatusOK, turn: turn,
		receive: func(_ Answer, body io.Reader) error { return readInvocation(body, &invocation) },
	})
	return invocation, err
}

// Result fetches what a queued call came to, as Call would have answered it.
func (c *Client) Result(ctx context.Context, id string, receive func(Answer, io.Reader) error) (Answer, error) {
	return c.result(ctx, id, receive, turn{})
}

func (c *Client) result(ctx context.Context, id string, receive func(Answer, io.Reader) error, turn turn) (Answer, error) {
	return c.exchange(ctx, exchange{
		method: http.MethodGet, path: "/v1/invocations/" + url.PathEscape(id) + "/result", want: http.StatusOK, receive: receive, turn: turn,
	})
}

// longestDocument bounds what is read of an answer about a queued call.
const longestDocument = 64 << 10

func readInvocation(body io.Reader, into *Invocation) error {
	text, err := io.ReadAll(io.LimitReader(body, longestDocument))
	if err != nil {
		return err
	}
	var read Invocation
	if err := json.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("the answer about a queued call is not what it should be: %w", err)
	}
	if _, err := lightcone.ParseCallID(read.ID); err != nil {
		return fmt.Errorf("the answer about a queued call: %w", err)
	}
	*into = read
	return nil
}

// The waits between two questions about a call: the first is short, for most are
// done soon, and each is a half longer than the one before, give or take a quarter. Who
// has waited for less than young would notice a longer one.
const (
	firstLook    = 100 * time.Millisecond
	youngestLook = 400 * time.Millisecond // the longest wait of the young; half a second with its quarter
	longestLook  = 3 * time.Second
	young        = 30 * time.Second
)

// lookAgain is how long to wait after so many questions about a call (from 1), for
// whoever has waited for its end so long. random is uniform in [0, 1).
func lookAgain(looks int, waited time.Duration, random float64) time.Duration {
	longest := longestLook
	if waited < young {
		longest = youngestLook
	}
	wait := firstLook
	for range looks - 1 {
		if wait = wait * 3 / 2; wait >= longest {
			wait = longest
			break
		}
	}
	return time.Duration(float64(wait) * (0.75 + random/2))
}

// AwaitEnd asks how a queued call is, ever more seldom, until it has ended.
func (c *Client) AwaitEnd(ctx context.Context, id string) (Invocation, error) {
	began := time.Now()
	for looks := 1; ; looks++ {
		invocation, err := c.Invocation(ctx, id)
		if err != nil || invocation.Status.Final() {
			return invocation, err
		}
		if err := retry.Pause(ctx, lookAgain(looks, time.Since(began), rand.Float64())); err != nil {
			return invocation, err
		}
	}
}

// outcome fetches the result of a call that has ended; an *Ended when there is none.
func (c *Client) outcome(ctx context.Context, invocation Invocation, receive func(Answer, io.Reader) error, turn turn) (Answer, error) {
	if invocation.Status == lightcone.InvocationCancelled || invocation.Status == lightcone.InvocationDead {
		return Answer{CallID: invocation.ID}, &Ended{Invocation: invocation}
	}
	answer, err := c.result(ctx, invocation.ID, receive, turn)
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Kind == problem.NotFinished {
		return answer, &Ended{Invocation: invocation}
	}
	return answer, err
}

// Outcome waits for a queued call's end and fetches its result, as Call would have
// answered it. Errors are those of Call, and *Ended.
func (c *Client) Outcome(ctx context.Context, id string, receive func(Answer, io.Reader) error) (Answer, error) {
	invocation, err := c.AwaitEnd(ctx, id)
	if err != nil {
		return Answer{CallID: id}, err
	}
	return c.outcome(ctx, invocation, receive, turn{})
}
