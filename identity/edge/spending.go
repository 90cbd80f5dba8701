package edge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"lightcone"
)

// Spending adds up, in Redis, what all gateways have seen tenants use in a month.
// It is for quotas, not for bills: it forgets what Redis loses in a failover. It
// is safe for concurrent use.
type Spending struct{ redis *Redis }

// NewSpending makes a Spending. Its Redis stays the caller's, to close.
func NewSpending(redis *Redis) *Spending { return &Spending{redis} }

const (
	spentFor      = 70 * 24 * time.Hour // longer than a month and its settlement
	mostExchanged = 256                 // tenants in one transaction
)

// Exchange adds what this gateway has seen in a month ("2026-11", UTC) and answers
// the region's totals for those tenants. Beside an error, the tenants that have a
// total have been added; nobody knows about the others, so that adding them again
// may count them twice.
func (s *Spending) Exchange(ctx context.Context, month string, spent map[lightcone.TenantID]lightcone.Usage) (map[lightcone.TenantID]lightcone.Usage, error) {
	totals := make(map[lightcone.TenantID]lightcone.Usage, len(spent))
	for tenants := range slices.Chunk(slices.Sorted(maps.Keys(spent)), mostExchanged) {
		err := s.redis.guarded(ctx, func(ctx context.Context, client *redis.Client) error {
			return exchange(ctx, client, month, tenants, spent, totals)
		})
		if err != nil {
			return totals, fmt.Errorf("redis: exchange what %d tenants spent in %s: %w", len(tenants), month, err)
		}
	}
	return totals, nil
}

func exchange(ctx context.Context, client *redis.Client, month string, tenants []lightcone.TenantID, spent, totals map[lightcone.TenantID]lightcone.Usage) error {
	type sums struct{ cpu, in, out *redis.IntCmd }
	added := make([]sums, len(tenants))
	_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error { // all of them or none
		for i, tenant := range tenants {
			key, usage := spentPrefix+month+":"+string(tenant), spent[tenant]
			added[i] = sums{
				cpu: pipe.HIncrBy(ctx, key, "cpu_ns", int64(usage.CPU)),
				in:  pipe.HIncrBy(ctx, key, "bytes_in", usage.BytesIn),
				out: pipe.HIncrBy(ctx, key, "bytes_out", usage.BytesOut),
			}
			pipe.Expire(ctx, key, spentFor)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, tenant := range tenants {
		totals[tenant] = lightcone.Usage{CPU: time.Duration(added[i].cpu.Val()), BytesIn: added[i].in.Val(), BytesOut: added[i].out.Val()}
	}
	return nil
}
