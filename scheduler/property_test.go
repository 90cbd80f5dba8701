package scheduler

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
)

// drawPolicy draws a policy that Validate accepts.
func drawPolicy(t *rapid.T) Policy {
	p := DefaultPolicy("resize", "worker-resize", "workers")
	p.Floor = rapid.IntRange(0, 5).Draw(t, "floor")
	p.Ceiling = max(1, p.Floor) + rapid.IntRange(0, 40).Draw(t, "ceiling above floor")
	p.SlotsPerWorker = rapid.IntRange(1, 16).Draw(t, "slots per worker")
	p.ZeroAfter = time.Duration(rapid.SampledFrom([]int{0, 30, 90}).Draw(t, "zero after")) * time.Second
	p.BacklogAge = time.Duration(rapid.SampledFrom([]int{0, 5, 10}).Draw(t, "backlog age")) * time.Second
	p.StableWindow = time.Duration(rapid.IntRange(6, 60).Draw(t, "stable window")) * time.Second
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return p
}

// drawState draws what a leader may have seen for a while, most of it whole.
func drawState(t *rapid.T, p Policy) (State, time.Time) {
	now := time.Unix(1_000_000, 0)
	s := State{Policies: []Policy{p}}
	perWorker := rapid.IntRange(0, 16).Draw(t, "slots")
	calm := rapid.Bool().Draw(t, "calm") // else shrinking would hardly ever be drawn
	oddity := rapid.IntRange(0, 21)
	nodes := rapid.SampledFrom([]int{0, 3}).Draw(t, "queue nodes")
	if calm {
		oddity = rapid.IntRange(0, 0)
	}
	for range rapid.IntRange(0, 100).Draw(t, "observations") {
		now = now.Add(time.Second)
		known := rapid.IntRange(0, 40).Draw(t, "known")
		o := Observation{At: now, GatewaysKnown: 2, GatewaysAnswered: 2, QueueKnown: nodes, QueueAnswered: nodes}
		load := FleetLoad{WorkersKnown: known, WorkersAnswered: known}
		switch oddity.Draw(t, "oddity") {
		case 18:
			load.WorkersAnswered = rapid.IntRange(0, known).Draw(t, "answered")
		case 19:
			o.GatewaysAnswered = rapid.IntRange(0, 2).Draw(t, "gateways")
		case 20:
			now = now.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "gap")) * time.Second)
		case 21:
			o.QueueAnswered = 0
		}
		load.Slots = load.WorkersAnswered * perWorker
		if calm {
			load.Slots = max(load.Slots, 1)
		}
		load.Busy = rapid.IntRange(0, load.Slots).Draw(t, "busy")
		load.Reserved = min(rapid.IntRange(0, known).Draw(t, "reserved"), load.Slots)
		if calm {
			load.Busy = min(load.Busy, 2)
		} else {
			load.Waiting = rapid.IntRange(0, 50).Draw(t, "waiting")
		}
		load.BusyQueued = rapid.IntRange(0, load.Busy).Draw(t, "busy with queued calls")
		if o.QueueAnswered > 0 {
			load.Queued = rapid.IntRange(0, 3).Draw(t, "queued")
		}
		if load.Queued > 0 {
			load.OldestQueued = time.Duration(rapid.IntRange(0, 12).Draw(t, "oldest queued")) * time.Second
		}
		o.Fleets = fleets(p, load)
		s.Observe(o)
	}
	count := rapid.IntRange(0, 60).Draw(t, "count")
	s.Counts = map[string]Count{p.Job: {
		Known: oddity.Draw(t, "nomad away") < 20, Deploying: oddity.Draw(t, "deploying") == 20,
		Count: count, Running: rapid.IntRange(0, count).Draw(t, "running"), Index: 7,
	}}
	past := func(what string) time.Time {
		ago := rapid.IntRange(-1, 90).Draw(t, what)
		if ago < 0 {
			return time.Time{}
		}
		return now.Add(-time.Duration(ago) * time.Second)
	}
	m := Memory{ScaledUp: past("scaled up"), ScaledDown: past("scaled down")}
	if !calm {
		m.Panicked = past("panicked")
	}
	s.Memory = map[lightcone.FunctionName]Memory{p.Function: m}
	return s, now.Add(time.Duration(oddity.Draw(t, "age")/3) * time.Second)
}

