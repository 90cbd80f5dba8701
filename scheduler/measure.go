package scheduler

import (
	"math"
	"slices"
	"time"
)

// Evidence is the numbers that a decision rests on. Demand is in slots: calls
// that run plus calls that wait.
type Evidence struct {
	FleetLoad                  // the newest observation
	At               time.Time `json:"at"` // of that observation; zero: there is none
	GatewaysKnown    int       `json:"gateways_known"`
	GatewaysAnswered int       `json:"gateways_answered"`
	QueueKnown       int       `json:"queue_known"`
	QueueAnswered    int       `json:"queue_answered"`
	Running          int       `json:"running"` // workers, as Nomad says

	SlotsPerWorker float64 `json:"slots_per_worker"` // learned over the stable window, or declared
	StableDemand   float64 `json:"stable_demand"`    // mean over the stable window
	PanicDemand    float64 `json:"panic_demand"`     // mean over the panic window
	PeakDemand     float64 `json:"peak_demand"`      // the largest mean over a panic window within the stable window, with the reserve of queued calls
	StableWorkers  int     `json:"stable_workers"`   // what StableDemand asks for, with headroom
	PanicWorkers   int     `json:"panic_workers"`    // what PanicDemand asks for, with headroom
	KeepWorkers    int     `json:"keep_workers"`     // what PeakDemand asks for, with headroom and tolerance: no fewer
	ShrinkAbove    int     `json:"shrink_above"`     // the same with tolerance twice: only a larger fleet shrinks

	Saturated  bool `json:"saturated"`  // slots full, over the panic window and now
	Backlogged bool `json:"backlogged"` // the oldest queued call is older than BacklogAge, now
	Stuck      bool `json:"stuck"`      // backlogged, and the slots that queued calls may take full, over the panic window and now
	Alarm      bool `json:"alarm"`      // a reason to panic, now
	Panicking  bool `json:"panicking"`  // an alarm within the last stable window
	Fresh      bool `json:"fresh"`      // the newest observation is not stale
	Usable     bool `json:"usable"`     // enough of those known answered to decide anything
	Complete   bool `json:"complete"`   // everybody known answered
	Covered    bool `json:"covered"`    // complete observations cover the stable window without a gap
	Idle       bool `json:"idle"`       // and cover ZeroAfter, without a busy slot, a waiting call or a queued one
}

// sight is what one observation says of one fleet.
type sight struct {
	FleetLoad
	at       time.Time
	complete bool // everybody known answered: it may be a reason to shrink
	usable   bool // enough answered: it may be a reason to grow
}

func (s sight) demand() float64 { return float64(s.Busy + s.Waiting) }

// needs is demand with the part of the reserve that the queued calls leave free: in a
// fleet with slots for the demand alone, they could not run, and it would have to grow
// again once they are too old.
func (s sight) needs() float64 {
	needs := s.demand()
	if open := s.Slots - s.Reserved; open > 0 {
		needs += float64(s.BusyQueued) * float64(s.Reserved) / float64(open)
	}
	return needs
}

// look reads one observation for one fleet. Without a gateway nobody can say
// that no call waits, so that is not complete. Of the queue, one node's word is enough.
func look(p Policy, o Observation, load FleetLoad) sight {
	allWorkers := load.WorkersAnswered >= load.WorkersKnown
	allGateways := o.GatewaysKnown > 0 && o.GatewaysAnswered >= o.GatewaysKnown
	queue := o.QueueKnown == 0 || o.QueueAnswered > 0
	enough := float64(load.WorkersAnswered) >= p.MinAnswered*float64(load.WorkersKnown)
	anybody := load.WorkersAnswered > 0 || o.GatewaysAnswered > 0
	return sight{FleetLoad: load, at: o.At, complete: allWorkers && allGateways && queue, usable: enough && anybody}
}

// measure computes the evidence. Windows end at the newest observation, not at
// now, so that they are never empty; whether it is too old is judged apart.
func measure(p Policy, s State, count Count, now time.Time) Evidence {
	e := Evidence{Running: count.Running, SlotsPerWorker: float64(p.SlotsPerWorker)}
	sights := sightsOf(p, s.History, &e)
	if len(sights) == 0 {
		return e
	}
	stable, panicked := since(sights, p.StableWindow), since(sights, p.PanicWindow)
	e.SlotsPerWorker = slotsPerWorker(p, stable)
	// The mean over the panic window, not its maximum: of a few momentary counts the
	// largest is mostly chance, and every fleet would be in panic all the time.
	e.StableDemand, e.PanicDemand = meanDemand(stable), meanDemand(panicked)
	e.PeakDemand = max(e.PanicDemand, peakDemand(stable, p.PanicWindow))
	e.StableWorkers = workersFor(e.StableDemand*p.ample(), e.SlotsPerWorker)
	e.PanicWorkers = workersFor(e.PanicDemand*p.ample(), e.SlotsPerWorker)
	e.KeepWorkers = workersFor(e.PeakDemand*p.lean(), e.SlotsPerWorker)
	// Were these two the same, each window a little calmer than all before it
	// would cost one more worker, for hours.
	e.ShrinkAbove = workersFor(e.PeakDemand*p.lean()*(1+p.Tolerance), e.SlotsPerWorker)

	// Full now as well: slots that have just been added must not be counted as
	// full because those before them were.
	newest := sights[len(sights)-1:]
	e.Saturated = full(p, panicked, all) && full(p, newest, all)
	e.Backlogged = p.BacklogAge > 0 && e.OldestQueued > p.BacklogAge
	e.Stuck = e.Backlogged && full(p, panicked, unreserved) && full(p, newest, unreserved)
	e.Fresh = now.Sub(e.At) <= p.StaleAfter
	e.Alarm = count.Known && e.Fresh && e.Usable &&
		(e.Saturated || e.Stuck || float64(e.PanicWorkers) >= p.PanicThreshold*float64(max(count.Count, 1)))
	e.Panicking = e.Alarm || recent(s.Memory[p.Function].Panicked, now, p.StableWindow)
	e.Covered = covered(sights, p.StableWindow, p.StaleAfter)
	e.Idle = p.ZeroAfter > 0 && covered(sights, p.ZeroAfter, p.StaleAfter) && idle(since(sights, p.ZeroAfter))
	return e
}

