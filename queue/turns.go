package queue

import "time"

// laneState is what a worker knows of a lane, and has under way there.
type laneState string

const (
	laneMaybe  laneState = "maybe"  // there may be a call: ask
	laneAsked  laneState = "asked"  // a pull is under way that is answered at once
	laneEmpty  laneState = "empty"  // there was none when it was asked
	laneWaited laneState = "waited" // a pull is under way that waits for a call
	laneFailed laneState = "failed" // nobody answered for it: leave it for a moment
)

const (
	askLapses   = time.Second             // an answer to an ask that comes later is taken for lost
	waitExpires = 2500 * time.Millisecond // the nodes end a waiting pull then, so that one they have lost is noticed soon
	waitLapses  = waitExpires + 500*time.Millisecond
	failedRests = 250 * time.Millisecond
	emptyRests  = 250 * time.Millisecond // a lane that had no call, and that nobody waits on, has its turn again
)

// turns is how a worker takes calls from its function's lanes: in turn, one at a time
// from each, so that a long lane does not keep the others waiting. While it has room
// it asks lanes that may have calls; when a whole round has none, it waits on all of them
// at once. While others have so many that there is never room to wait, it asks the empty
// ones now and then.
// A call that comes to a waiting pull when the room is gone goes back at once. It is
// pure, for one goroutine. Its zero value knows nothing of the lanes.
type turns struct {
	lanes [Lanes]struct {
		state laneState
		until time.Time // when what is under way is taken for lost, or the rest is over
	}
	next  int
	empty int // asks in a row that found no call; with a round of them, it is time to wait
}

// pull is a request for a call of a lane: answered at once, or when there is one.
type pull struct {
	lane int
	wait bool
}

// plan says which pulls to send now, with room for so many more calls.
func (t *turns) plan(room int, now time.Time) []pull {
	if room == 0 {
		t.empty = 0
	}
	for i := range t.lanes {
		l := &t.lanes[i]
		switch {
		case l.state == laneMaybe || l.state != "" && now.Before(l.until):
		case l.state == laneEmpty && (room == 0 || t.empty >= Lanes): // it is for later, or for a pull that waits
		default:
			if l.state == laneAsked {
				t.empty = 0
			}
			l.state = laneMaybe
		}
	}
	asked := t.asked()
	var pulls []pull
	first := t.next
	for i := 0; i < Lanes && asked < room; i++ {
		lane := (first + i) % Lanes
		if t.lanes[lane].state == laneMaybe {
			t.set(lane, laneAsked, now.Add(askLapses))
			pulls = append(pulls, pull{lane: lane})
			asked++
			t.next = (lane + 1) % Lanes
		}
	}
	for lane := 0; lane < Lanes && asked < room; lane++ {
		if t.lanes[lane].state == laneEmpty {
			t.set(lane, laneWaited, now.Add(waitLapses))
			pulls = append(pulls, pull{lane: lane, wait: true})
		}
	}
	return pulls
}

func (t *turns) set(lane int, state laneState, until time.Time) {
	t.lanes[lane].state, t.lanes[lane].until = state, until
}

// called notes that a call came from the lane: there may be more.
func (t *turns) called(lane int) {
	t.empty = 0
	t.set(lane, laneMaybe, time.Time{})
}

// none notes that the lane had no call, at once or until its wait was over.
func (t *turns) none(lane int, now time.Time) {
	if t.lanes[lane].state == laneAsked {
		t.empty++
	}
	t.set(lane, laneEmpty, now.Add(emptyRests))
}

// failed notes that nobody answers for the lane.
func (t *turns) failed(lane int, now time.Time) {
	t.empty = 0
	t.set(lane, laneFailed, now.Add(failedRests))
}

// asked is how many pulls are under way that are answered at once.
func (t *turns) asked() (n int) {
	for i := range t.lanes {
		if t.lanes[i].state == laneAsked {
			n++
		}
	}
	return n
}

// work says whether a lane may have a call that nobody has been asked for.
func (t *turns) work() bool {
	for i := range t.lanes {
		if t.lanes[i].state == laneMaybe {
			return true
		}
	}
	return false
}

// wake is when plan has to be asked again, if nothing happens before; zero = never.
func (t *turns) wake() time.Time {
	var first time.Time
	for i := range t.lanes {
		l := &t.lanes[i]
		if l.state != laneMaybe && l.state != laneEmpty && (first.IsZero() || l.until.Before(first)) {
			first = l.until
		}
	}
	return first
}
