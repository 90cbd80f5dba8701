package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions"
	"lightcone/gateway"
	"lightcone/gateway/admission"
	"lightcone/identity/edge"
	"lightcone/internal/problem"
	"lightcone/internal/run"
)

// workerTenants bounds the tenants that a worker remembers, which is some 10 MB. It has
// told Redis of most of them, and may forget those at any time.
const workerTenants = 50_000

// counted is attempt, and counts what it used in its tenant's month, and its breaker, as
// a gateway does for a call that waits. Without tenants, nothing is counted.
func counted(tenants *admission.Table, attempt attempt) attempt {
	if tenants == nil {
		return attempt
	}
	return func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		err := attempt(ctx, call, answer)
		used := lightcone.Usage{CPU: answer.CPU, BytesIn: int64(len(call.Body))}
		outcome := admission.Untold
		switch {
		case err == nil:
			outcome, used.BytesOut = admission.Answered, int64(len(answer.Body))
		case gateway.KilledSlot(err):
			outcome = admission.Crashed
		default:
			switch problem.Of(err).Kind {
			case problem.DeadlineExceeded, problem.Cancelled:
			default:
				return err // the function has not seen it
			}
		}
		tenants.Record(call.Tenant, outcome, used, time.Now())
		return err
	}
}

// startSpending starts, as parts of the group, a table of what a worker's queued calls
// use, and has Redis told of it; nil when there is no Redis. Nobody is refused by it:
// gateways hear of it from Redis.
func (r *redisFlags) startSpending(ctx context.Context, group *run.Group, catalogue *consul.Client, registry *prometheus.Registry, logger *slog.Logger) (*admission.Table, error) {
	if r.service == "" {
		return nil, nil
	}
	config := admission.DefaultConfig()
	config.MaxTenants = workerTenants
	tenants, err := admission.NewTable(config, time.Now())
	if err != nil {
		return nil, err
	}
	var redis *edge.Redis
	_ = group.Start(ctx, "redis", func(context.Context) (stop run.Stop, err error) {
		redis, stop, err = r.connect(catalogue, logger)
		return stop, err
	})
	_ = group.Start(ctx, "spending", func(context.Context) (run.Stop, error) {
		return followSpending(tenants, edge.NewSpending(redis), registry, logger)
	})
	return tenants, nil
}

// followSpending has the region told of what is counted in tenants, and them of what is
// counted elsewhere, until the stop.
func followSpending(tenants *admission.Table, region admission.Region, registry *prometheus.Registry, logger *slog.Logger) (run.Stop, error) {
	config := admission.DefaultFollowConfig()
	config.Registerer, config.Logger = registry, logger.With("component", "spending")
	follower, err := admission.Follow(tenants, region, config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		// The month's count is approximate; a stop that loses the last seconds of it went well.
		if err := follower.Close(ctx); err != nil {
			config.Logger.Warn("the region has not heard of the last that was used here", "error", err)
		}
		return nil
	}, nil
}
