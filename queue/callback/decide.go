package callback

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"lightcone/internal/retry"
)

// Outcome is what becomes of a notice.
type Outcome string

// The outcomes of an attempt.
const (
	Delivered Outcome = "delivered" // the receiver has it
	Again     Outcome = "again"     // try again, after a while
	GivenUp   Outcome = "given up"  // it will not be tried again
)

// Verdict is what an attempt came to.
type Verdict struct {
	Outcome   Outcome
	After     time.Duration // of Again: how long to wait
	Reason    string        // of Again and GivenUp: why, as a sentence for the log
	Uncounted bool          // of Again: this side did not make the attempt, or broke it off: it does not count
}

// Retries end at the first of these.
const (
	MostAttempts = 12             // the first and eleven retries
	MostAge      = 24 * time.Hour // since the call ended
)

const (
	firstWait      = 30 * time.Second // at most, before the first retry; doubles with each
	longestWait    = 6 * time.Hour
	shortestWait   = time.Second
	mostRetryAfter = time.Hour // a receiver that asks for more is asked again by then
)

// Reply is what an attempt heard.
type Reply struct {
	Status     int           // of the receiver's answer; 0 if there was none
	RetryAfter time.Duration // what a 429 or 503 asks for; 0 if nothing
	Failure    string        // why there was no answer
	Refused    bool          // there was none because the Rules forbid where it would have gone
}

// Decide says what follows from the reply to the attempt (1 or more) at a notice of a call
// that ended so long ago. random is in [0, 1).
//
// Any 2xx has delivered. 410 Gone and a forbidden address end it: the one asks for that,
// and to ask for the other again would be to give an attacker more tries. Everything
// else is tried again, other 4xx too: an endpoint that is just being deployed answers
// 404, and one whose secret is being changed 401, and what has no success in it
// ends with the attempts. A 301, 302 or 303 counts as such a failure: it would have the POST become
// a GET, without the result. The waits are exponential with full jitter (retry.BackOff):
// at most 14.5 hours in sum.
func Decide(reply Reply, attempt int, age time.Duration, random float64) Verdict {
	reason := reply.Failure
	if reply.Status != 0 {
		reason = fmt.Sprintf("the receiver answered %d", reply.Status)
	}
	switch {
	case reply.Status >= 200 && reply.Status <= 299:
		return Verdict{Outcome: Delivered}
	case reply.Status == http.StatusGone, reply.Refused:
		return Verdict{Outcome: GivenUp, Reason: reason + "."}
	}
	wait := max(retry.BackOff(attempt, firstWait, longestWait, random), min(reply.RetryAfter, mostRetryAfter), shortestWait)
	switch {
	case attempt >= MostAttempts:
		return Verdict{Outcome: GivenUp, Reason: fmt.Sprintf("%s; this was attempt %d, the last.", reason, attempt)}
	case age > MostAge-wait:
		return Verdict{Outcome: GivenUp, Reason: fmt.Sprintf("%s; the next attempt would be more than %v after the call's end.", reason, MostAge)}
	}
	return Verdict{Outcome: Again, After: wait, Reason: reason + "."}
}

// retryAfter reads a Retry-After (RFC 9110, section 10.2.3): seconds, or a date. What is
// neither, or has passed, is 0.
func retryAfter(status int, text string, now time.Time) time.Duration {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}
