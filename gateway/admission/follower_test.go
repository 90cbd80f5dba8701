package admission

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
)

// guarded is a ledger for two goroutines.
type guarded struct {
	mu sync.Mutex
	ledger
}

func (g *guarded) Exchange(ctx context.Context, month string, spent map[lightcone.TenantID]lightcone.Usage) (map[lightcone.TenantID]lightcone.Usage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail == "hangs" {
		g.mu.Unlock()
		<-ctx.Done()
		g.mu.Lock()
		return nil, ctx.Err()
	}
	return g.ledger.Exchange(ctx, month, spent)
}

func (g *guarded) set(fail string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = fail
}

func newGuarded() *guarded {
	return &guarded{ledger: ledger{totals: map[string]map[lightcone.TenantID]lightcone.Usage{}}}
}

func followConfig(log *strings.Builder) FollowConfig {
	config := DefaultFollowConfig()
	config.Registerer, config.Logger = prometheus.NewRegistry(), slog.New(slog.NewTextHandler(log, nil))
	return config
}

// TestGatewaysShareAQuota: two of them, one region; what one tenant uses at both is
// bounded as the package comment says.
func TestGatewaysShareAQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		region := newGuarded()
		q := lightcone.Unlimited
		q.CPUPerMonth = 60 * time.Second
		var log strings.Builder
		var tables []*Table
		for range 2 {
			table, err := NewTable(DefaultConfig(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			follower, err := Follow(table, region, followConfig(&log))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := follower.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			tables = append(tables, table)
		}
		used := time.Duration(0)
		for range 100 { // each uses a second of CPU in each second
			for _, table := range tables {
				if grant, refused := table.Admit("acme", &q, time.Now()); refused.Limit == "" {
					table.Settle(grant, Answered, lightcone.Usage{CPU: time.Second}, &q, time.Now())
					used += time.Second
				}
			}
			time.Sleep(time.Second)
		}
		if over := used - q.CPUPerMonth; over < 0 || over > 2*6*time.Second {
			t.Errorf("the quota of %v was exceeded by %v", q.CPUPerMonth, over)
		}
		synctest.Wait()
		if got := region.totals[monthOf(time.Now()).String()]["acme"].CPU; got != used {
			t.Errorf("the region heard of %v, and %v were used", got, used)
		}
	})
}

// TestTheRegionIsAway: calls go on, what they use is counted here, and told later;
// the log says so once.
func TestTheRegionIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		region := newGuarded()
		table, err := NewTable(DefaultConfig(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		config := followConfig(&log)
		follower, err := Follow(table, region, config)
		if err != nil {
			t.Fatal(err)
		}
		q := lightcone.Unlimited
		q.BytesPerMonth = 50
		calls := func(n int) (admitted int) {
			for range n {
				if grant, refused := table.Admit("acme", &q, time.Now()); refused.Limit == "" {
					admitted++
					table.Settle(grant, Answered, lightcone.Usage{BytesIn: 1}, &q, time.Now())
				}
				time.Sleep(time.Second)
			}
			return admitted
		}
		region.set("hangs")
		if n := calls(40); n != 40 {
			t.Errorf("%d of 40 calls while the region is away", n)
		}
		region.set("")
		if n := calls(20); n != 10 {
			t.Errorf("%d more calls within the quota, want 10", n)
		}
		if err := follower.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := bytesOf(region.totals[monthOf(time.Now()).String()]["acme"]); got != 50 {
			t.Errorf("the region heard of %d bytes, and 50 were used", got)
		}
		if n := strings.Count(log.String(), "is not told"); n != 1 || !strings.Contains(log.String(), "told again") {
			t.Errorf("the log:\n%s", &log)
		}
		if n := failures(t, config.Registerer.(*prometheus.Registry)); n < 4 || n > 8 {
			t.Errorf("%v failed rounds in 40 s", n)
		}
	})
}

// TestClosingTellsTheRest: a stop loses nothing, or says so.
func TestClosingTellsTheRest(t *testing.T) {
	for _, away := range []bool{false, true} {
		region := newGuarded()
		table := newTable(t, 100)
		follower, err := Follow(table, region, followConfig(new(strings.Builder)))
		if err != nil {
			t.Fatal(err)
		}
		called(t, table, "acme", epoch, Answered, lightcone.Usage{CPU: 7})
		if away {
			region.set("away")
		}
		err = follower.Close(t.Context())
		if got := region.totals["2026-11"]["acme"].CPU; away != (err != nil) || away != (got == 0) {
			t.Errorf("away: %v; told %v with %v", away, got, err)
		}
	}
}

func TestFollowNeedsItsConfiguration(t *testing.T) {
	for want, change := range map[string]func(*FollowConfig){
		"Interval":   func(c *FollowConfig) { c.Interval = 0 },
		"Deadline":   func(c *FollowConfig) { c.Deadline = 0 },
		"Batch":      func(c *FollowConfig) { c.Batch = 0 },
		"Registerer": func(c *FollowConfig) { c.Registerer = nil },
	} {
		config := followConfig(new(strings.Builder))
		change(&config)
		if _, err := Follow(newTable(t, 1), newGuarded(), config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a bad %s: %v", want, err)
		}
	}
	config := followConfig(new(strings.Builder))
	first, err := Follow(newTable(t, 1), newGuarded(), config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Follow(newTable(t, 1), newGuarded(), config); err == nil {
		t.Error("two Followers registered the same metrics")
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// failures is how many rounds have failed, as the metrics tell.
func failures(t *testing.T, registry *prometheus.Registry) float64 {
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range families[0].GetMetric() {
		if metric.GetLabel()[0].GetValue() == "failed" {
			return metric.GetCounter().GetValue()
		}
	}
	return 0
}
