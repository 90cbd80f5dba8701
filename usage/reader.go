package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lightcone"
	"lightcone/usage/store"
)

// Reader adds up what the bucket has. Make it with OpenReader; its methods may be
// called from any goroutine.
type Reader struct {
	store listing
	close func() error
	most  int // call ids held at once
}

// listing is the bucket, as the reader needs it: a store.Bucket, but in tests.
type listing interface {
	List(ctx context.Context, prefix string, visit func(store.Object) error) error
	Read(ctx context.Context, key string, most int64) ([]byte, error)
}

const (
	// defaultMostCalls bounds the call ids that a Sum holds at once: some 40 MB.
	defaultMostCalls = 1 << 20
	// mostPasses bounds how often an hour's objects are read for that.
	mostPasses = 1 << 10
)

// OpenReader opens a bucket as Config.Bucket names it.
func OpenReader(ctx context.Context, bucket string) (*Reader, error) {
	b, err := store.Open(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return &Reader{store: b, close: b.Close, most: defaultMostCalls}, nil
}

// Close lets go of the bucket.
func (r *Reader) Close() error { return r.close() }

// Damaged are the objects that a Sum could not read: what is in the others was
// added up.
type Damaged []error

// Error names each of them.
func (d Damaged) Error() string {
	return fmt.Sprintf("usage: %d objects are left out: %v", len(d), errors.Join(d...))
}

// Sum adds up a tenant's calls ("" = every tenant's) that started in the period, by
// tenant and function, from all objects but those of the segments in except (by
// node; see Covered). A call that is in several objects of an hour counts once, as it
// stands in the first by key. Memory is bounded: one object at a time, and as many call ids as
// the reader holds; an hour with more is read several times, a part of the ids each.
//
// A Damaged error comes with the sums of what could be read; any other error
// without sums. A key that no ledger writes is passed over.
func (r *Reader) Sum(ctx context.Context, tenant lightcone.TenantID, period Period, except map[string][]uint64) ([]Sum, error) {
	left := make(map[string]map[uint64]bool)
	for node, sequences := range except {
		left[node] = make(map[uint64]bool)
		for _, sequence := range sequences {
			left[node][sequence] = true
		}
	}
	all := make(sums)
	var damaged Damaged
	for hour := HourOf(period.From); hour.Before(period.To); hour = hour.Add(time.Hour) {
		var found []Object
		err := r.store.List(ctx, HourPrefix(hour), func(listed store.Object) error {
			if o, ok := ParseObject(listed.Key); ok && !left[o.Node][o.Sequence] {
				found = append(found, o)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("usage: add up %s: %w", hour.Format(time.RFC3339), err)
		}
		bad, err := r.sumHour(ctx, tenant, found, all)
		if err != nil {
			return nil, fmt.Errorf("usage: add up %s: %w", hour.Format(time.RFC3339), err)
		}
		damaged = append(damaged, bad...)
	}
	if len(damaged) > 0 {
		return all.sorted(), damaged
	}
	return all.sorted(), nil
}

// errTooMany says that a part of an hour has more calls than may be held.
var errTooMany = errors.New("too many calls to hold at once")

// sumHour adds one hour's objects to all, in as many passes as it takes.
func (r *Reader) sumHour(ctx context.Context, tenant lightcone.TenantID, objects []Object, all sums) (Damaged, error) {
	if len(objects) == 0 {
		return nil, nil
	}
	for passes := uint64(1); passes <= mostPasses; passes *= 2 {
		hour, damaged, err := r.sumParts(ctx, tenant, objects, passes)
		if errors.Is(err, errTooMany) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, s := range hour {
			all.of(string(s.Tenant), string(s.Function)).add(s.Calls, int64(s.CPU), s.BytesIn, s.BytesOut)
		}
		return damaged, nil
	}
	return nil, fmt.Errorf("%w, in %d passes over %d objects", errTooMany, mostPasses, len(objects))
}

// sumParts adds up an hour whose call ids are dealt to so many parts, one after
// the other.
func (r *Reader) sumParts(ctx context.Context, tenant lightcone.TenantID, objects []Object, passes uint64) (sums, Damaged, error) {
	hour, seen := make(sums), make(map[lightcone.CallID]struct{})
	bad := make(map[string]error)
	for pass := range passes {
		clear(seen)
		for _, o := range objects {
			key := o.Key()
			if bad[key] != nil {
				continue
			}
			rows, err := r.rowsOf(ctx, o, tenant)
			if errors.Is(err, errDamaged) {
				bad[key] = err
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			for _, row := range rows {
				if partOf(row.Call, passes) != pass {
					continue
				}
				if _, twice := seen[row.Call]; twice {
					continue
				}
				if len(seen) >= r.most {
					return nil, nil, errTooMany
				}
				seen[row.Call] = struct{}{}
				hour.of(row.Tenant, row.Function).add(1, row.CPU, row.BytesIn, row.BytesOut)
			}
		}
	}
	var damaged Damaged
	for _, o := range objects {
		if err := bad[o.Key()]; err != nil {
			damaged = append(damaged, err)
		}
	}
	return hour, damaged, nil
}

// partOf deals call ids to parts by their random bytes.
func partOf(call [16]byte, parts uint64) uint64 {
	var n uint64
	for _, b := range call[8:] {
		n = n<<8 | uint64(b)
	}
	return n * 0x9e3779b97f4a7c15 >> 32 % parts
}

// errDamaged is in the error about an object that is not what its key says.
var errDamaged = errors.New("the object is damaged")

// rowsOf are an object's rows of a tenant. The whole object is read and checked
// before one of them counts: half of one never does.
func (r *Reader) rowsOf(ctx context.Context, o Object, tenant lightcone.TenantID) ([]Row, error) {
	content, err := r.store.Read(ctx, o.Key(), store.LongestObject)
	if err != nil {
		return nil, err
	}
	var rows []Row
	err = Decode(content, o, func(row *Row) error {
		if tenant == "" || row.Tenant == string(tenant) {
			rows = append(rows, *row)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return slices.Clip(rows), nil
}
