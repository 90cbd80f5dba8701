package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"lightcone"
	"lightcone/usage/store"
)

// Reader adds up what the bucket has. Make it with OpenReader; its methods may be
// called from any goroutine.
type Reader struct {
	store listing
	bills Bills // nil: every record is read
	close func() error
	most  int // call ids held at once
}

// Bills know what hours came to that have been billed.
type Bills interface {
	// Billed is what a tenant's calls ("" = every tenant's) of an hour came to by its bill;
	// ok is false if there is no bill that says it of all its objects.
	Billed(ctx context.Context, tenant lightcone.TenantID, hour time.Time) (billed Billed, ok bool, err error)
}

// Billed is what an hour's bill says.
type Billed struct {
	Objects []string // whose records it is of, by key, ascending
	Sums    []Sum
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

// OpenReader opens a bucket as Config.Bucket names it. billed makes what knows its
// bills; nil, and every record is read.
func OpenReader(ctx context.Context, bucket string, billed func(*store.Bucket) Bills) (*Reader, error) {
	b, err := store.Open(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	r := &Reader{store: b, close: b.Close, most: defaultMostCalls}
	if billed != nil {
		r.bills = billed(b)
	}
	return r, nil
}

// Close lets go of the bucket.
func (r *Reader) Close() error { return r.close() }

// Damaged are the objects that a Sum could not read, or not count: what is in the others
// was added up.
type Damaged []error

// Error names each of them.
func (d Damaged) Error() string {
	return fmt.Sprintf("usage: %d objects are left out: %v", len(d), errors.Join(d...))
}

// Sum adds up a tenant's calls ("" = every tenant's) that started in the period, by
// tenant and function, from all objects but those of the segments in except (by
// node; see Covered). A call that is in several objects of an hour counts once. An hour
// whose bill is of all these objects is taken from it; of any other, the records are read:
// then a call counts as it stands in the first object by key. Memory is bounded: one
// object at a time, and as many call ids as the reader holds; an hour with more is read
// several times, a part of the ids each. Of an hour whose billed objects are archived, an object
// that came after the bill cannot be told from copies of what was billed: it is Damaged.
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
	hours, err := r.look(ctx, tenant, period, left)
	if err != nil {
		return nil, err
	}
	for _, hour := range hours {
		for _, s := range hour.billed {
			all.of(string(s.Tenant), string(s.Function)).add(s.Calls, int64(s.CPU), s.BytesIn, s.BytesOut)
		}
		bad, err := r.sumHour(ctx, tenant, hour.unbilled, all)
		if err != nil {
			return nil, fmt.Errorf("usage: add up %s: %w", hour.start.Format(time.RFC3339), err)
		}
		damaged = slices.Concat(damaged, hour.damaged, bad)
	}
	if len(damaged) > 0 {
		return all.sorted(), damaged
	}
	return all.sorted(), nil
}

// readHour is an hour as it is to be added up: by its bill or by its objects.
type readHour struct {
	start    time.Time
	billed   []Sum
	unbilled []Object
	damaged  Damaged // beside what is found when the objects are read
}

// hoursAtOnce are looked at, since each costs a few round trips and a month has 720.
const hoursAtOnce = 16

// look lists a period's hours, and takes from their bills what these are good for.
func (r *Reader) look(ctx context.Context, tenant lightcone.TenantID, period Period, left map[string]map[uint64]bool) ([]readHour, error) {
	var hours []readHour
	for start := HourOf(period.From); start.Before(period.To); start = start.Add(time.Hour) {
		hours = append(hours, readHour{start: start})
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(hoursAtOnce)
	for i := range hours {
		group.Go(func() error {
			if err := r.lookAt(groupCtx, tenant, &hours[i], left); err != nil {
				return fmt.Errorf("usage: add up %s: %w", hours[i].start.Format(time.RFC3339), err)
			}
			return nil
		})
	}
	return hours, group.Wait()
}

// lookAt lists an hour's objects first: what comes later is in no bill either that it
// then believes. A bill may be of more objects than there are: old ones are archived.
func (r *Reader) lookAt(ctx context.Context, tenant lightcone.TenantID, hour *readHour, left map[string]map[uint64]bool) error {
	err := r.store.List(ctx, HourPrefix(hour.start), func(listed store.Object) error {
		if o, ok := ParseObject(listed.Key); ok && !left[o.Node][o.Sequence] {
			hour.unbilled = append(hour.unbilled, o)
		}
		return nil
	})
	if err != nil || r.bills == nil {
		return err
	}
	billed, ok, err := r.bills.Billed(ctx, tenant, hour.start)
	if err != nil || !ok {
		return err
	}
	hour.take(billed, left)
	return nil
}

// take makes the best of an hour's bill. Where neither the bill nor the objects have all of
// the hour, since some came after the bill and some that it is of are archived, what is
// missing is named.
func (h *readHour) take(billed Billed, left map[string]map[uint64]bool) {
	listed := make(map[string]bool)
	var late, gone Damaged
	for _, o := range h.unbilled {
		listed[o.Key()] = true
		if _, known := slices.BinarySearch(billed.Objects, o.Key()); !known {
			late = append(late, fmt.Errorf("%q came when the hour's billed objects had been archived: `lightcone archive restore`, and bill the hour again", o.Key()))
		}
	}
	told := false // some of it by its node
	for _, key := range billed.Objects {
		if o, _ := ParseObject(key); left[o.Node][o.Sequence] {
			told = true
		} else if !listed[key] {
			gone = append(gone, fmt.Errorf("%q was billed, and is no longer there: `lightcone archive restore`", key))
		}
	}
	switch {
	case len(late) == 0 && !told:
		h.billed, h.unbilled = billed.Sums, nil
	case len(gone) == 0: // all is there to be read
	case !told:
		h.billed, h.unbilled, h.damaged = billed.Sums, nil, late
	default:
		h.damaged = gone
	}
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
