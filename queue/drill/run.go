package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"lightcone"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
	"lightcone/queue/history"
)

const (
	// lead is how long all is well before and after.
	lead = 2 * time.Second
	// drainBound is how long the accepted calls may take to end once all is well again:
	// the longest are those that a worker was lost with, and that then are tried often.
	drainBound = 4 * time.Minute
)

// outcome is one drill's line in the table.
type outcome struct {
	drill
	history.Verdict
	notes []string
	err   error
}

// run runs a drill in a folder of its own, and judges what was seen.
func (d drill) run(ctx context.Context, above string, lasting time.Duration) (o outcome) {
	o.drill = d
	dir, err := makeDir(above, d.name)
	if err != nil {
		o.err = err
		return o
	}
	r, err := begin(ctx, dir)
	defer func() {
		o.notes = r.notes
		o.err = errors.Join(o.err, r.end())
		if o.err == nil {
			o.err = os.RemoveAll(dir)
		}
	}()
	if err == nil {
		err = r.under(ctx, func() error { return d.do(r, ctx, lasting) })
	}
	if err != nil {
		o.err = err
		return o
	}
	o.Verdict, o.err = r.verdict(ctx)
	return o
}

// under lets something go wrong while clients and workers use the queue.
func (r *region) under(ctx context.Context, do func() error) error {
	for range 2 {
		if err := r.startWorker(); err != nil {
			return err
		}
	}
	// One on each node's host, so that one is always on the side of the few.
	for at := range r.nodes {
		if err := r.startClient(at); err != nil {
			return err
		}
	}
	if err := retry.Pause(ctx, lead); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := retry.Pause(ctx, lead); err != nil {
		return err
	}
	var failed []error
	for _, c := range r.clients {
		failed = append(failed, c.end())
	}
	return errors.Join(failed...)
}

// operations are what all clients noted.
func (r *region) operations() ([]history.Operation, error) {
	var all []history.Operation
	for i := range r.clients {
		noted, err := readJournal[history.Operation](r.journal(fmt.Sprintf("client-%d", i)))
		if err != nil {
			return nil, err
		}
		all = append(all, once(noted)...)
	}
	return all, nil
}

// once are a client's operations without the beginnings of those whose end it noted, too.
func once(noted []history.Operation) (all []history.Operation) {
	type beginning struct {
		kind   history.Kind
		call   lightcone.CallID
		client int
		began  time.Duration
	}
	of := func(o history.Operation) beginning { return beginning{o.Kind, o.Call, o.Client, o.Began} }
	ended := make(map[beginning]bool)
	for _, o := range noted {
		if !o.Failed {
			ended[of(o)] = true
		}
	}
	for _, o := range noted {
		if !o.Failed || !ended[of(o)] {
			all = append(all, o)
		}
	}
	return all
}

// executions are what all workers noted.
func (r *region) executions() ([]history.Execution, error) {
	var all []history.Execution
	for i := range r.workers {
		noted, err := readJournal[history.Execution](r.journal(fmt.Sprintf("worker-%d", i)))
		if err != nil {
			return nil, err
		}
		all = append(all, noted...)
	}
	return all, nil
}

// verdict waits until all that was accepted has ended, and judges.
func (r *region) verdict(ctx context.Context) (history.Verdict, error) {
	operations, err := r.operations()
	if err != nil {
		return history.Verdict{}, err
	}
	began := time.Now()
	ends := make(map[lightcone.CallID]history.End)
	bound, cancel := context.WithTimeout(ctx, drainBound)
	defer cancel()
	for _, o := range operations {
		if o.Kind != history.Accept {
			continue
		}
		last, end, err := r.endOf(bound, o.Call)
		if err != nil && !o.Failed {
			return history.Verdict{}, fmt.Errorf("call %s was accepted and is %q after %v: %w", o.Call, end.Said, drainBound, err)
		}
		if err == nil {
			ends[o.Call] = end
			operations = append(operations, last)
		}
	}
	r.note("all that was accepted had ended %.0f s after the last call", time.Since(began).Seconds())
	executions, err := r.executions()
	if err != nil {
		return history.Verdict{}, err
	}
	v := history.Judge(operations, executions, ends)
	return v, errors.Join(faults(v), tell(v, operations))
}

