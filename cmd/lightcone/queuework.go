package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"lightcone/functions"
	supervisor "lightcone/functions/runtime"
	"lightcone/gateway"
	"lightcone/gateway/quarantine"
	"lightcone/internal/problem"
	"lightcone/internal/run"
	"lightcone/queue"
	"lightcone/usage"
)

// queueWork runs queued calls of a supervisor's functions in slots that the calls
// whose callers wait leave idle.
type queueWork struct {
	slots   *supervisor.Supervisor
	attempt attempt
	ledger  *usage.Ledger // nil: there is none

	killing context.Context // ends when there is no more time for calls that run
	kill    context.CancelFunc
	working sync.WaitGroup // one for each function
}

// attempt runs one attempt of a queued call: Supervisor.RunUntil, with whatever there
// is to do before and after it.
type attempt func(ctx context.Context, call *functions.Call, answer *functions.Answer) error

// guarded is attempt, but for inputs that book has in quarantine; it strikes for those
// that kill their slots. Like all who ask the book, it waits for nobody.
func guarded(book *quarantine.Book, attempt attempt) attempt {
	return func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		if found := book.Quarantined(call); found != nil {
			return found
		}
		err := attempt(ctx, call, answer)
		if gateway.KilledSlot(err) {
			book.Strike(call)
		}
		return err
	}
}

// workOnQueue takes queued calls until taking ends, which is best the service's own
// signal: so it takes no more while the listeners still drain. The stop ends it, too,
// lets the calls that run finish within its bound, and kills what is left: others run
// that again. It goes before the client's and the supervisor's.
func workOnQueue(taking context.Context, group *run.Group, client *queue.Client, slots *supervisor.Supervisor, attempt attempt, ledger *usage.Ledger) run.Stop {
	w := &queueWork{slots: slots, attempt: attempt, ledger: ledger}
	w.killing, w.kill = context.WithCancel(context.Background())
	taking, enough := context.WithCancel(taking)
	for _, offer := range slots.Functions() {
		w.working.Go(func() {
			if err := client.Work(taking, w.workOn(offer)); err != nil {
				group.Fail("queued calls", fmt.Errorf("function %s: %w", offer.Spec.Name, err))
			}
		})
	}
	return func(ctx context.Context) error {
		enough()
		defer w.kill()
		ended := make(chan struct{})
		go func() {
			w.working.Wait()
			close(ended)
		}()
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
		}
		killed := w.held()
		w.kill()
		<-ended
		return fmt.Errorf("%d queued calls were still running and were killed; other workers run them again: %w", killed, ctx.Err())
	}
}

// workOn is what the queue needs to know of one function's slots.
func (w *queueWork) workOn(offer functions.Offer) queue.WorkConfig {
	name := offer.Spec.Name
	return withLedger(queue.WorkConfig{
		Function: name,
		AtOnce:   offer.Slots - functions.SyncReserve(offer.Slots),
		Room:     func() bool { return w.slots.Room(name) },
		Run:      w.run,
	}, w.ledger)
}

// run runs one attempt. A call that is killed for want of time was not cancelled: it
// is lost with its worker.
func (w *queueWork) run(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
	alive, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.killing, func() { cancel(errStopped) })()
	err := w.attempt(alive, call, answer)
	if err != nil && problem.Of(err).Kind == problem.Cancelled && errors.Is(context.Cause(alive), errStopped) {
		return problem.New(problem.WorkerLost, "The worker that ran the call was stopped before the call ended.").Because(err)
	}
	return err
}

var errStopped = errors.New("the worker has no more time to stop")

// held is how many slots queued calls hold.
func (w *queueWork) held() (all int) {
	for _, offer := range w.slots.Functions() {
		all += w.slots.Held(offer.Spec.Name)
	}
	return all
}
