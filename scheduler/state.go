package scheduler

import (
	"slices"
	"time"

	"lightcone"
)

// maxHistory bounds the observations kept, whatever the windows: at one a second
// a little over an hour.
const maxHistory = 4096

// Observation is what the fleets and the gateways said when they were asked.
type Observation struct {
	At               time.Time // when the asking began; the loop fills it in if the observer does not
	GatewaysKnown    int       // gateways in the catalogue
	GatewaysAnswered int       // of those, the ones that told how many calls wait
	QueueKnown       int       // nodes of the queue in the catalogue; 0 = there is no queue
	QueueAnswered    int       // of those, the ones that told what is queued: each tells of the whole queue
	Fleets           map[lightcone.FunctionName]FleetLoad
}

// FleetLoad is one function's load, summed over those that answered. A worker
// that drains belongs to nobody here: it takes no calls. At zero workers, waiting
// calls are the only sign that leads out of zero: a function that may go there has
// its calls wait (functions.Offer.ColdStart); those refused at once are not seen.
// What is queued is no demand: it may be a day's work, and only its age says whether
// it gets done. What of it runs is.
type FleetLoad struct {
	Slots           int `json:"slots"`            // calls that the workers can run at once
	Busy            int `json:"busy"`             // of those, the ones that run
	Waiting         int `json:"waiting"`          // calls that wait in gateways
	WorkersKnown    int `json:"workers_known"`    // workers in the catalogue
	WorkersAnswered int `json:"workers_answered"` // of those, the ones that told their slots

	Reserved     int           `json:"reserved"`         // of the slots, those that queued calls leave free
	BusyQueued   int           `json:"busy_queued"`      // of the busy slots, those that run queued calls
	Queued       int           `json:"queued"`           // calls in the queue that no worker runs
	OldestQueued time.Duration `json:"oldest_queued_ns"` // how long the oldest that was never run has been there; 0 = none
}

// Count is how many workers Nomad has been told to run, and does.
type Count struct {
	Known     bool   // false: Nomad did not say, and nothing is done to the job
	Count     int    // workers asked for
	Running   int    // allocations that run, as Nomad sees it
	Deploying bool   // a deployment is active: Nomad refuses to scale
	Index     uint64 // the job's JobModifyIndex; the fence of an effect
}

// Memory is what has to be remembered of earlier decisions about one fleet. The
// zero Memory is that of a new leader.
type Memory struct {
	ScaledUp   time.Time // last growth that was tried
	ScaledDown time.Time // last step down that was tried
	Panicked   time.Time // last time that the panic window gave a reason to panic
}

// State is all that a decision rests on.
type State struct {
	Policies []Policy
	History  []Observation                     // oldest first; add with Observe
	Counts   map[string]Count                  // by job id; a missing one is unknown
	Memory   map[lightcone.FunctionName]Memory // write with Remember
}

// Observe adds what was seen and forgets what no window reaches any more. An
// observation that is not younger than the last one is dropped: it came late.
func (s *State) Observe(o Observation) {
	if n := len(s.History); n > 0 && !o.At.After(s.History[n-1].At) {
		return
	}
	s.History = append(s.History, o)
	var reach time.Duration
	for _, p := range s.Policies {
		reach = max(reach, p.history())
	}
	old := max(0, len(s.History)-maxHistory)
	for old < len(s.History) && o.At.Sub(s.History[old].At) > reach {
		old++
	}
	s.History = slices.Delete(s.History, 0, old)
}

// Remember keeps what the next decisions need of this one. Tried says whether its
// effect was attempted: an attempt whose answer was lost may have taken effect,
// so the cool-downs count from it too.
func (s *State) Remember(a Action, now time.Time, tried bool) {
	if s.Memory == nil {
		s.Memory = make(map[lightcone.FunctionName]Memory)
	}
	m := s.Memory[a.Function]
	if a.Evidence.Alarm {
		m.Panicked = now
	}
	if tried && a.Kind() == Up {
		m.ScaledUp = now
	}
	if tried && a.Kind() == Down {
		m.ScaledDown = now
	}
	s.Memory[a.Function] = m
}
