package scheduler

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is the sum of a metric's series that carry the label value.
func metric(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := math.NaN()
	for _, family := range families {
		for _, series := range family.GetMetric() {
			has := label == ""
			for _, pair := range series.GetLabel() {
				has = has || pair.GetValue() == label
			}
			if family.GetName() != name || !has {
				continue
			}
			if math.IsNaN(sum) {
				sum = 0
			}
			sum += series.GetGauge().GetValue() + series.GetCounter().GetValue()
		}
	}
	return sum
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, 4, 12)
		for name, want := range map[string]float64{
			"workers": 4, "workers_desired": 4, "slots": 16, "slots_busy": 12, "calls_waiting": 0,
		} {
			if got := metric(t, l.registry, "lightcone_scheduler_"+name, "resize"); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if metric(t, l.registry, "lightcone_scheduler_leader", "") != 1 || metric(t, l.registry, "lightcone_scheduler_decisions_total", "held") != 1 {
			t.Error("not shown as a leader that has decided once")
		}
		if got := metric(t, l.registry, "lightcone_scheduler_calls_queued", "resize"); !math.IsNaN(got) {
			t.Errorf("%v calls are shown as queued, and there is no queue", got)
		}
		l.set(func(c *cluster) { c.queued = 5 })
		time.Sleep(2 * time.Second)
		for name, want := range map[string]float64{"calls_queued": 5, "oldest_queued_seconds": 30} {
			if got := metric(t, l.registry, "lightcone_scheduler_"+name, "resize"); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		if metric(t, l.registry, "lightcone_scheduler_leader", "") != 0 {
			t.Error("still shown as leader")
		}
		if got := metric(t, l.registry, "lightcone_scheduler_workers", "resize"); !math.IsNaN(got) {
			t.Errorf("still shows %v workers, which another leader may have changed", got)
		}
	})
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	good := func() Config {
		c := &cluster{}
		return Config{
			Policies: []Policy{DefaultPolicy("resize", "worker-resize", "workers")}, Observer: c, Scaler: c,
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		}
	}
	policy := func(change func(*Policy)) func(*Config) {
		return func(c *Config) { change(&c.Policies[0]) }
	}
	for _, test := range []struct {
		says   string
		change func(*Config)
	}{
		{"", func(*Config) {}},
		{"no policies", func(c *Config) { c.Policies = nil }},
		{"observer, scaler", func(c *Config) { c.Observer = nil }},
		{"every -1s", func(c *Config) { c.Every = -time.Second }},
		{"stale after 5s", func(c *Config) { c.Every = 3 * time.Second }},
		{"more than 4096 observations", policy(func(p *Policy) { p.StableWindow = 2 * time.Hour })},
		{"another policy has the function or the job", func(c *Config) {
			c.Policies = append(c.Policies, DefaultPolicy("echo", "worker-resize", "workers"))
		}},
		{`function "Resize"`, policy(func(p *Policy) { p.Function = "Resize" })},
		{"name both", policy(func(p *Policy) { p.Group = "" })},
		{"floor of 5 and ceiling of 3", policy(func(p *Policy) { p.Floor, p.Ceiling = 5, 3 })},
		{"ceiling of 0", policy(func(p *Policy) { p.Floor, p.Ceiling = 0, 0 })},
		{"0 slots per worker", policy(func(p *Policy) { p.SlotsPerWorker = 0 })},
		{"headroom NaN", policy(func(p *Policy) { p.Headroom = math.NaN() })},
		{"busier than saturation 0.9", policy(func(p *Policy) { p.Headroom, p.Tolerance = 0.1, 0 })},
		{"panic window 2m0s", policy(func(p *Policy) { p.PanicWindow = 2 * time.Minute })},
		{"panic threshold 0.5", policy(func(p *Policy) { p.PanicThreshold = 0.5 })},
		{"saturation 2", policy(func(p *Policy) { p.Saturation = 2 })},
		{"backlog age -1s", policy(func(p *Policy) { p.BacklogAge = -time.Second })},
		{"cool-downs -1s", policy(func(p *Policy) { p.UpCoolDown = -time.Second })},
		{"step down 0", policy(func(p *Policy) { p.DownStep = 0 })},
		{"stale after 0s", policy(func(p *Policy) { p.StaleAfter = 0 })},
		{"min answered 2", policy(func(p *Policy) { p.MinAnswered = 2 })},
	} {
		config := good()
		test.change(&config)
		_, err := New(config)
		if (err == nil) != (test.says == "") || (err != nil && !strings.Contains(err.Error(), test.says)) {
			t.Errorf("New: %v, want it to say %q", err, test.says)
		}
	}
}

// TestDemonstrationWindows checks that windows of seconds are a valid policy.
func TestDemonstrationWindows(t *testing.T) {
	p := DefaultPolicy("resize", "worker-resize", "workers")
	p.StableWindow, p.PanicWindow, p.UpCoolDown, p.DownCoolDown, p.StaleAfter = 10*time.Second, 2*time.Second, time.Second, 3*time.Second, 2*time.Second
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	l := &cluster{policy: p, demand: 4, count: Count{Known: true, Count: 8, Running: 8, Index: 1}}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Policies: []Policy{p}, Every: 500 * time.Millisecond, Observer: l, Scaler: l, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		trusted := time.Now().Add(30 * time.Second)
		go func() { ended <- s.Lead(t.Context(), 1, func() bool { return time.Now().Before(trusted) }) }()
		if err := <-ended; err == nil {
			t.Error("Lead ended without saying that trust was lost")
		}
		if got := l.done(); !strings.HasSuffix(got, "->2 epoch 1") {
			t.Errorf("scaled %s; want down to 2 within half a minute", got)
		}
	})
}
