package admission

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/retry"
)

// FollowConfig says how a Follower talks to the region. Start from
// DefaultFollowConfig; Registerer and Logger have no default.
type FollowConfig struct {
	Interval   time.Duration // between two exchanges; up to a tenth more, so that gateways spread out
	Deadline   time.Duration // of each call of the region
	Batch      int           // tenants in one call of the region
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// DefaultFollowConfig exchanges every 5 s.
func DefaultFollowConfig() FollowConfig {
	return FollowConfig{Interval: 5 * time.Second, Deadline: 2 * time.Second, Batch: 5000}
}

// Validate names the first field that cannot be used.
func (c FollowConfig) Validate() error {
	switch {
	case c.Interval <= 0 || c.Deadline <= 0:
		return fmt.Errorf("admission: Interval is %v and Deadline %v: want more than 0", c.Interval, c.Deadline)
	case c.Batch < 1:
		return fmt.Errorf("admission: Batch is %d: want at least 1", c.Batch)
	case c.Registerer == nil || c.Logger == nil:
		return fmt.Errorf("admission: Registerer is %v and Logger %v: want both", c.Registerer, c.Logger)
	}
	return nil
}

// Follower keeps a table and the region informed of each other.
type Follower struct {
	exchange exchange
	config   FollowConfig
	rounds   *prometheus.CounterVec
	stop     context.CancelFunc
	stopped  chan struct{}
}

// Follow begins to tell the region what is used in table, and to learn from it
// what is used elsewhere. Close the result; a table has one Follower at a time.
func Follow(table *Table, region Region, config FollowConfig) (*Follower, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	f := &Follower{
		exchange: exchange{table: table, region: region, deadline: config.Deadline, most: config.Batch},
		config:   config,
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_gateway_usage_rounds_total",
			Help: "Rounds of telling the region what tenants have used, by outcome: ok, or failed.",
		}, []string{"outcome"}),
		stopped: make(chan struct{}),
	}
	if err := config.Registerer.Register(f.rounds); err != nil {
		return nil, fmt.Errorf("admission: register metrics: %w", err)
	}
	table.told.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go f.follow(ctx)
	return f, nil
}

// follow is the Follower's goroutine.
func (f *Follower) follow(ctx context.Context) {
	defer close(f.stopped)
	failures := 0
	for retry.Pause(ctx, f.config.Interval+time.Duration(rand.Float64()*float64(f.config.Interval)/10)) == nil {
		err := f.round(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if failures++; failures == 1 {
				f.config.Logger.Warn("the region is not told what tenants use; it is counted here meanwhile, and told later", "error", err)
			}
		case err == nil && failures > 0:
			f.config.Logger.Info("the region is told again what tenants use", "failures", failures)
			failures = 0
		}
	}
}

func (f *Follower) round(ctx context.Context) error {
	err := f.exchange.round(ctx)
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	f.rounds.WithLabelValues(outcome).Inc()
	return err
}

// Close ends the exchange after a last round, for which it takes at most until ctx
// ends; its error says that the region has not heard of everything. Call it when
// no call is in flight any more, and once.
func (f *Follower) Close(ctx context.Context) error {
	f.stop()
	<-f.stopped
	if err := f.round(ctx); err != nil {
		return fmt.Errorf("admission: the last round: %w", err)
	}
	return nil
}
