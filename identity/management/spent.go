package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"lightcone"
	"lightcone/internal/document"
	"lightcone/internal/retry"
)

const (
	spentPrefix = "spent/"
	// spentShards is over how many documents a month's tenants are spread, by a hash
	// of their ids. A tenant takes at most 128 bytes (63 of its id, three times 19
	// digits, 8 between them), so that 100 000 of them, 1563 to a document and
	// a tenth more where the hash is unkind, fit in document.MostBytes. A document of
	// more is an error, and what it would have held is not counted.
	spentShards = 64
	monthsKept  = 2 // before the current one
	monthFormat = "2006-01"
)

// Spent adds up what tenants have spent in a month, in a document.Store, for the
// gateways of one machine. Make it with NewSpent.
type Spent struct {
	store document.Store

	mu    sync.Mutex
	swept time.Time // the month in which old ones were last looked for
}

// NewSpent keeps the sums in store.
func NewSpent(store document.Store) *Spent { return &Spent{store: store} }

// usages are the tenants of a shard: nanoseconds of CPU, bytes in, bytes out.
type usages map[lightcone.TenantID][3]int64

// Exchange adds what was spent in a month ("2026-11", UTC) and returns the sums of the
// same tenants. Nothing is written if all of it is zero. Sums stop at the largest
// number. Months more than two old are forgotten.
//
// Beside an error, the tenants that have a sum have been added; nobody knows about
// the others, so that adding them again may count them twice.
func (s *Spent) Exchange(ctx context.Context, month string, spent map[lightcone.TenantID]lightcone.Usage) (map[lightcone.TenantID]lightcone.Usage, error) {
	first, err := time.Parse(monthFormat, month)
	if err != nil {
		return nil, fmt.Errorf("exchange what was spent in %q: want a month such as 2026-11", month)
	}
	sums := make(map[lightcone.TenantID]lightcone.Usage, len(spent))
	for path, tenants := range sharded(month, spent) {
		if err := s.exchange(ctx, path, tenants, sums); err != nil {
			return sums, fmt.Errorf("exchange what %d of %d tenants spent in %s: %w", len(tenants), len(spent), month, err)
		}
	}
	if err := s.forget(ctx, first); err != nil {
		return sums, fmt.Errorf("forget what was spent before %s: %w", month, err)
	}
	return sums, nil
}

// sharded says in which document each tenant is.
func sharded(month string, spent map[lightcone.TenantID]lightcone.Usage) map[string]usages {
	shards := make(map[string]usages)
	for tenant, usage := range spent {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(tenant)) // it never fails
		path := fmt.Sprintf("%s%s/%02d", spentPrefix, month, hash.Sum32()%spentShards)
		if shards[path] == nil {
			shards[path] = make(usages)
		}
		shards[path][tenant] = [3]int64{int64(usage.CPU), usage.BytesIn, usage.BytesOut}
	}
	return shards
}

// exchange adds to one document, again whenever another process was first.
func (s *Spent) exchange(ctx context.Context, path string, spent usages, sums map[lightcone.TenantID]lightcone.Usage) error {
	for attempt := 1; ; attempt++ {
		found, _, err := s.store.Get(ctx, path)
		if err != nil {
			return err
		}
		sum, changed, err := added(found.Value, spent)
		if err != nil {
			return fmt.Errorf("read the document %s: %w", path, err)
		}
		if changed != nil {
			_, err = s.store.Commit(ctx, document.Change{Path: path, Value: changed, Version: found.Version})
		}
		if err == nil {
			for tenant := range spent {
				of := sum[tenant]
				sums[tenant] = lightcone.Usage{CPU: time.Duration(of[0]), BytesIn: of[1], BytesOut: of[2]}
			}
			return nil
		}
		if !errors.Is(err, document.ErrConflict) || attempt == mostAttempts {
			return err
		}
		if err := retry.Pause(ctx, retry.BackOff(attempt, backOffBase, backOffMost, rand.Float64())); err != nil {
			return err
		}
	}
}

// added is a shard's document with what was spent on top, decoded and encoded; changed is nil if
// that is nothing. What is negative was not spent.
func added(stored []byte, spent usages) (sum usages, changed []byte, err error) {
	sum = make(usages)
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &sum); err != nil {
			return nil, nil, err
		}
	}
	grown := false
	for tenant, amounts := range spent {
		of := sum[tenant]
		for i, amount := range amounts {
			if amount > 0 {
				of[i] += min(amount, math.MaxInt64-of[i])
			}
		}
		if of != sum[tenant] {
			sum[tenant], grown = of, true
		}
	}
	if !grown {
		return sum, nil, nil
	}
	changed, err = json.Marshal(sum)
	return sum, changed, err
}

// forget deletes the months that are too old, once in each month.
func (s *Spent) forget(ctx context.Context, month time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.swept.Equal(month) {
		return nil
	}
	paths, err := s.store.Paths(ctx, spentPrefix)
	if err != nil {
		return err
	}
	oldest := spentPrefix + month.AddDate(0, -monthsKept, 0).Format(monthFormat)
	for _, path := range paths {
		if path >= oldest { // paths of months sort by time
			break
		}
		found, there, err := s.store.Get(ctx, path)
		if err == nil && there {
			_, err = s.store.Commit(ctx, document.Change{Path: path, Version: found.Version, Delete: true})
		}
		if err != nil && !errors.Is(err, document.ErrConflict) { // somebody else deleted it
			return err
		}
	}
	s.swept = month
	return nil
}
