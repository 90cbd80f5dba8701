package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// What callers tell apart, with errors.Is.
var (
	// ErrConflict: the job has changed since the index was read. Read again, decide again.
	ErrConflict = errors.New("the job has changed since it was read")
	// ErrDeploying: Nomad does not scale a job while one of its deployments is active.
	ErrDeploying = errors.New("a deployment of the job is under way")
	// ErrNotFound: no such job, group, allocation or node.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: the token's policies do not allow this.
	ErrForbidden = errors.New("the Nomad token does not allow this")
	// ErrUnreachable: Nomad did not answer, or has no leader. A write may have been done all the same.
	ErrUnreachable = errors.New("there is no answer from Nomad")
)

// Phrases of Nomad's answers that have no status code of their own
// (RegisterEnforceIndexErrPrefix and Job.Scale in its nomad/job_endpoint.go).
const (
	conflictPhrase  = "Enforcing job modify index"
	deployingPhrase = "job scaling blocked due to active deployment"
)

// awayPhrases are in the answers of an agent that has no server or no leader to ask.
var awayPhrases = []string{
	"No cluster leader", "No path to region", "No path to node", "No known Nomad servers",
	"rpc error: EOF", "connection refused", "connection reset", "leadership lost", "node is not the leader",
}

// classify is the sentinel for an answer of Nomad's that is not 200; nil when
// callers have no reason to tell it from others.
func classify(status int, body string) error {
	switch {
	case strings.Contains(body, conflictPhrase):
		return ErrConflict
	case strings.Contains(body, deployingPhrase):
		return ErrDeploying
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return ErrForbidden
	case status == http.StatusTooManyRequests || status == http.StatusBadGateway ||
		status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return ErrUnreachable
	case status == http.StatusInternalServerError &&
		slices.ContainsFunc(awayPhrases, func(phrase string) bool { return strings.Contains(body, phrase) }):
		return ErrUnreachable
	default:
		return nil
	}
}

// failed makes the error of a request: what was tried, which of the errors above
// it is, and Nomad's own words. The context is the caller's: its end is not
// Nomad's fault.
func (c *Client) failed(ctx context.Context, err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	answer, answered := errors.AsType[api.UnexpectedResponseError](err)
	if !answered {
		return fmt.Errorf("%s: %w at %s (%w); is its agent running?", what, ErrUnreachable, c.address, transportCause(err))
	}
	body := oneLine(answer.Body())
	kind := classify(answer.StatusCode(), answer.Body())
	if kind == nil {
		return fmt.Errorf("%s: Nomad answered %d: %s", what, answer.StatusCode(), body)
	}
	return fmt.Errorf("%s: %w (Nomad at %s answered %d: %s)", what, kind, c.address, answer.StatusCode(), body)
}

// transportCause leaves out the URL, which says nothing that the caller's sentence
// does not.
func transportCause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// oneLine keeps a message of several lines readable in the middle of a sentence.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
