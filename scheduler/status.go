package scheduler

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// mostDecisions is how many decisions Status remembers.
const mostDecisions = 50

// Outcome is what became of a decision.
type Outcome string

// The outcomes.
const (
	Held      Outcome = "held"      // there was nothing to do
	Scaled    Outcome = "scaled"    // Nomad has the new count
	Conflict  Outcome = "conflict"  // the job had changed meanwhile; decided again on the next tick
	Failed    Outcome = "failed"    // Nomad refused or did not answer; tried again after the cool-down
	Untrusted Outcome = "untrusted" // the term ended between the decision and its effect, which was left out
)

// Status is what a status page shows.
type Status struct {
	Leader       bool          `json:"leader"`
	Epoch        uint64        `json:"epoch,omitempty"`         // of the term, while leader
	Since        time.Time     `json:"since,omitzero"`          // when the term began, while leader
	ObserveError string        `json:"observe_error,omitempty"` // why the last tick saw nothing of the fleet
	CountError   string        `json:"count_error,omitempty"`   // why the last tick could not read counts
	Fleets       []FleetStatus `json:"fleets"`                  // in the order of the policies; none unless leader
	Decisions    []Entry       `json:"decisions"`               // the last 50 changes of decision, newest first
}

// FleetStatus is one fleet's last decision: what was seen, what is desired, what
// was decided and why.
type FleetStatus struct {
	At      time.Time `json:"at"`
	Floor   int       `json:"floor"`
	Ceiling int       `json:"ceiling"`
	Action
}

// Entry is one line of the decision log.
type Entry struct {
	At      time.Time `json:"at"`
	Epoch   uint64    `json:"epoch"`
	Outcome Outcome   `json:"outcome"`
	Error   string    `json:"error,omitempty"`
	Action
}

// Status is the scheduler's state as of the last tick.
func (s *Scheduler) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	status.Fleets, status.Decisions = slices.Clone(status.Fleets), slices.Clone(status.Decisions)
	slices.Reverse(status.Decisions)
	return status
}

func (s *Scheduler) begin(epoch uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = Status{Leader: true, Epoch: epoch, Since: now, Decisions: s.status.Decisions}
	s.metrics.begin()
	s.config.Logger.Info("leading", "epoch", epoch)
}

// end forgets the fleets: another leader's numbers are the true ones now.
func (s *Scheduler) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.Logger.Info("leading no more", "epoch", s.status.Epoch)
	s.status = Status{Decisions: s.status.Decisions}
	s.metrics.end()
}

func (s *Scheduler) noteErrors(observe, count error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.ObserveError, s.status.CountError = message(observe), message(count)
}

// said is what makes two decisions of one fleet the same for the log.
type said struct {
	outcome  Outcome
	cause    Cause
	from, to int
}

// report shows the decision, and logs it if it differs from the fleet's last.
func (t *term) report(ctx context.Context, a Action, now time.Time, outcome Outcome, err error) {
	t.metrics.show(a)
	saying := said{outcome, a.Cause, a.From, a.To}
	changed := a.Kind() != Hold || t.last[a.Function] != saying
	t.last[a.Function] = saying
	t.keep(FleetStatus{At: now, Action: a}, Entry{At: now, Epoch: t.epoch, Outcome: outcome, Error: message(err), Action: a}, changed)
	if !changed {
		return
	}
	t.metrics.count(a, outcome)
	t.log(ctx, a, outcome, err)
}

func (t *term) keep(fleet FleetStatus, entry Entry, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.IndexFunc(t.status.Fleets, func(f FleetStatus) bool { return f.Function == fleet.Function })
	for _, p := range t.config.Policies {
		if p.Function == fleet.Function {
			fleet.Floor, fleet.Ceiling = p.Floor, p.Ceiling
		}
	}
	if at < 0 {
		t.status.Fleets = append(t.status.Fleets, fleet)
	} else {
		t.status.Fleets[at] = fleet
	}
	if changed {
		decisions := append(t.status.Decisions, entry)
		t.status.Decisions = slices.Delete(decisions, 0, max(0, len(decisions)-mostDecisions))
	}
}

// log writes the one line of a changed decision.
func (t *term) log(ctx context.Context, a Action, outcome Outcome, err error) {
	level, text := slog.LevelInfo, "not scaled"
	switch outcome {
	case Held:
		text = "holding"
	case Scaled:
		text = "scaled"
	case Failed, Untrusted:
		level = slog.LevelWarn
	}
	e := a.Evidence
	attributes := []slog.Attr{
		slog.String("function", string(a.Function)), slog.String("job", a.Job), slog.Uint64("epoch", t.epoch),
		slog.Int("from", a.From), slog.Int("to", a.To), slog.Int("desired", a.Desired),
		slog.String("cause", string(a.Cause)), slog.Any("reasons", a.Reasons), slog.String("outcome", string(outcome)),
		slog.Int("busy", e.Busy), slog.Int("slots", e.Slots), slog.Int("waiting", e.Waiting),
		slog.Int("queued", e.Queued), slog.Duration("oldest_queued", e.OldestQueued),
		slog.Int("workers_known", e.WorkersKnown), slog.Int("workers_answered", e.WorkersAnswered), slog.Uint64("index", a.Index),
	}
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	t.config.Logger.LogAttrs(ctx, level, text, attributes...)
}

// complaint logs that something keeps failing once, and once that it is over.
type complaint struct {
	what string
	open bool
}

func (c *complaint) note(ctx context.Context, logger *slog.Logger, err error) {
	switch {
	case err != nil && !c.open:
		logger.WarnContext(ctx, c.what, "error", err)
	case err == nil && c.open:
		logger.InfoContext(ctx, "over: "+c.what)
	}
	c.open = err != nil
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
