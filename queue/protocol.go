package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// errOutrun says that a compare-and-set came too late: somebody else has written.
var errOutrun = errors.New("queue: the record has been written by somebody else")

// entry is a record as it was read; record is nil when there is none.
type entry struct {
	record   *record
	body     []byte // of an inline result
	sequence uint64 // to compare and set after; 0 = there is none
}

// ledger keeps the records of calls.
type ledger interface {
	read(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (entry, error)    // may be behind
	readNow(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (entry, error) // linearizable

	// write stores a record if its last sequence is still after, and returns the new
	// one, or errOutrun. Any other error leaves open whether it was stored.
	write(ctx context.Context, r *record, body []byte, after uint64) (uint64, error)
}

// outbox publishes what is more than a record. Each method may be repeated.
type outbox interface {
	enqueue(ctx context.Context, j *job, body []byte) (uint64, error) // a refusal is a *refusedError
	bury(ctx context.Context, l *letter, body []byte) (uint64, error) // the dead letter, in place of an earlier one
	exhume(ctx context.Context, sequence uint64) error                // removes a dead letter
	announce(ctx context.Context, r *record, body []byte) error       // the callback
}

// warehouse keeps what is too large for a message.
type warehouse interface {
	putInput(ctx context.Context, j *job, body []byte) error
	dropInput(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) error
	putResult(ctx context.Context, r *record, body []byte) (string, error)
	dropResult(ctx context.Context, object string) error
}

// delivery is a call's message in a worker's hands.
type delivery interface {
	acknowledge(ctx context.Context) error // with a confirmation: the message is gone
	giveBack(wait time.Duration)           // it is delivered again, to anybody
}

// refusedError says that a call was certainly not queued, and why.
type refusedError struct{ problem *problem.Error }

func (e *refusedError) Error() string { return e.problem.Error() }
func (e *refusedError) Unwrap() error { return e.problem }

// protocol is the order in which the steps of a call's life are taken. It holds that a
// process may be killed between any two: what is left behind is taken up by a
// redelivery of the work message, by a repetition, or by the sweep.
type protocol struct {
	ledger    ledger
	outbox    outbox
	warehouse warehouse
	limits    Limits
	now       func() time.Time
	random    func() float64 // in [0, 1)
}

// write is a compare-and-set that is repeated until it is known what became of it, or
// ctx ends.
func (p *protocol) write(ctx context.Context, r *record, body []byte, after uint64) (uint64, error) {
	r.WrittenAs = rand.Text()
	for failures := 1; ; failures++ {
		sequence, err := p.ledger.write(ctx, r, body, after)
		if err == nil {
			return sequence, nil
		}
		if errors.Is(err, errOutrun) && failures > 1 { // perhaps by this very write
			found, readErr := p.ledger.readNow(ctx, r.Tenant, r.ID)
			if readErr == nil && found.record != nil && found.record.WrittenAs == r.WrittenAs {
				return found.sequence, nil
			}
			if readErr != nil {
				err = readErr
			}
		}
		if lasting(err) || retry.Pause(ctx, retry.BackOff(failures, 50*time.Millisecond, time.Second, p.random())) != nil {
			return 0, err
		}
	}
}

// accept queues a job and makes its record. shared says that equal requests may be
// accepting the same job. An error that is not a *refusedError leaves open whether the
// call was accepted.
func (p *protocol) accept(ctx context.Context, j *job, body []byte, shared bool) (record, error) {
	inline := body
	if j.FarInput {
		if err := p.warehouse.putInput(ctx, j, body); err != nil {
			if !shared {
				err = asProblem(err) // nobody has queued it
			}
			return record{}, err
		}
		inline = nil
	}
	sequence, err := p.outbox.enqueue(ctx, j, inline)
	if err != nil {
		if refused := new(refusedError); j.FarInput && !shared && errors.As(err, &refused) {
			_ = p.warehouse.dropInput(ctx, j.Tenant, j.ID) // or the sweep does
		}
		return record{}, err
	}
	r := j.newRecord()
	r.Work = sequence
	_, err = p.write(ctx, &r, nil, 0)
	if !errors.Is(err, errOutrun) {
		return r, err
	}
	found, err := p.ledger.readNow(ctx, j.Tenant, j.ID) // a worker was faster, or an equal request
	if err == nil && found.record != nil {
		r = *found.record
	}
	return r, err
}

// cancel takes a call back. The caller tells the worker.
func (p *protocol) cancel(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (r record, changed bool, err error) {
	for {
		found, err := p.ledger.readNow(ctx, tenant, id)
		if err != nil {
			return record{}, false, err
		}
		if found.record == nil {
			return record{}, false, unknownCall(id)
		}
		after, changed := cancelled(*found.record, p.now())
		if !changed {
			return after, false, nil
		}
		_, err = p.write(ctx, &after, nil, found.sequence)
		if err == nil {
			return after, true, p.ended(ctx, &after, nil)
		}
		if !errors.Is(err, errOutrun) {
			return record{}, false, err
		}
	}
}

// ended does what the end of a call leaves to do, after its record says so and before
// its work message goes. It may be repeated.
func (p *protocol) ended(ctx context.Context, r *record, body []byte) error {
	if r.Callback == "" {
		return nil
	}
	return p.outbox.announce(ctx, r, body)
}

// redrive queues a dead letter's call again and removes the letter, whose sequence is
// given. renew makes sure that a far input stays for as long as a new one. r is nil when
// a redrive before this one, or a good end, had left it behind.
func (p *protocol) redrive(ctx context.Context, l *letter, body []byte, sequence uint64, renew func(context.Context) error) (r *record, err error) {
	var queued uint64 // of the work message, once there is one
	for {
		found, err := p.ledger.readNow(ctx, l.Job.Tenant, l.Job.ID)
		if err != nil {
			return nil, err
		}
		if early(found.record, l) {
			err := problem.New(problem.Overloaded, "The call %s has not ended yet: a worker has it, or has just given it up. Try again in a moment.", l.Job.ID)
			err.RetryAfter = retryAfter
			return nil, err
		}
		again, reason := redriven(found.record, l, p.now())
		if !reason {
			return found.record, p.outbox.exhume(ctx, sequence)
		}
		if queued == 0 {
			if l.Job.FarInput {
				if err = renew(ctx); err != nil {
					return nil, err
				}
			}
			if queued, err = p.outbox.enqueue(ctx, &again, body); err != nil {
				return nil, err
			}
		}
		after := again.newRecord()
		after.Work = queued
		_, err = p.write(ctx, &after, nil, found.sequence)
		if err == nil {
			return &after, p.outbox.exhume(ctx, sequence)
		}
		if !errors.Is(err, errOutrun) {
			return nil, err
		}
	}
}

// endPatience is for how long a worker tries to store what it has: longer than a
// failover takes, for otherwise the call would be run again.
const endPatience = 30 * time.Second

// attempt is one delivery of a call to a worker.
type attempt struct {
	*protocol
	delivery
	job    *job
	input  []byte // nil when it is far
	work   uint64 // the message's sequence
	buried uint64 // sequence of the dead letter, once it is written

	// run gives the call to the function; its context is ended by whoever cancels it.
	// nil = whoever has the call only ends what is over: process is errNotOver otherwise.
	run func(context.Context, *record) (verdict, functions.Result)

	tell func(*lightcone.UsageRecord) error // of what the call spent; may be nil
}

// process sees the delivery through. An error leaves the message where it is: it is
// delivered again when the heartbeats have ended.
func (a *attempt) process(whole context.Context) error {
	ctx, cancel := context.WithTimeout(whole, a.limits.Patience)
	defer cancel()
	found, err := a.ledger.read(ctx, a.job.Tenant, a.job.ID)
	for sure := false; err == nil; sure = true {
		after, next := take(found.record, a.job, a.now(), a.limits)
		after.Work = a.work
		switch next {
		case stepDrop:
			if sure {
				return a.acknowledge(ctx)
			}
			err = errOutrun // a node that lags may have no record of it
		case stepForget:
			return a.overtaken(ctx, found)
		case stepBury:
			err = a.bury(ctx, &after, found.sequence)
		default:
			if a.run == nil {
				return errNotOver
			}
			var sequence uint64
			if sequence, err = a.write(ctx, &after, nil, found.sequence); err == nil {
				v, result := a.run(whole, &after)
				return a.end(whole, &after, sequence, v, &result)
			}
		}
		if !errors.Is(err, errOutrun) {
			return err
		}
		found, err = a.ledger.readNow(ctx, a.job.Tenant, a.job.ID)
	}
	return err
}

// end writes what the attempt came to, after the record that it ran under.
func (a *attempt) end(whole context.Context, running *record, sequence uint64, v verdict, result *functions.Result) error {
	ctx, cancel := context.WithTimeout(whole, endPatience)
	defer cancel()
	if s := spentOf(result, a.job.InputBytes); s != nil {
		running.Spent = s
	}
	after, next, wait := end(*running, v, result, a.now(), a.random(), a.limits)
	var err error
	if next == stepSettle {
		var unkept *problem.Error
		if err = a.settle(ctx, &after, sequence, result.Body); errors.As(err, &unkept) { // there is no room for it, for instance
			after, next, wait = end(*running, verdictRetry, &functions.Result{Problem: unkept.Kind, Body: []byte(unkept.Detail)}, a.now(), a.random(), a.limits)
		}
	}
	switch next {
	case stepSettle:
	case stepBury:
		err = a.bury(ctx, &after, sequence)
	default:
		if _, err = a.write(ctx, &after, nil, sequence); err == nil {
			a.giveBack(wait)
		}
	}
	if !errors.Is(err, errOutrun) {
		return err
	}
	found, err := a.ledger.readNow(ctx, a.job.Tenant, a.job.ID)
	for err == nil {
		note, changed := noted(found.record, a.job.Generation, running.Spent)
		if !changed {
			return a.overtaken(ctx, found)
		}
		if _, err = a.write(ctx, &note, nil, found.sequence); err == nil {
			return a.finish(ctx, &note, nil)
		}
		if errors.Is(err, errOutrun) {
			found, err = a.ledger.readNow(ctx, a.job.Tenant, a.job.ID)
		}
	}
	return err
}

// settle stores the result, once: the compare-and-set fails for whoever is second.
func (a *attempt) settle(ctx context.Context, after *record, sequence uint64, body []byte) error {
	inline := body
	if len(body) > MostInline {
		object, err := a.warehouse.putResult(ctx, after, body)
		if err != nil {
			return err
		}
		after.Result.Object, inline = object, nil
	}
	if _, err := a.write(ctx, after, inline, sequence); err != nil {
		if errors.Is(err, errOutrun) && after.Result.Object != "" {
			_ = a.warehouse.dropResult(ctx, after.Result.Object) // or its expiry does
		}
		return err
	}
	return a.finish(ctx, after, inline)
}

// bury writes the dead letter, and only then the record.
func (a *attempt) bury(ctx context.Context, after *record, sequence uint64) error {
	buried, err := a.outbox.bury(ctx, &letter{Job: *a.job, Record: *after}, a.input)
	if err != nil {
		return err
	}
	a.buried = buried
	if _, err := a.write(ctx, after, nil, sequence); err != nil {
		return err
	}
	return a.finish(ctx, after, nil)
}

// finish ends the delivery: the call has ended. What it spent is told before the
// message goes, so at least once.
func (a *attempt) finish(ctx context.Context, r *record, body []byte) error {
	if err := a.ended(ctx, r, body); err != nil {
		return err
	}
	used := r.usage()
	if a.job.Owed != nil {
		used = a.job.Owed
	}
	if used != nil && a.tell != nil {
		if err := a.tell(used); err != nil {
			return err
		}
	}
	if err := a.acknowledge(ctx); err != nil {
		return err
	}
	if r.FarInput && r.Status != lightcone.InvocationDead {
		return a.warehouse.dropInput(ctx, r.Tenant, r.ID)
	}
	return nil
}

// overtaken ends a delivery whose record somebody else has written.
func (a *attempt) overtaken(ctx context.Context, found entry) error {
	r := found.record
	switch {
	case r == nil || r.Generation > a.job.Generation:
		return a.acknowledge(ctx)
	case r.Generation < a.job.Generation || !r.Status.Final():
		return nil // another attempt has the call, and the same message: it is not to be touched
	}
	if a.buried != 0 && r.Status != lightcone.InvocationDead {
		if err := a.outbox.exhume(ctx, a.buried); err != nil {
			return err
		}
	}
	return a.finish(ctx, r, found.body)
}

func unknownCall(id lightcone.CallID) *problem.Error {
	return problem.New(problem.NotFound, "There is no call %s, or its time in the queue is over.", id)
}