// TestDecisionsKeepTheirPromises checks single decisions in any state.
func TestDecisionsKeepTheirPromises(t *testing.T) {
	kinds := map[Kind]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		s, now := drawState(t, p)
		before := slices.Clone(s.History)
		a := Reconcile(s, now)[0]
		kinds[a.Kind()]++
		if !reflect.DeepEqual(a, Reconcile(s, now)[0]) || !reflect.DeepEqual(before, s.History) {
			t.Fatal("the same state has got another decision, or another history")
		}
		count := s.Counts[p.Job]
		if a.Cause == "" || len(a.Reasons) == 0 || a.From != count.Count || a.Index != count.Index {
			t.Fatalf("unexplained, or about another fleet: %+v", a)
		}
		if a.Kind() != Hold && (!count.Known || count.Deploying) {
			t.Fatalf("acts without Nomad: %+v", a)
		}
		switch a.Kind() {
		case Up:
			if a.To > p.Ceiling {
				t.Fatalf("grows beyond the ceiling of %d: %+v", p.Ceiling, a)
			}
		case Down:
			if a.To < p.Floor || a.To < a.From-a.From/4-1 {
				t.Fatalf("shrinks below the floor of %d, or by too much: %+v", p.Floor, a)
			}
			newest := s.History[len(s.History)-1]
			load := newest.Fleets[p.Function]
			if load.WorkersAnswered < load.WorkersKnown || newest.GatewaysAnswered < newest.GatewaysKnown || load.WorkersKnown < min(count.Running, a.From) || (newest.QueueKnown > 0 && newest.QueueAnswered == 0) {
				t.Fatalf("shrinks on a partial answer: %+v", a)
			}
			if a.To == 0 && load.Queued > 0 {
				t.Fatalf("nobody is left for what is queued: %+v", a)
			}
			if a.From > p.Ceiling {
				return // an order
			}
			if load.OldestQueued > p.BacklogAge && p.BacklogAge > 0 {
				t.Fatalf("shrinks while queued calls are older than %v: %+v", p.BacklogAge, a)
			}
			if age := newest.At.Sub(s.History[0].At); age < p.StableWindow {
				t.Fatalf("shrinks after %v, before a stable window of %v: %+v", age, p.StableWindow, a)
			}
			m := s.Memory[p.Function]
			if recent(m.Panicked, now, p.StableWindow) || recent(m.ScaledDown, now, p.DownCoolDown) || recent(m.ScaledUp, now, p.DownCoolDown) {
				t.Fatalf("shrinks in panic or in a cool-down: %+v", a)
			}
		}
	})
	if kinds[Up] == 0 || kinds[Down] == 0 || kinds[Hold] == 0 {
		t.Errorf("not every kind of decision was drawn: %v", kinds)
	}
}

// TestMoreDemandNeverYieldsFewerWorkers compares two states that differ only in
// demand, at each moment at least as high in one as in the other.
func TestMoreDemandNeverYieldsFewerWorkers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		s, now := drawState(t, p)
		busier := s
		busier.History = slices.Clone(s.History)
		for i, o := range busier.History {
			load := o.Fleets[p.Function]
			load.Busy += rapid.IntRange(0, load.Slots-load.Busy).Draw(t, "more busy")
			load.BusyQueued = rapid.IntRange(load.BusyQueued, load.Busy).Draw(t, "more busy with queued calls")
			if o.QueueAnswered > 0 {
				more := rapid.IntRange(0, 20).Draw(t, "more queued")
				load.Queued += more
				load.OldestQueued += time.Duration(min(more, 1)*rapid.IntRange(0, 20).Draw(t, "older")) * time.Second
			}
			load.Waiting += rapid.IntRange(0, 20).Draw(t, "more waiting")
			busier.History[i].Fleets = fleets(p, load)
		}
		calm, busy := Reconcile(s, now)[0], Reconcile(busier, now)[0]
		if busy.To < calm.To {
			t.Fatalf("more demand, fewer workers:\n%+v\n%+v", calm, busy)
		}
	})
}