// sightsOf lists what the history says of the fleet, oldest first, and puts the
// newest into e.
func sightsOf(p Policy, history []Observation, e *Evidence) []sight {
	sights := make([]sight, 0, len(history))
	for _, o := range history {
		load, seen := o.Fleets[p.Function]
		if !seen {
			continue
		}
		s := look(p, o, load)
		sights = append(sights, s)
		e.FleetLoad, e.At, e.Complete, e.Usable = load, o.At, s.complete, s.usable
		e.GatewaysKnown, e.GatewaysAnswered = o.GatewaysKnown, o.GatewaysAnswered
		e.QueueKnown, e.QueueAnswered = o.QueueKnown, o.QueueAnswered
	}
	return sights
}

// workersFor is ceil(slots / perWorker); a rounding error of floating point does
// not cost a worker.
func workersFor(slots, perWorker float64) int {
	return int(math.Ceil(slots/perWorker - 1e-9))
}

// since is the sights within a window that ends at the newest.
func since(sights []sight, window time.Duration) []sight {
	newest := sights[len(sights)-1].at
	first := len(sights) - 1
	for first > 0 && newest.Sub(sights[first-1].at) < window {
		first--
	}
	return sights[first:]
}

// slotsPerWorker is the mean of the workers that answered; of those that are
// still starting there are few within a stable window.
func slotsPerWorker(p Policy, sights []sight) float64 {
	var slots, workers int
	for _, s := range sights {
		if s.usable {
			slots, workers = slots+s.Slots, workers+s.WorkersAnswered
		}
	}
	if slots == 0 || workers == 0 {
		return float64(p.SlotsPerWorker)
	}
	return float64(slots) / float64(workers)
}

func meanDemand(sights []sight) float64 {
	var sum float64
	var n int
	for _, s := range sights {
		if s.usable {
			sum, n = sum+s.demand(), n+1
		}
	}
	return sum / float64(max(n, 1))
}

// idle counts every answer, however partial: one busy slot is activity, and one queued
// call is work to come.
func idle(sights []sight) bool {
	return !slices.ContainsFunc(sights, func(s sight) bool { return s.demand() > 0 || s.Queued > 0 })
}

// peakDemand is the largest mean over one panic window. Partial answers are left
// out: they would make a busy moment look calm.
func peakDemand(sights []sight, window time.Duration) float64 {
	var peak, sum float64
	var n, first int // complete sights in the panic window that ends at s, and where it begins
	for _, s := range sights {
		if !s.complete {
			continue
		}
		sum, n = sum+s.needs(), n+1
		for ; s.at.Sub(sights[first].at) >= window; first++ {
			if sights[first].complete {
				sum, n = sum-sights[first].needs(), n-1
			}
		}
		peak = max(peak, sum/float64(n))
	}
	return peak
}

// Of a fleet's slots, all are for calls that somebody waits for, and those that are not
// reserved for them for queued ones, too.
func all(s sight) int        { return s.Slots }
func unreserved(s sight) int { return s.Slots - s.Reserved }

// full says whether the slots that count are busy up to the policy's saturation.
func full(p Policy, sights []sight, counted func(sight) int) bool {
	var slots, busy int
	for _, s := range sights {
		if s.usable {
			slots, busy = slots+counted(s), busy+s.Busy
		}
	}
	return slots > 0 && float64(busy) >= p.Saturation*float64(slots)
}

// covered says whether complete observations reach back over the whole window
// with no gap longer than gap: a worker that leaves is silent for a moment and
// does no harm, a blind minute could hide anything.
func covered(sights []sight, window, gap time.Duration) bool {
	newest := sights[len(sights)-1].at
	last := newest
	for i := len(sights) - 1; i >= 0; i-- {
		s := sights[i]
		if !s.complete {
			continue
		}
		if last.Sub(s.at) > gap {
			return false
		}
		last = s.at
		if newest.Sub(s.at) >= window {
			return true
		}
	}
	return false
}

// recent says whether then is set and less than span ago.
func recent(then, now time.Time, span time.Duration) bool {
	return !then.IsZero() && now.Sub(then) < span
}
