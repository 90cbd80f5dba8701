package scheduler

import (
	"errors"
	"fmt"
	"time"

	"lightcone"
)

// Policy is how one function's fleet follows its demand. Start from
// DefaultPolicy: the zero values of durations mean what they say.
type Policy struct {
	Function lightcone.FunctionName
	Job      string // id of the Nomad job whose count is the fleet's; one policy each
	Group    string // its task group

	Floor   int // workers, at least; 0 lets the fleet go to zero (see ZeroAfter)
	Ceiling int // workers, at most

	SlotsPerWorker int     // declared; used while no worker has told its own
	Headroom       float64 // room above demand, as a share of it: 0.20
	Tolerance      float64 // further room left by shrinking, which starts at twice that, so that noise moves nothing: 0.10

	StableWindow   time.Duration // over its mean the fleet grows in calm; its busiest moment bounds shrinking
	PanicWindow    time.Duration // its mean decides growth in panic; at most StableWindow
	PanicThreshold float64       // panic when the panic window asks for so many times the workers there are
	Saturation     float64       // panic when this share of the slots is busy: demand behind full slots is not visible

	UpCoolDown   time.Duration // between two growths; not from zero
	DownCoolDown time.Duration // between any action and the next step down
	DownStep     float64       // share of the fleet that one step down may take, rounded up: 0.25
	ZeroAfter    time.Duration // without a busy slot, a waiting or a queued call, before the last worker goes; 0 = it stays

	BacklogAge  time.Duration // an older queued call stops shrinking, and growth begins if full slots are why; 0 = age does not count
	StaleAfter  time.Duration // an observation older than this is none; a longer gap breaks a window
	MinAnswered float64       // share of the known workers that must answer for anything to be decided
}

// DefaultPolicy is the policy of a fleet that serves people: between two and a
// hundred workers of four slots, with Knative's windows and threshold.
func DefaultPolicy(function lightcone.FunctionName, job, group string) Policy {
	return Policy{
		Function: function, Job: job, Group: group,
		Floor: 2, Ceiling: 100,
		SlotsPerWorker: 4, Headroom: 0.20, Tolerance: 0.10,
		StableWindow: time.Minute, PanicWindow: 6 * time.Second, PanicThreshold: 2, Saturation: 0.90,
		UpCoolDown: 5 * time.Second, DownCoolDown: 30 * time.Second, DownStep: 0.25, ZeroAfter: 10 * time.Minute,
		BacklogAge: 10 * time.Second, StaleAfter: 5 * time.Second, MinAnswered: 0.5,
	}
}

// Validate names the first field that cannot be used.
func (p Policy) Validate() error {
	if err := p.Function.Validate(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	wrong := func(text string, values ...any) error {
		return fmt.Errorf("policy of function %s: %s", p.Function, fmt.Sprintf(text, values...))
	}
	switch {
	case p.Job == "" || p.Group == "":
		return wrong("job %q and group %q: name both", p.Job, p.Group)
	case p.Floor < 0 || p.Ceiling < max(p.Floor, 1):
		return wrong("floor of %d and ceiling of %d workers: want 0 <= floor <= ceiling, and a ceiling of at least 1", p.Floor, p.Ceiling)
	case p.SlotsPerWorker < 1:
		return wrong("%d slots per worker: want at least 1", p.SlotsPerWorker)
	case !within(p.Headroom, 0, 10) || !within(p.Tolerance, 0, 10):
		return wrong("headroom %v and tolerance %v: want shares from 0 to 10", p.Headroom, p.Tolerance)
	case p.PanicWindow <= 0 || p.StableWindow < p.PanicWindow:
		return wrong("panic window %v and stable window %v: want 0 < panic <= stable", p.PanicWindow, p.StableWindow)
	case !within(p.PanicThreshold, 1, 1000):
		return wrong("panic threshold %v: want 1 to 1000", p.PanicThreshold)
	case !within(p.Saturation, 0.01, 1):
		return wrong("saturation %v: want a share from 0.01 to 1", p.Saturation)
	case p.lean()*p.Saturation <= 1:
		// A fleet shrunk to its bound would count as full, grow by half, and shrink again for ever.
		return wrong("headroom %v and tolerance %v leave a calm fleet busier than saturation %v: raise one of them", p.Headroom, p.Tolerance, p.Saturation)
	case p.UpCoolDown < 0 || p.DownCoolDown < 0 || p.ZeroAfter < 0 || p.BacklogAge < 0:
		return wrong("cool-downs %v (up) and %v (down), zero after %v, backlog age %v: want none negative", p.UpCoolDown, p.DownCoolDown, p.ZeroAfter, p.BacklogAge)
	case !within(p.DownStep, 0.001, 1):
		return wrong("step down %v: want a share from 0.001 to 1", p.DownStep)
	case p.StaleAfter <= 0:
		return wrong("stale after %v: want more than 0", p.StaleAfter)
	case !within(p.MinAnswered, 0, 1):
		return wrong("min answered %v: want a share from 0 to 1", p.MinAnswered)
	}
	return nil
}

// within is false for a value that is no number, too.
func within(value, low, high float64) bool { return value >= low && value <= high }

// ample is the factor on demand when growing, lean the one when shrinking.
func (p Policy) ample() float64 { return 1 + p.Headroom }
func (p Policy) lean() float64  { return p.ample() * (1 + p.Tolerance) }

// history is how far back decisions look.
func (p Policy) history() time.Duration {
	return max(p.StableWindow, p.ZeroAfter) + p.StaleAfter
}

// validatePolicies checks each policy, and what they must not share.
func validatePolicies(policies []Policy) error {
	if len(policies) == 0 {
		return errors.New("no policies: name at least one function's fleet")
	}
	functions, jobs := map[lightcone.FunctionName]bool{}, map[string]bool{}
	for _, p := range policies {
		if err := p.Validate(); err != nil {
			return err
		}
		if functions[p.Function] || jobs[p.Job] {
			return fmt.Errorf("policy of function %s on job %s: another policy has the function or the job; two would undo each other's work", p.Function, p.Job)
		}
		functions[p.Function], jobs[p.Job] = true, true
	}
	return nil
}
