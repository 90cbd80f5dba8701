package scheduler

import (
	"fmt"
	"math"
	"time"

	"lightcone"
)

// Kind is what a decision does to a fleet.
type Kind string

// The kinds.
const (
	Up   Kind = "up"
	Down Kind = "down"
	Hold Kind = "hold"
)

// Cause is why, in a word: a label for metrics, and what makes one decision
// differ from the last. The numbers are in the reasons.
type Cause string

// The causes. Those of a hold say what stands in the way, or that nothing does.
const (
	CauseSteady        Cause = "steady"          // hold: as many as are needed
	CauseCountUnknown  Cause = "count-unknown"   // hold: Nomad did not say how many there are
	CauseDeploying     Cause = "deploying"       // hold: Nomad refuses to scale during a deployment
	CauseNoObservation Cause = "no-observation"  // hold: nothing recent has been seen
	CauseFewAnswered   Cause = "few-answered"    // hold: most of the fleet did not answer
	CauseUpCoolDown    Cause = "up-cool-down"    // hold: grew a moment ago
	CauseAtCeiling     Cause = "at-ceiling"      // hold: more are needed than are allowed
	CauseStarting      Cause = "starting"        // hold: full, and workers are on their way
	CausePanicking     Cause = "panicking"       // hold: no shrinking in panic
	CauseBacklogged    Cause = "backlogged"      // hold: no shrinking while a queued call is too old
	CausePartial       Cause = "partial-answer"  // hold: no shrinking while somebody does not answer
	CauseMissing       Cause = "workers-missing" // hold: no shrinking while running workers are not in the catalogue
	CauseWindow        Cause = "window-not-full" // hold: no shrinking on less than a stable window
	CauseDownCoolDown  Cause = "down-cool-down"  // hold: one step at a time

	CauseFloor        Cause = "below-floor"   // up
	CauseWaiting      Cause = "calls-waiting" // up from zero
	CauseQueued       Cause = "calls-queued"  // up from zero
	CauseSaturated    Cause = "saturated"     // up: full slots hide demand
	CauseBacklog      Cause = "backlog"       // up: queued calls get too old behind full slots
	CausePanic        Cause = "panic"         // up: the panic window's demand
	CauseDemand       Cause = "demand"        // up: demand of both windows
	CauseAboveCeiling Cause = "above-ceiling" // down
	CauseExcess       Cause = "excess"        // down: fewer do
	CauseIdle         Cause = "idle"          // down to zero
)

// Action is the decision about one fleet. It has an effect unless To equals From.
type Action struct {
	Function lightcone.FunctionName `json:"function"`
	Job      string                 `json:"job"`
	Group    string                 `json:"group"`
	From     int                    `json:"from"`    // workers Nomad was told to run; 0 when unknown
	To       int                    `json:"to"`      // workers to tell it
	Desired  int                    `json:"desired"` // where it would go if nothing held it back
	Index    uint64                 `json:"index"`   // the JobModifyIndex that From was read at
	Cause    Cause                  `json:"cause"`
	Reasons  []string               `json:"reasons"` // sentences with the numbers
	Evidence Evidence               `json:"evidence"`
}

// Kind says whether the action grows the fleet, shrinks it or leaves it.
func (a Action) Kind() Kind {
	switch {
	case a.To > a.From:
		return Up
	case a.To < a.From:
		return Down
	default:
		return Hold
	}
}

// saturatedGrowth is the least growth of a fleet whose slots are full: its true
// demand is not visible, and half as many again finds it in few steps. So it is for
// queued calls that get too old behind full slots: their number says nothing of it.
const saturatedGrowth = 1.5

// Reconcile decides about each fleet, in the order of the policies. It changes
// nothing: the caller acts, and then tells the state with Remember.
func Reconcile(state State, now time.Time) []Action {
	actions := make([]Action, 0, len(state.Policies))
	for _, p := range state.Policies {
		d := decision{policy: p, memory: state.Memory[p.Function], now: now}
		actions = append(actions, d.decide(state))
	}
	return actions
}

// decision is one fleet's, while it is made.
type decision struct {
	policy Policy
	memory Memory
	now    time.Time
	Action
}

