package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"lightcone"
	"lightcone/internal/retry"
)

// QueuedJob is a job whose calls are queued: what has been accepted is run also when
// whoever asked for it is gone. Done again, it finds what it queued before and runs
// nothing twice, as long as Lightcone remembers it (24 h, unless configured).
type QueuedJob struct {
	Job
	Callback string // URL that hears of the end of each call; empty = none
	Series   string // the same files in another series are other calls; see ContentKey

	// Detach ends with the acceptance: the job waits for no results.
	Detach bool
	// Accepted hears of each call that is queued; several goroutines may be in it.
	Accepted func(file string, invocation Invocation)
}

// mostOutstanding is how many calls of a job are in the queue, at most, while it waits
// for their results.
const mostOutstanding = 256

// RunQueued does the job, and tells its progress as Run does. Of all its requests, no
// more than the job's Parallel are under way at once.
func (c *Client) RunQueued(ctx context.Context, job QueuedJob, tell func(Progress)) (Summary, error) {
	work, files, err := c.prepare(job.Job)
	if err != nil {
		return Summary{}, err
	}
	work.summary.Queued = true
	q := &queuedRun{folderRun: work, queued: job}
	outstanding := mostOutstanding
	if job.Detach {
		outstanding = job.Parallel
	}
	return q.run(ctx, files, outstanding, q.one, tell), nil
}

// queuedRun is a QueuedJob under way.
type queuedRun struct {
	*folderRun
	queued QueuedJob
}

// one queues the call for one file, waits for its result and keeps the books.
func (q *queuedRun) one(ctx context.Context, file string) error {
	if q.skips(file) {
		return nil
	}
	began := time.Now()
	answer, err := q.call(ctx, file)
	answer.Took = time.Since(began)
	q.note(ctx, file, answer, err)
	return err
}

func (q *queuedRun) call(ctx context.Context, file string) (Answer, error) {
	input, err := q.input(file)
	if err != nil {
		return Answer{}, err
	}
	key, err := ContentKey(q.queued.Series, q.job.Function, q.job.Params, input, q.queued.Callback)
	if err != nil {
		return Answer{}, err
	}
	queueing := Queueing{Key: key, Callback: q.queued.Callback}
	invocation, err := q.client.enqueue(ctx, q.job.Function, q.job.Params, input, queueing, turn{turns: q.turns})
	if err != nil {
		return Answer{}, err
	}
	questions := turn{turns: q.turns, order: q.count(1, 0)}
	if q.queued.Accepted != nil {
		q.queued.Accepted(file, invocation)
	}
	if q.queued.Detach {
		return Answer{CallID: invocation.ID, BytesIn: input.Size}, nil
	}
	ended, err := q.watch(ctx, invocation, questions)
	if err != nil {
		return Answer{}, err
	}
	answer, err := q.client.outcome(ctx, ended, q.keep(file), questions)
	answer.BytesIn = input.Size
	return answer, invocation.EndOfRepeat(err)
}

// watch asks how the call is until it has ended. Of the calls that it is time to ask
// about, the oldest is first: they are run about in that order.
func (q *queuedRun) watch(ctx context.Context, invocation Invocation, questions turn) (Invocation, error) {
	began, running := time.Now(), false
	defer func() {
		if running {
			q.count(0, -1)
		}
	}()
	for looks := 1; !invocation.Status.Final(); looks++ {
		if runs := invocation.Status == lightcone.InvocationRunning; runs != running {
			running = runs
			if runs {
				q.count(0, 1)
			} else {
				q.count(0, -1)
			}
		}
		if err := retry.Pause(ctx, lookAgain(looks, time.Since(began), rand.Float64())); err != nil {
			return invocation, err
		}
		looked, err := q.client.about(ctx, http.MethodGet, invocation.ID, questions)
		if err != nil {
			return invocation, err
		}
		invocation = looked
	}
	return invocation, nil
}

// count adds to what the queue has of the job, and says how many calls it has accepted.
func (q *queuedRun) count(accepted, running int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.summary.Accepted += accepted
	q.summary.Running += running
	return q.summary.Accepted
}
