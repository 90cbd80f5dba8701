package scheduler

import (
	"fmt"
	"strings"
	"time"
)

// plant is a fleet that lives through a story: Nomad's count, workers that take
// a while to come up, calls that run or wait, and what of it can be seen.
type plant struct {
	policy Policy
	state  State
	start  time.Time
	now    time.Time
	count  int
	index  uint64
	slots  int           // that a worker really has; the policy declares its own number
	boot   time.Duration // from the count's growth to a worker's first slot
	ready  []time.Time   // of each worker

	hasQueue bool
	reserve  int         // slots of each worker that queued calls leave free
	queue    []time.Time // when each call that is queued came
	running  int         // queued calls that run now, each for a second
	last     string      // the last decision told
}

// conditions are what happens to the plant for a while.
type conditions struct {
	demand    int  // calls that want a slot at once
	visible   int  // of those without a slot, how many gateways keep waiting; the rest are refused
	away      int  // workers known that do not answer
	lost      int  // running workers that the catalogue does not know
	gateways  int  // that answer, of two
	queued    int  // calls that come into the queue each second
	nodes     int  // of the queue that answer, of three
	stuck     int  // queued calls that nobody can run
	blind     bool // no observation at all
	nomadAway bool
	deploying bool
}

func newPlant(p Policy, count int) *plant {
	start := time.Unix(1_000_000, 0)
	w := &plant{policy: p, start: start, now: start, index: 100, slots: p.SlotsPerWorker, boot: 3 * time.Second}
	w.state.Policies = []Policy{p}
	w.resize(count)
	for i := range w.ready {
		w.ready[i] = start
	}
	return w
}

// resize is what Nomad does with a new count.
func (w *plant) resize(count int) {
	for len(w.ready) < count {
		w.ready = append(w.ready, w.now.Add(w.boot))
	}
	w.ready, w.count = w.ready[:count], count
	w.index++
}

func (w *plant) workers() (up int) {
	for _, ready := range w.ready {
		if !ready.After(w.now) {
			up++
		}
	}
	return up
}

// load is the whole truth about the fleet.
func (w *plant) load(c conditions) FleetLoad {
	up := w.workers()
	slots := up * w.slots
	busy := min(slots, c.demand)
	load := FleetLoad{Slots: slots, Busy: busy + w.running, Waiting: min(c.visible, c.demand-busy), WorkersKnown: up, WorkersAnswered: up}
	if w.hasQueue {
		load.Reserved, load.BusyQueued, load.Queued = up*w.reserve, w.running, len(w.queue)
	}
	if len(w.queue) > 0 {
		load.OldestQueued = w.now.Sub(w.queue[0])
	}
	if c.stuck > 0 {
		load.Queued, load.OldestQueued = load.Queued+c.stuck, w.now.Sub(w.start)
	}
	return load
}

// work lets queued calls come, and workers take what their slots are free for.
func (w *plant) work(c conditions) {
	for range c.queued {
		w.queue = append(w.queue, w.now)
	}
	slots := w.workers() * w.slots
	idle := max(0, slots-min(slots, c.demand)-w.workers()*w.reserve)
	w.running = min(idle, len(w.queue))
	w.queue = w.queue[w.running:]
}

// observation is what can be seen of it: those away are as busy as the others.
func (w *plant) observation(c conditions) Observation {
	load := w.load(c)
	known := max(0, load.WorkersKnown-c.lost)
	answered := max(0, known-c.away)
	share := float64(answered) / float64(max(load.WorkersKnown, 1))
	load.Slots, load.Busy, load.BusyQueued = answered*w.slots, int(share*float64(load.Busy)), int(share*float64(load.BusyQueued))
	load.WorkersKnown, load.WorkersAnswered = known, answered
	if c.gateways == 0 {
		load.Waiting = 0
	}
	o := Observation{At: w.now, GatewaysKnown: 2, GatewaysAnswered: c.gateways}
	if w.hasQueue {
		o.QueueKnown, o.QueueAnswered = 3, c.nodes
	}
	if o.QueueAnswered == 0 {
		load.Queued, load.OldestQueued = 0, 0
	}
	load.Reserved = answered * w.reserve
	o.Fleets = fleets(w.policy, load)
	return o
}

// tick is one second of the story: see, decide, act.
func (w *plant) tick(c conditions) Action {
	w.now = w.now.Add(time.Second)
	w.work(c)
	if !c.blind {
		w.state.Observe(w.observation(c))
	}
	w.state.Counts = nil
	if !c.nomadAway {
		w.state.Counts = map[string]Count{w.policy.Job: {Known: true, Count: w.count, Running: w.count, Deploying: c.deploying, Index: w.index}}
	}
	a := Reconcile(w.state, w.now)[0]
	w.state.Remember(a, w.now, a.Kind() != Hold)
	if a.Kind() != Hold {
		w.resize(a.To)
	}
	return a
}

// tell is the decision as a line, or nothing if it is the one told last.
func (w *plant) tell(a Action) string {
	line := fmt.Sprintf("%s at %d (%s): %s", a.Kind(), a.From, a.Cause, strings.Join(a.Reasons, "; "))
	if a.Kind() != Hold {
		line = fmt.Sprintf("%s from %d to %d (%s): %s", a.Kind(), a.From, a.To, a.Cause, strings.Join(a.Reasons, "; "))
	}
	same := fmt.Sprint(a.Kind(), a.From, a.To, a.Cause)
	if same == w.last {
		return ""
	}
	w.last = same
	return fmt.Sprintf("%5v %s\n", w.now.Sub(w.start), line)
}

// run lives through a while and tells each change of decision.
func (w *plant) run(length time.Duration, c conditions) string {
	var story strings.Builder
	for range int(length / time.Second) {
		story.WriteString(w.tell(w.tick(c)))
	}
	load := w.load(c)
	fmt.Fprintf(&story, "%5v = %d workers, %d of %d slots busy, %d calls wait", w.now.Sub(w.start), w.count, load.Busy, load.Slots, load.Waiting)
	if w.hasQueue {
		fmt.Fprintf(&story, ", %d queued for up to %v", load.Queued, load.OldestQueued)
	}
	story.WriteString("\n")
	return story.String()
}