func (d *decision) decide(state State) Action {
	p, count := d.policy, state.Counts[d.policy.Job]
	d.Action = Action{
		Function: p.Function, Job: p.Job, Group: p.Group,
		From: count.Count, To: count.Count, Desired: count.Count, Index: count.Index,
		Evidence: measure(p, state, count, d.now),
	}
	switch {
	case !count.Known:
		return d.hold(CauseCountUnknown, "Nomad has not said how many workers job %s has", p.Job)
	case count.Deploying:
		return d.hold(CauseDeploying, "job %s is being deployed, and Nomad refuses to scale until that is over", p.Job)
	}
	if cause, why := d.blind(); cause != "" {
		if d.From < p.Floor { // the floor was declared: it needs no measuring
			return d.grow(p.Floor, CauseFloor, fmt.Sprintf("the floor is %d", p.Floor))
		}
		return d.hold(cause, "%s", why)
	}
	return d.follow()
}

// blind says why nothing can be decided from what was seen, if so.
func (d *decision) blind() (Cause, string) {
	e := d.Evidence
	switch {
	case e.At.IsZero():
		return CauseNoObservation, "nothing has been seen of the fleet yet"
	case !e.Fresh:
		return CauseNoObservation, fmt.Sprintf("the newest observation is %v old, more than %v", d.now.Sub(e.At).Round(time.Millisecond), d.policy.StaleAfter)
	case !e.Usable:
		return CauseFewAnswered, d.answered() + ": too few"
	default:
		return "", ""
	}
}

// follow decides from demand.
func (d *decision) follow() Action {
	p, e := d.policy, d.Evidence
	want, cause, why := d.wanted()
	keep, excess := max(e.KeepWorkers, d.least()), d.From > max(e.ShrinkAbove, d.least())
	switch bounded := min(max(want, p.Floor), p.Ceiling); {
	case d.From > p.Ceiling:
		return d.shrink(p.Ceiling, CauseAboveCeiling, fmt.Sprintf("the ceiling is %d", p.Ceiling))
	case bounded > d.From && want < p.Floor:
		return d.grow(p.Floor, CauseFloor, fmt.Sprintf("the floor is %d", p.Floor))
	case bounded > d.From:
		return d.grow(bounded, cause, why)
	case want > d.From:
		return d.hold(CauseAtCeiling, "at the ceiling of %d; %s", p.Ceiling, why)
	case (e.Saturated || e.Stuck) && e.WorkersKnown < d.From:
		return d.hold(CauseStarting, "%s; %d of %d workers are still on their way", d.fullness(), d.From-e.WorkersKnown, d.From)
	case excess && keep == 0:
		return d.shrink(0, CauseIdle, fmt.Sprintf("no busy slot and no waiting call for %v", p.ZeroAfter))
	case excess:
		return d.shrink(keep, CauseExcess, fmt.Sprintf("the busiest %v of the last %v asked for %.1f slots, %.1f per worker; workers needed: %d", p.PanicWindow, p.StableWindow, e.PeakDemand, e.SlotsPerWorker, keep))
	default:
		return d.hold(CauseSteady, "demand of %.1f slots (stable), %.1f (panic); workers enough for it: %d", e.StableDemand, e.PanicDemand, d.From)
	}
}

// least is the fewest workers that no lack of demand goes below.
func (d *decision) least() int {
	if d.policy.Floor == 0 && d.From > 0 && !d.Evidence.Idle {
		return 1
	}
	return d.policy.Floor
}

// wanted is what demand asks for before bounds and cool-downs. Each branch, and
// the choice between them, never asks for less when demand is higher.
func (d *decision) wanted() (int, Cause, string) {
	p, e := d.policy, d.Evidence
	// In calm both windows must ask: a burst that is over is in the stable mean
	// for long, and a short one is in the panic mean at once.
	want, cause := min(e.StableWorkers, e.PanicWorkers), CauseDemand
	why := fmt.Sprintf("demand of %.1f slots (stable), %.1f (panic), %.1f per worker; workers needed: %d", e.StableDemand, e.PanicDemand, e.SlotsPerWorker, want)
	if e.Panicking && e.PanicWorkers > want {
		want, cause = e.PanicWorkers, CausePanic
		why = fmt.Sprintf("in panic, the last %v's demand of %.1f slots, %.1f per worker; workers needed: %d", p.PanicWindow, e.PanicDemand, e.SlotsPerWorker, want)
	}
	// Half again of the workers that are there, not of those asked for: the ones
	// still starting have not had a chance to help.
	present := min(d.From, e.WorkersKnown)
	switch grown := int(math.Ceil(saturatedGrowth * float64(present))); {
	case e.Saturated && grown > want:
		want, cause = grown, CauseSaturated
		why = fmt.Sprintf("%s, so true demand is not visible: half as many again as %d is %d", d.fullness(), present, grown)
	case e.Stuck && grown > want:
		want, cause = grown, CauseBacklog
		why = fmt.Sprintf("%s, and %s: half as many again as %d is %d", d.backlog(), d.fullness(), present, grown)
	}
	switch {
	case d.From > 0 || want > 1:
	case e.Waiting > 0:
		want, cause, why = 1, CauseWaiting, fmt.Sprintf("calls that wait: %d, and there is no worker", e.Waiting)
	case e.Queued > 0:
		want, cause, why = 1, CauseQueued, fmt.Sprintf("calls in the queue: %d, and there is no worker", e.Queued)
	}
	return want, cause, why
}

