package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
)

// Observer asks the gateways and the workers how busy they are. Those that do
// not answer are counted as known and not answered; an error means that nothing
// could be learned. It returns when ctx ends, at the latest.
type Observer interface {
	Observe(ctx context.Context) (Observation, error)
}

// Scaler reads and changes how many workers Nomad runs. Both return when ctx
// ends, at the latest.
type Scaler interface {
	// Counts answers for the jobs it can, by id. A job left out is unknown, as all
	// are after an error.
	Counts(ctx context.Context, jobs []string) (map[string]Count, error)
	// Scale sets the group's count to a.To if the job's JobModifyIndex still is
	// a.Index (Nomad's EnforceIndex), and else returns ErrConflict, wrapped; so it
	// does if a deployment has begun meanwhile. The epoch is the leader's, to be
	// written where operators look.
	Scale(ctx context.Context, a Action, epoch uint64) error
}

// ErrConflict is a Scaler's answer when the job has changed since its count was
// read, or is being deployed. It is no failure: the next tick reads again.
var ErrConflict = errors.New("the job has changed since its count was read")

// ErrTrustLost ends Lead when the term could no longer be trusted before ctx
// said so. Whoever leads after it must campaign again.
var ErrTrustLost = errors.New("the leader's term can no longer be trusted")

// DefaultEvery is the time between two decisions. DefaultTimeout bounds each
// question and each effect.
const (
	DefaultEvery   = time.Second
	DefaultTimeout = 2 * time.Second
)

// Config is what a scheduler needs.
type Config struct {
	Policies   []Policy      // one for each fleet; functions and jobs differ
	Every      time.Duration // between two decisions; 0 = DefaultEvery; at most half of each policy's StaleAfter
	Timeout    time.Duration // for one observation, one reading of counts, one effect; 0 = DefaultTimeout
	Observer   Observer
	Scaler     Scaler
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// validate fills in defaults and names the first thing that cannot be used.
func (c *Config) validate() error {
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Every < 0 || c.Timeout < 0 {
		return fmt.Errorf("every %v and timeout %v: want more than 0", c.Every, c.Timeout)
	}
	if c.Observer == nil || c.Scaler == nil || c.Logger == nil || c.Registerer == nil {
		return errors.New("observer, scaler, logger and registerer: name all four")
	}
	if err := validatePolicies(c.Policies); err != nil {
		return err
	}
	for _, p := range c.Policies {
		if p.StaleAfter < 2*c.Every {
			return fmt.Errorf("policy of function %s: an observation is stale after %v, and one is made every %v: want at least twice that", p.Function, p.StaleAfter, c.Every)
		}
		if p.history() > (maxHistory-1)*c.Every {
			return fmt.Errorf("policy of function %s: windows of %v (stable) and %v (zero after) need more than %d observations at one each %v: shorten them or observe less often", p.Function, p.StableWindow, p.ZeroAfter, maxHistory, c.Every)
		}
	}
	return nil
}

// Scheduler leads the fleets while it is told to. Make one with New. Its methods
// may be called from any goroutine.
type Scheduler struct {
	config  Config
	jobs    []string
	metrics *metrics
	leading atomic.Bool

	mu     sync.Mutex
	status Status
}

// New checks the configuration and registers the metrics. It starts nothing.
func New(config Config) (*Scheduler, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	s := &Scheduler{config: config, metrics: m}
	for _, p := range config.Policies {
		s.jobs = append(s.jobs, p.Job)
	}
	return s, nil
}

// term is one leadership: its windows start empty, so that it holds what it
// finds until it has seen a stable window of its own.
type term struct {
	*Scheduler
	epoch    uint64
	trusted  func() bool
	state    State
	last     map[lightcone.FunctionName]said
	observed complaint
	counted  complaint
}

// Lead decides and acts until ctx ends, which is no error, or trusted says no,
// which is ErrTrustLost. Epoch is the term's fencing number, handed to each
// effect. A second Lead while one runs is refused.
func (s *Scheduler) Lead(ctx context.Context, epoch uint64, trusted func() bool) error {
	if !s.leading.CompareAndSwap(false, true) {
		return fmt.Errorf("lead epoch %d: this scheduler leads already", epoch)
	}
	defer s.leading.Store(false)
	t := &term{
		Scheduler: s, epoch: epoch, trusted: trusted,
		state:    State{Policies: s.config.Policies},
		last:     make(map[lightcone.FunctionName]said),
		observed: complaint{what: "the fleet cannot be observed"},
		counted:  complaint{what: "Nomad's counts cannot be read"},
	}
	s.begin(epoch, time.Now())
	defer s.end()

	ticker := time.NewTicker(s.config.Every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := t.tick(ctx); err != nil {
			if ctx.Err() != nil { // told to end, too: that is the plainer reason
				return nil
			}
			return fmt.Errorf("lead epoch %d: %w", epoch, err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	return nil
}

// tick sees, decides and acts once. Its only error is ErrTrustLost.
func (t *term) tick(ctx context.Context) error {
	if !t.trusted() { // somebody else may lead: spare the fleet the questions
		return ErrTrustLost
	}
	t.see(ctx)
	if ctx.Err() != nil { // what was asked may have failed only for that
		return nil
	}
	now := time.Now()
	for _, a := range Reconcile(t.state, now) {
		outcome, err := t.effect(ctx, a)
		t.state.Remember(a, now, outcome == Scaled || outcome == Failed)
		t.report(ctx, a, now, outcome, err)
		if outcome == Untrusted {
			return ErrTrustLost
		}
	}
	return nil
}

// see asks the fleet and Nomad at once, and keeps what they say. What failed is
// left out, and Reconcile holds for the lack of it.
func (t *term) see(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.config.Timeout)
	defer cancel()
	var (
		asking      sync.WaitGroup
		observation Observation
		failed      error
		began       = time.Now()
	)
	asking.Go(func() { observation, failed = t.config.Observer.Observe(ctx) })
	counts, err := t.config.Scaler.Counts(ctx, t.jobs)
	asking.Wait()

	t.counted.note(ctx, t.config.Logger, err)
	if err != nil {
		counts = nil
	}
	t.state.Counts = counts
	t.observed.note(ctx, t.config.Logger, failed)
	if failed == nil {
		if observation.At.IsZero() {
			observation.At = began
		}
		t.state.Observe(observation)
	}
	t.noteErrors(failed, err)
}

// effect carries out an action, if it has one and the term may still be trusted.
func (t *term) effect(ctx context.Context, a Action) (Outcome, error) {
	if a.Kind() == Hold {
		return Held, nil
	}
	if !t.trusted() {
		return Untrusted, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.config.Timeout)
	defer cancel()
	switch err := t.config.Scaler.Scale(ctx, a, t.epoch); {
	case err == nil:
		return Scaled, nil
	case errors.Is(err, ErrConflict):
		return Conflict, err
	default:
		return Failed, err
	}
}
