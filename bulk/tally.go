package bulk

import (
	"context"
	"fmt"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// tally is a share's books. running's mu guards it.
type tally struct {
	Progress
	refused int64 // objects for which the parameters were refused
	refusal string
}

// refusalsBeforeEnd is how many objects in a row must have been refused for their
// parameters, with no other answer yet, for the share to end: an object or two may
// have a shape that the parameters do not fit.
const refusalsBeforeEnd = 20

func newTally(c Config, earlier Progress, now time.Time) tally {
	t := tally{Progress: Progress{
		Job: c.Job, Share: c.Share, Of: c.Shares, Runs: earlier.Runs + 1, Started: earlier.Started, Updated: now,
		BytesIn: earlier.BytesIn, BytesOut: earlier.BytesOut, CPU: earlier.CPU,
	}}
	if t.Started.IsZero() {
		t.Started = now
	}
	return t
}

// refusedAlike says whether at least so many objects were refused for their
// parameters, and none was not.
func (t *tally) refusedAlike(least int64) bool {
	return t.refused >= least && t.refused == t.Failed && t.Done+t.Skipped+t.GivenUp == 0
}

func (r *running) refusal() error {
	return fmt.Errorf("bulk: the parameters %q were refused for each of the first %d objects: %s", r.work.query, r.tally.refused, r.tally.refusal)
}

// spent notes what an attempt cost, whatever came of it.
func (r *running) spent(bytesIn int, answer *functions.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.CPU += answer.CPU
	if answer.Exec > 0 {
		r.tally.BytesIn += int64(bytesIn)
	}
}

func (r *running) done(c candidate, id fingerprint, s *scratch) {
	r.journal.add(record{
		Key: c.Key, Work: id.String(), Output: c.output(s.answer.ContentType), Type: s.answer.ContentType, Size: int64(len(s.answer.Body)),
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Done++
	r.tally.BytesOut += int64(len(s.answer.Body))
}

// skipped notes an object that was finished before, or whose output could not be
// looked at.
func (r *running) skipped(ctx context.Context, c candidate, v *verdict) {
	if v != nil {
		if ctx.Err() == nil {
			r.givenUp(c, *v)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Skipped++
}

// bad notes an object without an output. known says that a journal has it.
func (r *running) bad(c candidate, id fingerprint, v verdict, known bool) {
	r.failures.add(Failure{Key: c.Key, Problem: v.kind, Detail: v.detail})
	if v.remember && !known {
		r.journal.add(record{Key: c.Key, Work: id.String(), Problem: v.kind, Detail: v.detail})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Failed++
	if v.kind == problem.BadParameter {
		r.tally.refused++
		r.tally.refusal = v.detail
	}
	if r.tally.refusedAlike(refusalsBeforeEnd) {
		r.end(r.refusal())
	}
}

// givenUp notes an object that the platform or the storage failed at. Too many
// of them end the share: another time or machine may do better.
func (r *running) givenUp(c candidate, v verdict) {
	r.config.Logger.Warn("an object was given up", "key", c.Key, "problem", v.kind, "detail", v.detail)
	r.failures.add(Failure{Key: c.Key, Problem: v.kind, Detail: v.detail})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.GivenUp++
	if r.tally.GivenUp > int64(r.config.MostGivenUp) {
		r.end(fmt.Errorf("%d objects could not be read, run or written, the last one %q (%s): %s", r.tally.GivenUp, c.Key, v.kind, v.detail))
	}
}
