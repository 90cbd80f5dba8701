package gateway

import "time"

// queueRules are the bounds of one function's queue.
type queueRules struct {
	maxWaiting     int           // calls
	maxWait        time.Duration // the longest predicted wait that is accepted, of calls that are short themselves
	initialService time.Duration // the guess before the first call has been timed
	retryPause     time.Duration // between two tries of a call that the worker had no room for
}

// serviceWeight is the share of the newest call in the smoothed service time:
// about the last thirty calls count. Counting fewer predicts waits too short after
// a few quick calls, and so accepts calls that have to be refused later.
const serviceWeight = 1.0 / 32

// verdict is what the queue says to a call.
type verdict int

const (
	run   verdict = iota // a slot is the call's
	wait                 // the call has a place in the queue
	full                 // refused: too many calls wait
	late                 // refused: its turn would come too late
	evict                // taken out of the queue: its turn did not come in time
)

func (v verdict) String() string {
	return [...]string{"run", "wait", "full", "late", "evict"}[v]
}

// ticket is one call's place in a queue.
type ticket struct {
	deadline time.Time     // the call's own
	joined   time.Time     // when its body was in
	started  time.Time     // when a slot was last its own
	turn     chan struct{} // room for the one message it ever holds: a slot is yours
}

// queue decides which call runs next: a bounded first-in-first-out line in front
// of a function's slots. It is pure: it takes the time as an argument, and
// whoever owns it does the locking, the waking and the timing.
//
// Invariants: a call waits only if every slot is taken, another call waits in
// front of it, or the worker has just said that it has no room; calls start in
// the order in which they joined; running never grows past slots.
type queue struct {
	rules   queueRules
	slots   int
	running int
	waiting fifo
	service time.Duration // smoothed time that a call holds a slot
	pause   time.Time     // until then nothing starts, unless a call completes: the worker had no room
}

func newQueue(rules queueRules, slots int) *queue {
	return &queue{rules: rules, slots: slots, service: rules.initialService}
}

// predictedWait is how long a call that joins now will wait for its turn: each
// of those in front, and the one that must finish for this call itself to
// start, holds one of the slots for the smoothed service time.
func (q *queue) predictedWait() time.Duration {
	position := time.Duration(q.waiting.len() + 1)
	// Without a slot, one is expected: the worker replaces a lost one in milliseconds.
	return position * q.service / time.Duration(max(q.slots, 1))
}

// patientServices is how many times its own duration a call may wait: those
// who ask for slow work expect to wait for it.
const patientServices = 4

// patience is the longest predicted wait that is accepted.
func (q *queue) patience() time.Duration {
	return max(q.rules.maxWait, patientServices*q.service)
}

// judge says what would become of a call that joined now. It changes nothing,
// so a call can be refused before its body is read.
func (q *queue) judge(now, deadline time.Time) verdict {
	predicted := q.predictedWait()
	switch {
	case q.waiting.len() == 0 && q.running < q.slots && !now.Before(q.pause):
		return run
	case q.waiting.len() >= q.rules.maxWaiting:
		return full
	case predicted > q.patience() || predicted > deadline.Sub(now)-q.service:
		return late
	default:
		return wait
	}
}

// join takes a slot or a place for t, or refuses.
func (q *queue) join(now time.Time, t *ticket) verdict {
	t.joined = now
	said := q.judge(now, t.deadline)
	switch said {
	case run:
		q.running++
	case wait:
		q.waiting.pushBack(t)
	}
	return said
}

// complete gives back the slot of a call that held it for service, and returns
// the calls whose turn it is now.
func (q *queue) complete(now time.Time, service time.Duration) []*ticket {
	q.service += time.Duration(float64(service-q.service) * serviceWeight)
	return q.abandon(now)
}

// abandon gives back the slot of a call that was not run, so that its time says
// nothing, and returns the calls whose turn it is now.
func (q *queue) abandon(now time.Time) []*ticket {
	q.running--
	q.pause = time.Time{} // a slot has just been given back, so there is room
	return q.promote(now)
}

// putBack returns t to its place in the line: it was given a slot, and the worker
// had no room for it. The pause keeps the two from asking each other in a loop.
func (q *queue) putBack(now time.Time, t *ticket) {
	q.running--
	q.waiting.insert(t)
	q.pause = now.Add(q.rules.retryPause)
}

// withdraw takes t out, if it still waits, and returns the calls whose turn it
// is now: t may have been the one that kept the line paused.
func (q *queue) withdraw(now time.Time, t *ticket) (waited bool, turns []*ticket) {
	if !q.waiting.remove(t) {
		return false, nil
	}
	q.pause = time.Time{}
	return true, q.promote(now)
}

// resize follows the worker's number of slots. Calls over a smaller number finish.
func (q *queue) resize(now time.Time, slots int) []*ticket {
	q.slots = slots
	return q.promote(now)
}

// promote gives the free slots to the calls in front.
func (q *queue) promote(now time.Time) []*ticket {
	if now.Before(q.pause) {
		return nil
	}
	var turns []*ticket
	for q.running < q.slots && q.waiting.len() > 0 {
		turns = append(turns, q.waiting.popFront())
		q.running++
	}
	return turns
}

// limit is when a waiting call gives up: when its deadline could no longer be
// kept, or when it has waited twice as long as was acceptable. Predictions err;
// a smaller factor refuses calls late that were accepted in good faith.
func (q *queue) limit(t *ticket) time.Time {
	evict := t.joined.Add(2 * q.patience())
	if t.deadline.Before(evict) {
		return t.deadline
	}
	return evict
}

// fifo is a line of tickets in a ring that grows to the most that ever waited.
type fifo struct {
	ring  []*ticket
	head  int
	count int
}

func (f *fifo) len() int { return f.count }

func (f *fifo) at(i int) int { return (f.head + i) % len(f.ring) }

func (f *fifo) grow() {
	if f.count < len(f.ring) {
		return
	}
	ring := make([]*ticket, max(16, 2*len(f.ring)))
	for i := range f.count {
		ring[i] = f.ring[f.at(i)]
	}
	f.ring, f.head = ring, 0
}

func (f *fifo) pushBack(t *ticket) {
	f.grow()
	f.ring[f.at(f.count)] = t
	f.count++
}

// insert puts t in front of those that joined after it, which is at or near the
// head for a call that has had its turn.
func (f *fifo) insert(t *ticket) {
	f.grow()
	f.head = (f.head + len(f.ring) - 1) % len(f.ring)
	f.count++
	i := 0
	for ; i+1 < f.count && f.ring[f.at(i+1)].joined.Before(t.joined); i++ {
		f.ring[f.at(i)] = f.ring[f.at(i+1)]
	}
	f.ring[f.at(i)] = t
}

func (f *fifo) popFront() *ticket {
	t := f.ring[f.head]
	f.ring[f.head] = nil
	f.head = f.at(1)
	f.count--
	return t
}

// remove takes t out wherever it stands; the order of the others stays.
func (f *fifo) remove(t *ticket) bool {
	for i := range f.count {
		if f.ring[f.at(i)] != t {
			continue
		}
		for ; i < f.count-1; i++ {
			f.ring[f.at(i)] = f.ring[f.at(i+1)]
		}
		f.ring[f.at(f.count-1)] = nil
		f.count--
		return true
	}
	return false
}
