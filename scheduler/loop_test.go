package scheduler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cluster is the fleet as the loop meets it: an Observer and a Scaler whose
// failures a test chooses. Its workers are there as soon as they are asked for.
type cluster struct {
	mu          sync.Mutex
	policy      Policy
	demand      int
	count       Count
	observeErr  error
	countErr    error
	scaleErr    error
	observeHook func(context.Context)
	queued      int // for half a minute each, in a queue of one node
	scaled      []string
	tries       []time.Time
}

func (c *cluster) Observe(ctx context.Context) (Observation, error) {
	c.mu.Lock()
	hook := c.observeHook
	c.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.observeErr != nil {
		return Observation{}, c.observeErr
	}
	slots := c.count.Count * c.policy.SlotsPerWorker
	load := FleetLoad{Slots: slots, Busy: min(slots, c.demand), Waiting: max(0, c.demand-slots), WorkersKnown: c.count.Count, WorkersAnswered: c.count.Count}
	nodes := min(c.queued, 1)
	load.Queued, load.OldestQueued = c.queued, time.Duration(30*nodes)*time.Second
	return Observation{GatewaysKnown: 1, GatewaysAnswered: 1, QueueKnown: nodes, QueueAnswered: nodes, Fleets: fleets(c.policy, load)}, ctx.Err()
}

func (c *cluster) Counts(_ context.Context, jobs []string) (map[string]Count, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(jobs) != 1 || jobs[0] != c.policy.Job {
		return nil, fmt.Errorf("asked for jobs %q", jobs)
	}
	return map[string]Count{c.policy.Job: c.count}, c.countErr
}

func (c *cluster) Scale(ctx context.Context, a Action, epoch uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries = append(c.tries, time.Now())
	switch {
	case c.scaleErr != nil:
		return c.scaleErr
	case a.Index != c.count.Index:
		return fmt.Errorf("index %d, not %d: %w", c.count.Index, a.Index, ErrConflict)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	c.count.Count, c.count.Running, c.count.Index = a.To, a.To, c.count.Index+1
	c.scaled = append(c.scaled, fmt.Sprintf("%s/%s %d->%d epoch %d", a.Job, a.Group, a.From, a.To, epoch))
	return nil
}

// set changes the cluster between two ticks.
func (c *cluster) set(change func(*cluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *cluster) done() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.scaled, ", ")
}

func (c *cluster) tried() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.tries)
}

// led is a scheduler that leads a cluster. Tests start half a second after its
// first tick, and so change things between ticks.
type led struct {
	*cluster
	*Scheduler
	registry *prometheus.Registry
	log      *bytes.Buffer // read it only when the loop has ended
	trusted  *atomic.Bool
	stop     func() error
}

func lead(t *testing.T, workers, demand int) led {
	t.Helper()
	p := DefaultPolicy("resize", "worker-resize", "workers")
	c := &cluster{policy: p, demand: demand, count: Count{Known: true, Count: workers, Running: workers, Index: 100}}
	l := led{cluster: c, registry: prometheus.NewRegistry(), log: &bytes.Buffer{}, trusted: &atomic.Bool{}}
	var err error
	l.Scheduler, err = New(Config{Policies: []Policy{p}, Observer: c, Scaler: c, Logger: slog.New(slog.NewTextHandler(l.log, nil)), Registerer: l.registry})
	if err != nil {
		t.Fatal(err)
	}
	l.trusted.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Lead(ctx, 7, l.trusted.Load) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	l.stop = stop
	t.Cleanup(func() { _ = stop() })
	time.Sleep(500 * time.Millisecond)
	return l
}

// bubble runs a test in which a minute takes no time.
func bubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestLead(t *testing.T) {
	bubble(t, "follows demand up and down, and says so", func(t *testing.T) {
		l := lead(t, 4, 12)
		time.Sleep(61 * time.Second)
		if did := l.done(); did != "" {
			t.Fatalf("a calm fleet was scaled: %s", did)
		}
		l.set(func(c *cluster) { c.demand = 40 })
		time.Sleep(10 * time.Second)
		l.set(func(c *cluster) { c.demand = 0 })
		time.Sleep(5 * time.Minute)
		status := l.Status()
		if err := l.stop(); err != nil {
			t.Fatalf("told to end: %v", err)
		}
		did := l.done()
		if !strings.HasPrefix(did, "worker-resize/workers 4->") || !strings.HasSuffix(did, "->2 epoch 7") {
			t.Errorf("scaled %s; want up from 4, and then down to the floor of 2", did)
		}
		if n := strings.Count(l.log.String(), "msg=scaled"); n != strings.Count(did, ",")+1 {
			t.Errorf("%d lines of what was scaled, for %s", n, did)
		}
		if lines := strings.Count(l.log.String(), "\n"); lines > 40 {
			t.Errorf("%d lines for a few decisions:\n%s", lines, l.log)
		}
		if !status.Leader || status.Epoch != 7 || len(status.Fleets) != 1 || status.Fleets[0].Cause != CauseSteady || status.Fleets[0].From != 2 {
			t.Errorf("status %+v", status)
		}
		if newest := status.Decisions[0]; newest.Cause != CauseSteady || newest.Outcome != Held || len(newest.Reasons) == 0 {
			t.Errorf("the newest decision is %+v", newest)
		}
	})
	bubble(t, "a new leader does not shrink what it finds", func(t *testing.T) {
		l := lead(t, 20, 4)
		time.Sleep(59 * time.Second)
		if did := l.done(); did != "" {
			t.Fatalf("within the stable window: %s", did)
		}
		time.Sleep(2 * time.Second)
		if did := l.done(); did != "worker-resize/workers 20->15 epoch 7" {
			t.Fatalf("after it: %s", did)
		}
	})
	bubble(t, "no second at once, but a next one", func(t *testing.T) {
		l := lead(t, 4, 12)
		if err := l.Lead(t.Context(), 8, l.trusted.Load); err == nil || !strings.Contains(err.Error(), "leads already") {
			t.Errorf("the second: %v", err)
		}
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Lead(ctx, 9, l.trusted.Load); err != nil {
			t.Errorf("the next: %v", err)
		}
	})
}

