package queue

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone/internal/problem"
)

// What trying again does not help, besides errOutrun.
var (
	errShareFull = errors.New("queue: the lane holds the tenant's share")
	errFull      = errors.New("queue: the stream is full")
	errClosed    = errors.New("queue: the client is closed")
)

// Error codes of JetStream (server/errors.json of nats-server).
const (
	codeWrongSequence   jetstream.ErrorCode = 10071
	codeSequencePending jetstream.ErrorCode = 10164 // another write to the subject is under way
	codeNotStored       jetstream.ErrorCode = 10077
	codeTooLong         jetstream.ErrorCode = 10054
	codeHeadTooLong     jetstream.ErrorCode = 10097
	codeNoMessage       jetstream.ErrorCode = 10037
)

// refusal turns JetStream's answer to a publish into what it means. What it returns
// unchanged may be tried again: nobody was there, or nobody knows.
func refusal(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return errClosed
	case !errors.As(err, &api):
		return err
	}
	switch api.ErrorCode {
	case codeWrongSequence, codeSequencePending:
		return errOutrun
	case codeTooLong, codeHeadTooLong:
		return problem.New(problem.TooLarge, "The call is too large for the queue.").Because(err)
	case codeNotStored:
		switch {
		case strings.Contains(api.Description, "per subject"):
			return errShareFull
		case strings.HasPrefix(api.Description, "maximum "):
			return errFull
		}
	}
	return err
}

// lasting says whether a publish that failed so would fail so again.
func lasting(err error) bool {
	var found *problem.Error
	return errors.Is(err, errOutrun) || errors.Is(err, errShareFull) || errors.Is(err, errFull) || errors.Is(err, errClosed) || errors.As(err, &found)
}

// retryAfter is when it is worth to ask again a queue that has no quorum, or no room: a
// leader is elected within a few seconds.
const retryAfter = 2 * time.Second

// asProblem is an error as the callers of a Client get it.
func asProblem(err error) error {
	var found *problem.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &found):
		return found
	default:
		return unavailable("The queue has no quorum, or cannot be reached: try again.", err)
	}
}

func unavailable(detail string, cause error) *problem.Error {
	p := problem.New(problem.Overloaded, "%s", detail).Because(cause)
	p.RetryAfter = retryAfter
	return p
}

// uncertain is asProblem for a call that may have been accepted all the same.
func uncertain(err error) error {
	var found *problem.Error
	if errors.As(err, &found) {
		return found
	}
	return unavailable("The queue did not confirm the call in time. It may have been accepted all the same: repeating it with the same Idempotency-Key is safe.", err)
}

// within is ctx with a deadline: its own, or patience from now.
func within(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if _, set := ctx.Deadline(); set {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience)
}
