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
	cold     time.Duration // how long after joining it may wait for the first slot to be made; 0 = it waits for one that is taken
	turn     chan struct{} // room for the one message it ever holds: a slot is yours
	confined bool          // its tenant is: it takes a slot that is free, or none
	refusal  error         // what the worker said when it had no room for the call; see lane.comeBack
}

// queue decides which call runs next: a bounded first-in-first-out line in front
// of a function's slots. It is pure: it takes the time as an argument, and
// whoever owns it does the locking, the waking and the timing.
//
// Invariants: a call waits only if every slot is taken, another call waits in
// front of it, or the worker has just said that it has no room; calls start in
// the order in which they joined; running never grows past slots.
//
// Others may use the same slots, so the worker can be full while the queue
// counts free ones. A refusal teaches the queue what its share is: what it runs at
// that moment. It refills that share as calls complete, and tries for more only
// once every retryPause, first with one call, then two, four and so on, until the
// worker refuses again. So a full worker is asked a few hundred times a second,
// and not by every waiting call at every completion.
//
// A line that is there to stay does nothing but add its length to every call's
// time; one that is gone again soon has saved a burst from refusals. So the longest
// wait that is accepted depends on for how long the line has been long: see tolerance.
type queue struct {
	rules     queueRules
	slots     int
	coldStart time.Duration // how long a call may wait while there is no slot at all; 0 = as ever
	running   int
	waiting   fifo
	service   time.Duration // smoothed time that a call holds a slot
	above     time.Time     // since when the line has been longer than the target; zero while it is not
	cut       bool          // the line stands: see tolerance
	pause     time.Time     // the next try for more than share; zero when the worker has room as far as is known
	share     int           // while pause is set: how many calls the worker was seen to take
	step      int           // by how much the next try raises share
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

// patience is the longest predicted wait that is ever accepted.
func (q *queue) patience() time.Duration {
	return max(q.rules.maxWait, patientServices*q.service)
}

const (
	// targetPart is the part of the patience that is left under a standing line. A
	// quarter would answer sooner still, but where the load is a tenth too much, it
	// loses two calls in a hundred that a half does not (TestAStandingLineIsCutShort).
	targetPart = 2

	// A standing line still holds work for every slot for two services, and at
	// least seven calls: the eighth is the one that is judged. With fewer, chance empties
	// it at little more load than the slots can do, and a slot that idles is lost.
	spareServices, spareCalls = 2, 8
)

// target is the longest predicted wait that is accepted under a standing line.
func (q *queue) target() time.Duration {
	busy := max(spareServices*q.service, spareCalls*q.service/time.Duration(max(q.slots, 1)))
	return min(q.patience(), max(q.patience()/targetPart, busy))
}

// tolerance is the longest predicted wait that is accepted of a call that joins
// now: all of the patience, until the line has been longer than the target for as long
// as that. Whatever has come at once and was accepted is served by then, so what stands
// is no burst, but load that the slots cannot do; waiting longer helps nobody then.
//
// The idea is CoDel's (Nichols and Jacobson, "Controlling Queue Delay", 2012), in the
// form in which servers use it, with two bounds and no rate (Maurer, "Fail at Scale",
// ACM Queue 13(8), 2015, "Controlled Delay"). Unlike there, the bound is on the wait
// that a call will have, before it waits: who is accepted is not dropped later for
// this. And the patience is back when the line is down to half of the target, not
// only when it is empty: with a load that is hardly too much, the slots would idle.
func (q *queue) tolerance(now time.Time) time.Duration {
	if q.stands(now) {
		return q.target()
	}
	return q.patience()
}

// stands is whether the line is a standing one.
func (q *queue) stands(now time.Time) bool {
	return q.cut || !q.above.IsZero() && now.Sub(q.above) >= q.patience()
}

// measure takes note of a changed line.
func (q *queue) measure(now time.Time) {
	predicted, target := q.predictedWait(), q.target()
	q.cut = q.stands(now) && predicted > target/2
	switch {
	case predicted <= target && !q.cut || q.waiting.len() == 0:
		q.above = time.Time{}
	case q.above.IsZero():
		q.above = now
	}
}

// judge says what would become of a call that joined now. It changes nothing,
// so a call can be refused before its body is read.
func (q *queue) judge(now, deadline time.Time) verdict {
	predicted := q.predictedWait()
	switch {
	case q.waiting.len() == 0 && q.running < q.room(now):
		return run
	case q.waiting.len() >= q.rules.maxWaiting:
		return full
	case q.awaitsColdStart():
		return wait // no prediction holds: the first slot is being made because this call waits
	case predicted > q.tolerance(now) || predicted > deadline.Sub(now)-q.service:
		return late
	default:
		return wait
	}
}

// room is how many calls may run now.
func (q *queue) room(now time.Time) int {
	if now.Before(q.pause) {
		return min(q.slots, q.share)
	}
	return q.slots
}

// awaitsColdStart is whether calls wait for the function's first process.
func (q *queue) awaitsColdStart() bool { return q.slots == 0 && q.coldStart > 0 }

// join takes a slot or a place for t, or refuses.
func (q *queue) join(now time.Time, t *ticket) verdict {
	t.joined = now
	said := q.judge(now, t.deadline)
	switch said {
	case run:
		q.running++
	case wait:
		q.promise(t)
		q.waiting.pushBack(t)
		q.measure(now)
	}
	return said
}

// promise lets t wait for a cold start if there is one to wait for. It keeps the
// promise when slots appear: those in front of it may take them.
func (q *queue) promise(t *ticket) {
	if q.awaitsColdStart() {
		t.cold = q.coldStart
	}
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
	return q.promote(now) // also during a pause: the slot that was given back is within the share
}

// putBack returns t to its place in the line: it was given a slot, and the worker
// had no room for it. The pause keeps the two from asking each other in a loop.
func (q *queue) putBack(now time.Time, t *ticket) {
	q.running--
	q.promise(t)
	q.waiting.insert(t)
	q.measure(now)
	q.share, q.step = q.running, 1
	q.pause = now.Add(q.rules.retryPause)
}

// withdraw takes t out, if it still waits, and returns the calls whose turn it
// is now: t may have been the one that kept the line paused.
func (q *queue) withdraw(now time.Time, t *ticket) (waited bool, turns []*ticket) {
	if !q.waiting.remove(t) {
		return false, nil
	}
	q.share = max(q.share, 1) // with nothing running, nobody else would ask again
	return true, q.promote(now)
}

// resize follows the worker's number of slots and how long its first takes to be
// made. Calls over a smaller number finish.
func (q *queue) resize(now time.Time, slots int, coldStart time.Duration) []*ticket {
	if q.slots == 0 {
		// What the worker without slots said, and how long the line stood there, is no
		// news of the slots it has now.
		q.pause, q.above, q.cut = time.Time{}, time.Time{}, false
	}
	q.slots, q.coldStart = slots, coldStart
	for i := range q.waiting.len() {
		q.promise(q.waiting.ring[q.waiting.at(i)])
	}
	return q.promote(now)
}

// promote gives the free slots to the calls in front.
func (q *queue) promote(now time.Time) []*ticket {
	q.raiseShare(now)
	room := q.slots
	if !q.pause.IsZero() {
		room = min(room, q.share)
	}
	var turns []*ticket
	for q.running < room && q.waiting.len() > 0 {
		turns = append(turns, q.waiting.popFront())
		q.running++
	}
	q.measure(now)
	return turns
}

// raiseShare tries for more than the share when a pause has passed without a
// refusal, and forgets about it when there is no more to try for.
func (q *queue) raiseShare(now time.Time) {
	if q.pause.IsZero() || now.Before(q.pause) {
		return
	}
	q.share += q.step
	q.step *= 2
	q.pause = now.Add(q.rules.retryPause)
	if q.share >= q.slots || q.waiting.len() == 0 {
		q.pause = time.Time{}
	}
}

// limit is when a waiting call gives up: when its deadline could no longer be
// kept, or when it has waited twice as long as was acceptable, or for as long as
// it was promised a cold start may take. Predictions err; a smaller factor
// refuses calls late that were accepted in good faith.
func (q *queue) limit(t *ticket) time.Time {
	evict := t.joined.Add(max(2*q.patience(), t.cold))
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