// tell is all that was said of the calls that something impossible was said of.
func tell(v history.Verdict, operations []history.Operation) error {
	var told []error
	for _, call := range v.Impossible {
		for _, o := range operations {
			if o.Call == call {
				told = append(told, fmt.Errorf("%s: %+v", call, o))
			}
		}
	}
	return errors.Join(told...)
}

// drillClient is the drill's own client, in the history.
const drillClient = -1

// endOf is where a call is in the end, and the operation that found it there.
func (r *region) endOf(ctx context.Context, id lightcone.CallID) (history.Operation, history.End, error) {
	tenant := tenantFor(id)
	o := history.Operation{Kind: history.Find, Call: id, Client: drillClient}
	for {
		o.Began = clock()
		said, err := r.queue.Await(ctx, tenant, id)
		o.Ended = clock()
		switch {
		case err == nil && said.Status.Final():
			o.Said = said.Status
		case err == nil:
			return o, history.End{Said: said.Status}, ctx.Err()
		case problem.Of(err).Kind == problem.NotFound:
			return o, history.End{}, nil
		default:
			if retry.Pause(ctx, 100*time.Millisecond) == nil {
				continue
			}
			return o, history.End{}, errors.Join(err, ctx.Err())
		}
		break
	}
	end := history.End{Said: o.Said}
	switch o.Said {
	case lightcone.InvocationSucceeded:
		result, err := r.queue.Result(ctx, tenant, id)
		if err != nil {
			return o, end, err
		}
		end.Result = string(result.Body)
	case lightcone.InvocationDead:
		if _, err := r.queue.DeadLetter(ctx, id); err != nil && problem.Of(err).Kind != problem.NotFound {
			return o, end, err
		} else {
			end.DeadLetter = err == nil
		}
	}
	return o, end, nil
}

// faults are what must not be, as an error.
func faults(v history.Verdict) error {
	var found []error
	for _, fault := range []struct {
		what  string
		calls []lightcone.CallID
	}{
		{"accepted and lost", v.Lost}, {"stored twice", v.StoredTwice}, {"told what cannot be", v.Impossible},
	} {
		if len(fault.calls) > 0 {
			found = append(found, fmt.Errorf("%d calls %s: %v", len(fault.calls), fault.what, fault.calls[:min(len(fault.calls), 10)]))
		}
	}
	if v.Accepted == 0 || v.Finished == 0 || v.Executions == 0 {
		found = append(found, fmt.Errorf("%d calls accepted, %d finished, %d executed: a drill without calls shows nothing", v.Accepted, v.Finished, v.Executions))
	}
	return errors.Join(found...)
}

// printTable prints a line for each drill.
func printTable(say io.Writer, all []outcome) {
	fmt.Fprintf(say, "\n%-16s %8s %8s %9s %5s %6s %7s %5s %8s %8s\n", "drill", "accepted", "finished", "cancelled", "dead", "run", "stored", "lost", "checked", "longest")
	fmt.Fprintf(say, "%-16s %8s %8s %9s %5s %6s %7s %5s %8s %8s\n", "", "", "", "of them", "", "twice", "twice", "", "answers", "gap s")
	for _, o := range all {
		fmt.Fprintf(say, "%-16s %8d %8d %9d %5d %6d %7d %5d %8d %8.1f\n", o.name, o.Accepted, o.Finished, o.Cancelled, o.Dead,
			o.Duplicates, len(o.StoredTwice), len(o.Lost), o.Operations, o.Unavailable.Seconds())
	}
}