func (d *decision) fullness() string {
	if e := d.Evidence; e.Reserved > 0 && e.Stuck && !e.Saturated {
		return fmt.Sprintf("%d of %d slots are busy, of which queued calls leave %d free", e.Busy, e.Slots, e.Reserved)
	}
	return fmt.Sprintf("%d of %d slots are busy", d.Evidence.Busy, d.Evidence.Slots)
}

func (d *decision) backlog() string {
	oldest := d.Evidence.OldestQueued.Round(100 * time.Millisecond)
	return fmt.Sprintf("the oldest queued call is %v old, more than %v", oldest, d.policy.BacklogAge)
}

// answered is who told what, as far as there is anybody to tell.
func (d *decision) answered() string {
	e := d.Evidence
	said := fmt.Sprintf("%d of %d workers and %d of %d gateways answered", e.WorkersAnswered, e.WorkersKnown, e.GatewaysAnswered, e.GatewaysKnown)
	if e.QueueKnown > 0 && e.QueueAnswered == 0 {
		said += fmt.Sprintf(", none of %d queue nodes", e.QueueKnown)
	}
	return said
}

// grow acts unless the last growth was a moment ago. From zero it does not wait:
// calls do.
func (d *decision) grow(to int, cause Cause, why string) Action {
	d.Desired = to
	if d.From > 0 && recent(d.memory.ScaledUp, d.now, d.policy.UpCoolDown) {
		return d.hold(CauseUpCoolDown, "grew less than %v ago; %s", d.policy.UpCoolDown, why)
	}
	return d.act(to, cause, why)
}

// shrink takes one step towards to, unless something speaks against it. A
// ceiling is an order: panic and windows do not count against it, blindness does.
func (d *decision) shrink(to int, cause Cause, why string) Action {
	p, e, ordered := d.policy, d.Evidence, cause == CauseAboveCeiling
	running := min(e.Running, d.From)
	d.Desired = to
	switch {
	case e.Panicking && !ordered:
		return d.hold(CausePanicking, "a reason to panic within the last %v, and nothing shrinks in panic; %s", p.StableWindow, why)
	case e.Backlogged && !ordered:
		return d.hold(CauseBacklogged, "%s, and nothing shrinks meanwhile; %s", d.backlog(), why)
	case !e.Complete:
		return d.hold(CausePartial, "%s, and nothing shrinks on a partial answer; %s", d.answered(), why)
	case e.WorkersKnown < running:
		return d.hold(CauseMissing, "the catalogue knows %d of %d running workers, and nothing shrinks while some are missing; %s", e.WorkersKnown, running, why)
	case !e.Covered && !ordered:
		return d.hold(CauseWindow, "the last %v have not been seen without a gap; %s", p.StableWindow, why)
	case recent(d.memory.ScaledDown, d.now, p.DownCoolDown) || recent(d.memory.ScaledUp, d.now, p.DownCoolDown):
		return d.hold(CauseDownCoolDown, "changed less than %v ago; %s", p.DownCoolDown, why)
	}
	step := int(math.Ceil(p.DownStep*float64(d.From) - 1e-9))
	if d.From-step > to {
		return d.act(d.From-step, cause, why, fmt.Sprintf("one step of at most %d each %v", step, p.DownCoolDown))
	}
	return d.act(to, cause, why)
}

func (d *decision) act(to int, cause Cause, reasons ...string) Action {
	d.To, d.Cause, d.Reasons = to, cause, reasons
	return d.Action
}

func (d *decision) hold(cause Cause, format string, values ...any) Action {
	return d.act(d.From, cause, fmt.Sprintf(format, values...))
}
