package client

import (
	"context"
	"slices"
	"sync"
)

// turns bounds the requests of a job that are under way at once. A request waits
// between its attempts without one, so that what waits keeps nothing from being sent.
// Of those that want a turn, calls go first, then the questions about the oldest call.
//
// Calls have a bound of their own. It is the same at first, one lower after each
// refusal for having too many under way, and one higher after widenAfter answers, for
// whoever else used up the tenant's limit may be gone.
type turns struct {
	calls chan struct{} // one for each call under way, and for each fewer than most that may be

	mu       sync.Mutex
	free     int       // requests that may begin
	waiting  []*waiter // by order, and among equals as they came
	most     int       // calls at once at the start, at least 1
	open     int       // calls at once now, from 1 to most
	answered int       // calls since open last changed
}

type waiter struct {
	order int
	ready chan struct{} // closed when it has its turn
}

// widenAfter is how many answered calls a job waits before it tries one more at once:
// one in a hundred is refused, at worst.
const widenAfter = 100

func newTurns(most int) *turns {
	most = max(1, most)
	return &turns{calls: make(chan struct{}, most), free: most, most: most, open: most}
}

// turn is what a request needs of its job's turns; the zero turn is of no job, and is
// always had.
type turn struct {
	turns *turns
	order int // 0 for a call; for a question, the number of the call among the accepted ones, from 1
}

// How a turn ended.
type turnEnd int

const (
	turnUnused   turnEnd = iota // nothing was sent
	turnAnswered                // with whatever answer
	turnCrowded                 // refused, for too many calls were under way
)

// take waits for the turn, or until ctx ends: then there is none, and an error.
func (t turn) take(ctx context.Context) error {
	if t.turns == nil {
		return ctx.Err()
	}
	if t.order == 0 {
		select {
		case t.turns.calls <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w := t.turns.line(t.order)
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		t.turns.leaveLine(w)
		if t.order == 0 {
			<-t.turns.calls
		}
		return ctx.Err()
	}
}

// leave ends the turn.
func (t turn) leave(end turnEnd) {
	if t.turns == nil {
		return
	}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	t.turns.pass()
	if t.order == 0 {
		t.turns.callEnded(end)
	}
}

// line puts a request in the line, or gives it its turn at once.
func (t *turns) line(order int) *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &waiter{order: order, ready: make(chan struct{})}
	if t.free > 0 {
		t.free--
		close(w.ready)
		return w
	}
	place, _ := slices.BinarySearchFunc(t.waiting, order+1, func(w *waiter, order int) int { return w.order - order })
	t.waiting = slices.Insert(t.waiting, place, w)
	return w
}

// leaveLine takes back a request, which may have been given its turn meanwhile.
func (t *turns) leaveLine(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if place := slices.Index(t.waiting, w); place >= 0 {
		t.waiting = slices.Delete(t.waiting, place, place+1)
		return
	}
	t.pass()
}

// pass gives a turn that is over to the first in line. The lock is held.
func (t *turns) pass() {
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	close(t.waiting[0].ready)
	t.waiting = slices.Delete(t.waiting, 0, 1)
}

// callEnded makes room for a call again, as far as end allows. The lock is held.
func (t *turns) callEnded(end turnEnd) {
	if end == turnCrowded {
		t.answered = 0
		if t.open > 1 {
			t.open-- // and what stands for the call stays in the channel
			return
		}
	}
	<-t.calls
	if end != turnAnswered || t.open == t.most {
		return
	}
	if t.answered++; t.answered == widenAfter {
		t.answered = 0
		t.open++
		<-t.calls
	}
}
