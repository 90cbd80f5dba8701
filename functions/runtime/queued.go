package runtime

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// RunUntil runs a queued call: like Run, but only in a slot that there is Room for,
// which else is Overloaded, and no longer than ctx. When ctx ends before the call's
// deadline and before its answer, the process is killed and the error is Cancelled;
// answer's CPU and Exec say what was used until then. A ctx that has ended before the
// start runs nothing.
func (s *Supervisor) RunUntil(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
	pool, here := s.pools[call.Function]
	if !here {
		return problem.New(problem.NotFound, "There is no function named %q.", call.Function)
	}
	answer.CPU, answer.Exec = 0, 0
	return pool.runUntil(ctx, call, answer)
}

// Room is whether a queued call of the function may take a slot now: see roomForQueued.
// It is false for a function that is not here, or has no live process.
func (s *Supervisor) Room(function lightcone.FunctionName) bool {
	pool, here := s.pools[function]
	if !here {
		return false
	}
	_, alive := pool.ready()
	return alive > 0 && pool.room(time.Now())
}

// Held is how many slots of the function queued calls hold now.
func (s *Supervisor) Held(function lightcone.FunctionName) int {
	if pool, here := s.pools[function]; here {
		return pool.queued.held()
	}
	return 0
}

// Yield tells that a call whose caller waits was refused for want of a slot, before
// Run was asked: queued calls let others go first for a moment.
func (s *Supervisor) Yield(function lightcone.FunctionName) {
	if pool, here := s.pools[function]; here {
		pool.queued.yield(time.Now())
	}
}

// yieldTime is how long after a refusal queued calls take no slot. It is longer than
// a gateway waits before it asks again for a call that it keeps waiting, so that such a
// call gets the slot that becomes free.
const yieldTime = 250 * time.Millisecond

// roomForQueued decides whether one more queued call may start. attended and queued
// are the calls that run, by whether a caller waits for them; refused is when a call
// of the first kind last found no slot (zero: never).
func roomForQueued(slots, attended, queued int, refused, now time.Time) bool {
	if !refused.IsZero() && now.Sub(refused) < yieldTime {
		return false
	}
	return slots-attended-queued > functions.SyncReserve(slots)
}

// queuedPlaces counts the places of one pool that queued calls hold.
type queuedPlaces struct {
	admitting sync.Mutex // one queued call at a time: two must not both take the last place
	count     atomic.Int64
	born      time.Time
	refused   atomic.Int64 // of the last refusal, in nanoseconds since born: a clock that is set changes nothing; 0 = never
}

func (q *queuedPlaces) held() int { return int(q.count.Load()) }

func (q *queuedPlaces) yield(now time.Time) { q.refused.Store(int64(now.Sub(q.born))) }

func (q *queuedPlaces) lastRefusal() time.Time {
	since := q.refused.Load()
	if since == 0 {
		return time.Time{}
	}
	return q.born.Add(time.Duration(since))
}

// room says whether a queued call may take a place now.
func (p *pool) room(now time.Time) bool {
	queued := p.queued.held()
	attended := max(len(p.places)-queued, 0)
	return roomForQueued(p.slots, attended, queued, p.queued.lastRefusal(), now)
}

// admitQueued takes a place for a queued call, if there is room for one.
func (p *pool) admitQueued() bool {
	p.queued.admitting.Lock()
	defer p.queued.admitting.Unlock()
	if !p.room(time.Now()) {
		return false
	}
	select {
	case p.places <- struct{}{}:
		p.queued.count.Add(1)
		return true
	default: // somebody's call was faster
		return false
	}
}

func (p *pool) leaveQueued() {
	p.queued.count.Add(-1)
	<-p.places
}

// endedBefore is the end of a call that was cancelled, or whose deadline came, before
// a process had it.
func (p *pool) endedBefore(deadline time.Time) error {
	if !time.Now().Before(deadline) {
		return p.lateForProcess()
	}
	return problem.New(problem.Cancelled, "The call of the function %s was cancelled before it was run.", p.spec.Name)
}

// runUntil runs a queued call until it ends or ctx does.
func (p *pool) runUntil(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
	if ctx.Err() != nil {
		return p.endedBefore(call.Deadline)
	}
	if !p.admitQueued() {
		return problem.New(problem.Overloaded, "Calls whose callers wait need the slots of the function %s; the queued call was not run.", p.spec.Name)
	}
	defer p.leaveQueued()
	for {
		process, err := p.acquire(call.Deadline, ctx.Done())
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			p.release(process) // it has not seen the call
			return p.endedBefore(call.Deadline)
		}
		letGo := process.dropWith(ctx, call.Deadline)
		err = process.run(call, answer)
		unharmed := letGo()
		if errors.Is(err, errNotSent) {
			continue // it died on the shelf, or was killed before the call reached it: ctx tells
		}
		if err == nil && !unharmed { // the answer was faster than its end, and stands
			p.metrics.cpu.WithLabelValues(string(p.spec.Name)).Add(answer.CPU.Seconds())
			p.metrics.lost.WithLabelValues(string(p.spec.Name), string(problem.Cancelled)).Inc()
			return nil
		}
		return p.settle(process, call, answer, err)
	}
}

// dropWith kills the process when ctx ends before the deadline; of the two, the
// first counts. letGo ends that, and says whether the process may be used again.
func (p *process) dropWith(ctx context.Context, deadline time.Time) (letGo func() (unharmed bool)) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		if time.Now().Before(deadline) {
			p.dropped.Store(true)
			p.kill()
		}
	})
	return func() bool {
		if stop() {
			return true
		}
		<-done
		return !p.dropped.Load()
	}
}
