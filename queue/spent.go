package queue

import (
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// spent is what an attempt used that is for the call's tenant to pay. It lies in the
// call's record, so that whoever ends the call, and however often, tells the same.
type spent struct {
	Outcome  lightcone.Outcome
	CPU      time.Duration
	BytesIn  int64
	BytesOut int64
}

// spentOf is what an attempt used; nil when the function has not seen the call, or when
// the platform lost it: that is for nobody to pay.
func spentOf(r *functions.Result, bytesIn int64) *spent {
	s := &spent{CPU: max(r.CPU.Truncate(time.Microsecond), 0), BytesIn: bytesIn} // as Server-Timing tells it
	switch {
	case r.Status != 0:
		s.Outcome, s.BytesOut = lightcone.OutcomeAnswered, int64(len(r.Body))
	case r.Problem == problem.FunctionCrashed || r.Problem == problem.OutOfMemory || r.Problem == problem.FunctionFailed:
		s.Outcome = lightcone.OutcomeFailed
	case r.Problem == problem.DeadlineExceeded || r.Problem == problem.Cancelled:
		s.Outcome = lightcone.OutcomeTimeout
	default:
		return nil
	}
	return s
}

// usage is the usage record of a call that has ended; nil when there is nothing to pay.
func (r *record) usage() *lightcone.UsageRecord {
	if r.Spent == nil {
		return nil
	}
	start := r.ID.Time().UTC() // as for calls whose callers wait: records are stored by it
	return &lightcone.UsageRecord{
		Call: r.ID, Tenant: r.Tenant, Function: r.Function, Outcome: r.Spent.Outcome,
		Used:  lightcone.Usage{CPU: r.Spent.CPU, BytesIn: r.Spent.BytesIn, BytesOut: r.Spent.BytesOut},
		Start: start, Duration: max(r.FinishedAt.Sub(start), 0),
	}
}