// TestConstantDemandSettles lives twenty minutes of a demand that is constant but
// for up to ten percent of noise: the fleet finds its size and keeps it, with
// room for the demand. Noise may let a fleet that had a little too much to spare
// shrink once more, late; what has shrunk never grows again.
func TestConstantDemandSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		p.ZeroAfter = 0
		p.StableWindow = time.Minute
		p.Ceiling = 200
		w := newPlant(p, rapid.IntRange(p.Floor, 60).Draw(t, "count"))
		w.boot = time.Duration(rapid.IntRange(0, 20).Draw(t, "boot")) * time.Second
		demand := rapid.IntRange(0, 400).Draw(t, "demand") * p.SlotsPerWorker / 4
		noise := rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "noise")
		c := conditions{visible: rapid.IntRange(1, 200).Draw(t, "visible"), gateways: 2}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		shrunk, late := false, 0
		for second := range 20 * 60 {
			c.demand = demand + int(noise*float64(demand)*(2*random.Float64()-1))
			a := w.tick(c)
			if a.Kind() != Hold && second > 14*60 {
				late++
			}
			shrunk = shrunk || a.Kind() == Down
			if (shrunk && a.Kind() == Up) || late > 1 || (late > 0 && noise == 0) {
				t.Fatalf("still moves after %d seconds of a demand of %d: %+v", second, demand, a)
			}
		}
		if load := w.load(c); load.Slots < c.demand {
			t.Fatalf("settled at %d slots for a demand of %d", load.Slots, c.demand)
		}
		most := max(p.Floor, 1, workersFor(float64(demand)*p.lean()*1.1*1.1, float64(p.SlotsPerWorker)))
		if w.count > most {
			t.Fatalf("settled at %d workers for a demand of %d slots, %d each; want at most %d", w.count, demand, p.SlotsPerWorker, most)
		}
	})
}

// TestWhatIsQueuedGetsDone lives with a fleet that may go to zero and a queue into
// which calls come for a while: however many, some worker is there until the last of
// them has been run.
func TestWhatIsQueuedGetsDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		w := newPlant(p, rapid.IntRange(0, p.Ceiling).Draw(t, "count"))
		w.boot = time.Duration(rapid.IntRange(0, 20).Draw(t, "boot")) * time.Second
		w.hasQueue, w.reserve = true, rapid.IntRange(0, p.SlotsPerWorker-1).Draw(t, "reserve")
		c := conditions{visible: 1000, gateways: 2, nodes: 3, queued: rapid.IntRange(1, 20).Draw(t, "queued")}
		for range 60 {
			w.tick(c)
		}
		left := len(w.queue)
		c.queued = 0
		for second := 0; len(w.queue)+w.running > 0; second++ {
			if w.tick(c); second > left+60 {
				t.Fatalf("%d of %d calls are still queued after %d seconds, with %d workers", len(w.queue), left, second, w.count)
			}
		}
	})
}

// TestPeakLeavesPartialAnswersOut looks at a busy moment that every other answer
// saw only half of.
func TestPeakLeavesPartialAnswersOut(t *testing.T) {
	var sights []sight
	for i := range 6 {
		s := sight{FleetLoad: FleetLoad{Busy: 40}, at: time.Unix(int64(i), 0), complete: true, usable: true}
		if i%2 == 1 {
			s.Busy, s.complete = 20, false
		}
		sights = append(sights, s)
	}
	if peak := peakDemand(sights, 6*time.Second); peak != 40 {
		t.Errorf("a peak of %v, want the 40 that whole answers saw", peak)
	}
}

// TestHistoryIsBounded observes far more often than any window asks for.
func TestHistoryIsBounded(t *testing.T) {
	p := DefaultPolicy("resize", "worker-resize", "workers")
	s := State{Policies: []Policy{p}}
	start := time.Unix(1_000_000, 0)
	for i := range 3 * maxHistory {
		s.Observe(Observation{At: start.Add(time.Duration(i) * time.Millisecond)})
	}
	if len(s.History) != maxHistory {
		t.Errorf("%d observations kept, want %d", len(s.History), maxHistory)
	}
	s.Observe(Observation{At: start})
	if newest := s.History[len(s.History)-1].At; newest.Equal(start) {
		t.Error("an observation that came late was taken for the newest")
	}
	s.Observe(Observation{At: start.Add(time.Hour)})
	if len(s.History) != 1 {
		t.Errorf("%d observations kept, want the one that a window reaches", len(s.History))
	}
}