func TestTrust(t *testing.T) {
	bubble(t, "lost while the fleet was observed: no effect", func(t *testing.T) {
		l := lead(t, 4, 12)
		l.set(func(c *cluster) {
			c.demand = 200
			c.observeHook = func(context.Context) { l.trusted.Store(false) }
		})
		time.Sleep(2 * time.Second)
		status := l.Status()
		if err := l.stop(); !errors.Is(err, ErrTrustLost) {
			t.Errorf("Lead ended with %v", err)
		}
		if len(l.tried()) != 0 {
			t.Errorf("it acted without trust: %s", l.done())
		}
		if newest := status.Decisions[0]; newest.Outcome != Untrusted || newest.Kind() != Up || status.Leader {
			t.Errorf("leader %v, newest decision %+v", status.Leader, newest)
		}
	})
	bubble(t, "lost between ticks: nobody is asked", func(t *testing.T) {
		l := lead(t, 4, 12)
		l.trusted.Store(false)
		l.set(func(c *cluster) { c.observeHook = func(context.Context) { t.Error("observed without trust") } })
		time.Sleep(2 * time.Second)
		if err := l.stop(); !errors.Is(err, ErrTrustLost) {
			t.Errorf("Lead ended with %v", err)
		}
	})
}

func TestTrouble(t *testing.T) {
	bubble(t, "a conflict is decided again on the next tick", func(t *testing.T) {
		l := lead(t, 4, 12)
		l.set(func(c *cluster) { c.demand, c.scaleErr = 200, fmt.Errorf("job changed: %w", ErrConflict) })
		time.Sleep(time.Second)
		l.set(func(c *cluster) { c.scaleErr, c.count.Count, c.count.Running, c.count.Index = nil, 5, 5, 200 })
		time.Sleep(time.Second)
		if did, tries := l.done(), l.tried(); len(tries) != 2 || !strings.HasPrefix(did, "worker-resize/workers 5->") {
			t.Errorf("%d tries, scaled %s; want the second from the new count", len(tries), did)
		}
		if value := metric(t, l.registry, "lightcone_scheduler_decisions_total", "conflict"); value != 1 {
			t.Errorf("%v conflicts counted", value)
		}
	})
	bubble(t, "after a failure the cool-down counts", func(t *testing.T) {
		l := lead(t, 4, 12)
		l.set(func(c *cluster) { c.demand, c.scaleErr = 200, errors.New("500 from Nomad") })
		time.Sleep(11 * time.Second)
		tries := l.tried()
		if len(tries) < 2 || len(tries) > 3 {
			t.Fatalf("%d tries in 11 s, want one each 5 s", len(tries))
		}
		if gap := tries[1].Sub(tries[0]); gap < l.policy.UpCoolDown {
			t.Errorf("tried again after %v", gap)
		}
		if text, _ := json.Marshal(l.Status()); !strings.Contains(string(text), `"error":"500 from Nomad"`) {
			t.Errorf("the status does not say why: %s", text)
		}
	})
	bubble(t, "an observer that fails or hangs holds everything", func(t *testing.T) {
		l := lead(t, 20, 4)
		l.set(func(c *cluster) { c.observeErr = errors.New("no Consul") })
		time.Sleep(2 * time.Minute)
		if status := l.Status(); status.Fleets[0].Cause != CauseNoObservation || status.ObserveError != "no Consul" {
			t.Errorf("blind: %+v", status)
		}
		l.set(func(c *cluster) { c.observeErr, c.observeHook = nil, func(ctx context.Context) { <-ctx.Done() } })
		time.Sleep(2 * time.Minute)
		l.set(func(c *cluster) { c.observeHook = nil })
		time.Sleep(30 * time.Second)
		if did := l.done(); did != "" {
			t.Errorf("scaled %s on what it did not see", did)
		}
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(l.log.String(), "cannot be observed"); n != 2 {
			t.Errorf("%d lines about four blind minutes, want one at their start and one at their end:\n%s", n, l.log)
		}
	})
	bubble(t, "counts that cannot be read hold everything", func(t *testing.T) {
		l := lead(t, 4, 12)
		l.set(func(c *cluster) { c.demand, c.countErr = 200, errors.New("no Nomad") })
		time.Sleep(time.Minute)
		if status := l.Status(); status.Fleets[0].Cause != CauseCountUnknown || status.CountError != "no Nomad" || l.done() != "" {
			t.Errorf("%+v, scaled %s", status, l.done())
		}
	})
	bubble(t, "what is remembered is bounded", func(t *testing.T) {
		l := lead(t, 4, 12)
		l.set(func(c *cluster) { c.demand, c.scaleErr = 200, errors.New("500 from Nomad") })
		time.Sleep(10 * time.Minute)
		if n := len(l.Status().Decisions); n != mostDecisions {
			t.Errorf("%d decisions kept, want %d", n, mostDecisions)
		}
	})
}
