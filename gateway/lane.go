package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// lane is the shell around a function's queue: it locks, wakes and times what
// the queue decides.
type lane struct {
	name    lightcone.FunctionName
	spec    atomic.Pointer[functions.Spec] // nil while the worker does not offer the function
	metrics *laneMetrics

	mu      sync.Mutex
	queue   *queue
	refused int64 // calls not run for want of a slot
}

// retryPause is how long the gateway waits before it asks a worker again that
// had no room, if no call completes before that.
const retryPause = 5 * time.Millisecond

func newLane(name lightcone.FunctionName, rules queueRules, metrics *laneMetrics) *lane {
	return &lane{name: name, queue: newQueue(rules, 0), metrics: metrics}
}

// nameFor is the function's name for those who ask as name: the lane's own, so
// that the common case allocates nothing. The lane may be nil.
func (l *lane) nameFor(name []byte) lightcone.FunctionName {
	if l == nil {
		return lightcone.FunctionName(name)
	}
	return l.name
}

// follow takes over what the worker offers now; nil when it offers the function
// no more. Those who wait keep their places until their limits.
func (l *lane) follow(now time.Time, offer *functions.Offer) {
	slots, coldStart := 0, time.Duration(0)
	if offer == nil {
		l.spec.Store(nil)
	} else {
		l.spec.Store(&offer.Spec)
		slots, coldStart = offer.Slots, offer.ColdStart
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Also when nothing has changed: a queue whose worker had no room tries again here,
	// should neither a completion nor a call that came back do it.
	wake(l.queue.resize(now, slots, coldStart))
}

// judge refuses a call that would not get its turn in time, before its body is read.
func (l *lane) judge(now, deadline time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal(l.queue.judge(now, deadline))
}

// enter waits for a slot. After nil, the caller holds one and owes the lane
// exactly one of leave, abandon and comeBack. A confined tenant's call does not wait:
// its tenant may send many, of which few will have room, and in the line each of them
// would count as work in front of others.
func (l *lane) enter(t *ticket) error {
	now := time.Now()
	l.mu.Lock()
	if t.confined && l.queue.judge(now, t.deadline) != run {
		l.mu.Unlock()
		l.metrics.confined.Inc()
		return confinedRefusal(l.name)
	}
	said := l.queue.join(now, t)
	if said != wait {
		err := l.refusal(said)
		l.mu.Unlock()
		return err
	}
	limit := l.queue.limit(t)
	l.mu.Unlock()
	return l.await(t, limit.Sub(now))
}

// comeBack returns a slot that the worker had no room behind, waits for the next
// one at the head of the line, and returns like enter. A call that was refused because
// its tenant is confined does not wait: the refusal says nothing of the room that
// there is for others, and the scheduler need not hear of it.
func (l *lane) comeBack(t *ticket) error {
	if errors.Is(t.refusal, errConfined) {
		l.abandon()
		l.metrics.confined.Inc()
		return t.refusal
	}
	now := time.Now()
	l.mu.Lock()
	l.queue.putBack(now, t)
	limit := l.queue.limit(t)
	pause := l.queue.rules.retryPause
	l.mu.Unlock()
	for limit.Sub(now) > pause {
		timer := time.NewTimer(pause)
		select {
		case <-t.turn:
			timer.Stop()
			return nil
		case now = <-timer.C:
			// Nobody completes a call while the worker has no room at all, so the
			// call at the head asks again by itself.
			l.mu.Lock()
			wake(l.queue.promote(now))
			l.mu.Unlock()
		}
	}
	return l.await(t, limit.Sub(now))
}

// await waits for t's turn, at most for patience.
func (l *lane) await(t *ticket, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for left := patience; left > 0; left = l.left(t) {
		timer.Reset(left)
		select {
		case <-t.turn:
			return nil
		case <-timer.C:
		}
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	waited, turns := l.queue.withdraw(now, t)
	wake(turns)
	switch {
	case !waited: // the turn came in the same moment
		<-t.turn
		return nil
	case !now.Before(t.deadline):
		l.refused++
		return lateInQueue()
	default:
		return l.refusal(evict)
	}
}

// left is for how much longer t may wait than it was going to: the last slot may
// have gone meanwhile, and with it began the wait for a cold start.
func (l *lane) left(t *ticket) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.cold == 0 {
		return 0
	}
	return time.Until(l.queue.limit(t))
}

// leave gives back the slot after a call that held it for service.
func (l *lane) leave(service time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wake(l.queue.complete(time.Now(), service))
}

// abandon gives back the slot of a call that was not run.
func (l *lane) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	wake(l.queue.abandon(time.Now()))
}

// report is the lane's line in /readyz.
func (l *lane) report() readyFunction {
	l.mu.Lock()
	defer l.mu.Unlock()
	return readyFunction{Name: l.name, Slots: l.queue.slots, Waiting: l.queue.waiting.len(), Running: l.queue.running}
}

// demand is what the lane has of calls.
func (l *lane) demand() Demand {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Demand{Function: l.name, Waiting: l.queue.waiting.len(), Running: l.queue.running, Refused: l.refused}
}

// wake tells calls that it is their turn. It never blocks: see ticket.turn.
func wake(turns []*ticket) {
	for _, t := range turns {
		t.turn <- struct{}{}
	}
}

// refusal is the problem behind a verdict, or nil. The lane is locked.
func (l *lane) refusal(said verdict) error {
	var err *problem.Error
	switch said {
	case run, wait:
		return nil
	case full:
		err = problem.New(problem.Overloaded, "Too many calls wait for this function already; this one was not run, so it is safe to send it again.")
	case late:
		err = problem.New(problem.Overloaded, "The calls in front of this one would keep it waiting too long; it was not run, so it is safe to send it again.")
	default:
		err = problem.New(problem.Overloaded, "This call waited longer than expected for its turn; it was not run, so it is safe to send it again.")
	}
	l.metrics.shed.Inc()
	l.refused++
	err.RetryAfter = l.queue.predictedWait()
	return err
}

func lateInQueue() error {
	return problem.New(problem.DeadlineExceeded, "The call's deadline passed while it waited in the queue for a free slot; it was not run. Allow more time with X-Timeout, or try again later.")
}
