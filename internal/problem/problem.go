// Package problem is how Lightcone's parts tell each other what went wrong: a
// kind that programs act on, and a sentence that people act on.
//
// Invariants: a kind is a stable word that clients see as
// urn:lightcone:problem:<kind>; an error keeps its kind through wrapping; the
// sentence names what failed, with what input, and what to do.
//
// It does not know HTTP: only the gateway turns kinds into statuses.
package problem

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong, in a word.
type Kind string

// The kinds, each with the party whose fault it is in the usual case.
const (
	BadParameter     Kind = "bad-parameter"      // caller: a query parameter or header is unknown or out of range
	Unauthenticated  Kind = "unauthenticated"    // caller: no key, or one nobody issued
	Forbidden        Kind = "forbidden"          // caller: the key's scopes do not allow this
	NotFound         Kind = "not-found"          // caller: no such route or function
	MethodNotAllowed Kind = "method-not-allowed" // caller: the route exists, the method does not
	RequestTimeout   Kind = "request-timeout"    // caller: the body did not arrive in time
	LengthMismatch   Kind = "length-mismatch"    // caller: the body is shorter than its Content-Length
	TooLarge         Kind = "too-large"          // caller: the body is over the limit
	UnsupportedMedia Kind = "unsupported-media"  // caller: not an input that this function reads
	CorruptInput     Kind = "corrupt-input"      // caller: the right kind of input, but damaged or cut short
	TooManyPixels    Kind = "too-many-pixels"    // caller: the image would unfold to more than the limit
	Quarantined      Kind = "quarantined"        // caller: the input has killed two slots lately; it was not run again
	KeyReused        Kind = "key-reused"         // caller: the Idempotency-Key came before, with another call
	NotFinished      Kind = "not-finished"       // caller: the accepted call has no result yet, or will never have one
	Cancelled        Kind = "cancelled"          // caller: the call was cancelled, before or while it ran
	LimitReached     Kind = "limit-reached"      // caller: the tenant's own rate, concurrency or quota
	FunctionCrashed  Kind = "function-crashed"   // function: its process died during the call
	OutOfMemory      Kind = "out-of-memory"      // function: its process outgrew its memory bound
	FunctionFailed   Kind = "function-failed"    // function: it answered something that is not HTTP, or failed inside
	Overloaded       Kind = "overloaded"         // platform: shedding; the call was not run
	WorkerLost       Kind = "worker-lost"        // platform: the machine that ran the call went away before it answered
	DeadlineExceeded Kind = "deadline-exceeded"  // either: the call's one deadline passed
	Internal         Kind = "internal"           // platform: a bug of ours
)

// Error is a failure with its kind. Detail is shown to the caller; Err is not.
type Error struct {
	Kind       Kind
	Detail     string        // one sentence: what failed, with what input, what to do
	RetryAfter time.Duration // when trying again can help; 0 = it does not say
	Quota      string        // of LimitReached: which limit, in a word that programs act on
	Err        error         // the cause, for logs; may be nil
}

// New makes an error of the given kind whose detail is formatted like fmt.Sprintf.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Because sets the cause, which logs show and callers do not.
func (e *Error) Because(cause error) *Error {
	e.Err = cause
	return e
}

// Error is the detail, with the kind in front and the cause behind.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Detail, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Detail)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of finds the problem in err's chain. An error without one is Internal: its
// text may hold secrets or paths, so the caller gets a fixed sentence.
func Of(err error) *Error {
	var found *Error
	if errors.As(err, &found) {
		return found
	}
	return New(Internal, "Lightcone failed inside; the operator's log has the cause.").Because(err)
}
