package queue

import (
	"fmt"
	"strings"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// step is what a worker does with a delivered call next.
type step string

const (
	stepRun    step = "run"    // write the record, run the call
	stepForget step = "forget" // it has ended: do what its end leaves to do, acknowledge
	stepDrop   step = "drop"   // a later generation has taken over: acknowledge, touch nothing
	stepBury   step = "bury"   // write the dead letter, then the record
	stepLater  step = "later"  // write the record, give the call back for some time
	stepSettle step = "settle" // write the record: it has ended
)

// take decides on a call that was delivered to a worker. found is nil when the call
// has no record; after is what the record becomes.
func take(found *record, j *job, now time.Time, l Limits) (after record, next step) {
	if found == nil {
		// A call that was acknowledged to its caller has a record until Keep after its
		// end. So this one was never acknowledged and may be run, or it is long over.
		if now.Sub(j.QueuedAt) > l.Keep {
			return record{}, stepDrop
		}
		fresh := j.newRecord()
		found = &fresh
	}
	switch {
	case found.Generation > j.Generation:
		return *found, stepDrop
	case found.Generation < j.Generation: // a redrive has got no further than to queue it
		if found.Status.Final() && found.Status != lightcone.InvocationDead {
			return *found, stepDrop
		}
		after = j.newRecord()
	case found.Status.Final():
		return *found, stepForget
	default:
		after = *found
	}
	lost := after.Status == lightcone.InvocationRunning
	switch {
	case after.Attempts >= l.Attempts:
		if lost {
			after.Error = "The worker that ran the call was lost."
		}
		return dead(after, fmt.Sprintf("All %d attempts are used up.", l.Attempts), now), stepBury
	case now.Sub(after.QueuedAt) > l.MaxAge:
		return dead(after, fmt.Sprintf("It was not done within %v.", l.MaxAge), now), stepBury
	}
	after.Status = lightcone.InvocationRunning
	after.Attempts++
	after.StartedAt = now
	return after, stepRun
}

// dead is a record that was given up for a reason.
func dead(r record, reason string, now time.Time) record {
	if r.Error != "" {
		reason += " The last: " + r.Error
	}
	r.Status, r.Error, r.FinishedAt = lightcone.InvocationDead, reason, now
	return r
}

// verdict is what an attempt came to.
type verdict string

const (
	verdictSucceeded verdict = "succeeded"
	verdictFailed    verdict = "failed"
	verdictRetry     verdict = "retry"
	verdictUnseen    verdict = "unseen"  // the function was not given the call
	verdictRefused   verdict = "refused" // nor is it ever going to be
)

// judge says what an attempt came to, and in its Result the answer, or why there is none.
func judge(err error, a *functions.Answer) (verdict, functions.Result) {
	if err != nil {
		found := problem.Of(err)
		return verdictOf(found.Kind), functions.Result{Problem: found.Kind, Body: []byte(found.Detail), CPU: a.CPU, Exec: a.Exec}
	}
	result := functions.Result{
		Status: a.Status, Problem: a.Problem, ContentType: a.ContentType, Vary: a.Vary, Body: a.Body, CPU: a.CPU, Exec: a.Exec,
	}
	switch {
	case a.Problem != "":
		return verdictOf(a.Problem), result
	case a.Status >= 500:
		return verdictRetry, result
	case a.Status >= 400:
		return verdictFailed, result
	default:
		return verdictSucceeded, result
	}
}

// verdictOf is the verdict on an attempt that came to a problem.
func verdictOf(kind problem.Kind) verdict {
	switch kind {
	case problem.BadParameter, problem.UnsupportedMedia, problem.CorruptInput, problem.TooManyPixels,
		problem.TooLarge:
		return verdictFailed
	case problem.Quarantined:
		return verdictRefused
	case problem.Overloaded, problem.LimitReached, problem.NotFound:
		return verdictUnseen
	default:
		return verdictRetry
	}
}

// why is the sentence that the record keeps of an attempt without a good answer.
func why(r *functions.Result) string {
	const most = 500
	switch {
	case r.Problem != "":
		return strings.ToValidUTF8(string(r.Body[:min(len(r.Body), most)]), "")
	case r.Status >= 400:
		return fmt.Sprintf("The function answered with status %d.", r.Status)
	default:
		return ""
	}
}

// end decides on a call whose attempt has come to a verdict: running is its record, and
// wait is for how long it goes back when it is to be tried later. random is in [0, 1).
func end(running record, v verdict, result *functions.Result, now time.Time, random float64, l Limits) (after record, next step, wait time.Duration) {
	after = running
	after.Error = why(result)
	result.Waited = running.StartedAt.Sub(running.QueuedAt)
	switch v {
	case verdictSucceeded, verdictFailed, verdictRefused:
		after.Status = lightcone.InvocationFailed
		switch v {
		case verdictSucceeded:
			after.Status = lightcone.InvocationSucceeded
		case verdictRefused:
			after.Attempts--
		}
		after.FinishedAt = now
		after.Result = headOf(result)
		return after, stepSettle, 0
	case verdictUnseen:
		after.Attempts--
		wait = retry.BackOff(1, l.BackOffBase, l.BackOffMost, random)
	default:
		if after.Attempts >= l.Attempts {
			return dead(after, fmt.Sprintf("All %d attempts are used up.", l.Attempts), now), stepBury, 0
		}
		wait = retry.BackOff(after.Attempts, l.BackOffBase, l.BackOffMost, random)
	}
	if now.Add(wait).Sub(after.QueuedAt) > l.MaxAge {
		return dead(after, fmt.Sprintf("It was not done within %v.", l.MaxAge), now), stepBury, 0
	}
	after.Status = lightcone.InvocationQueued
	return after, stepLater, wait
}

// cancelled decides on a cancel, and says whether there is something to write. What an
// attempt that runs has spent is for its worker to note (see noted).
func cancelled(found record, now time.Time) (after record, changed bool) {
	if found.Status.Final() {
		return found, false
	}
	if found.Status == lightcone.InvocationRunning {
		found.Spent = nil
	}
	found.Status, found.FinishedAt, found.Error = lightcone.InvocationCancelled, now, ""
	return found, true
}

// noted decides whether the attempt that a cancel stopped adds to the record what it
// spent: once, whoever does.
func noted(found *record, generation int, s *spent) (after record, changed bool) {
	if s == nil || found == nil || found.Status != lightcone.InvocationCancelled || found.Generation != generation || found.Spent != nil {
		return record{}, false
	}
	after = *found
	after.Spent = s
	return after, true
}

// early says that a dead letter's call has not ended: whoever wrote the letter is about to
// say so, or was overtaken by another attempt. The message of before is still there, and
// whatever becomes of it, the letter must not be queued beside it.
func early(found *record, l *letter) bool {
	return found != nil && found.Generation == l.Job.Generation && !found.Status.Final()
}

// redriven decides on a redrive of a dead letter: the job to queue, and whether there
// is reason to. There is none when the letter was left behind by a redrive that came
// this far, or by an attempt that another's good end overtook.
func redriven(found *record, l *letter, now time.Time) (job, bool) {
	if found != nil {
		ended := found.Status.Final() && found.Status != lightcone.InvocationDead
		if found.Generation > l.Job.Generation || ended {
			return job{}, false
		}
	}
	again := l.Job
	again.Generation++
	again.QueuedAt = now
	if again.Owed == nil {
		ended := &l.Record
		if found != nil && found.Generation == l.Job.Generation && found.Status.Final() { // the end that was told of
			ended = found
		}
		again.Owed = ended.usage()
	}
	return again, true
}
