package usage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/usage/store"
)

// added is what records add up to, the plain way.
func added(all []lightcone.UsageRecord, tenant lightcone.TenantID, period Period) []Sum {
	found := make(sums)
	once := make(map[lightcone.CallID]bool)
	for _, r := range all {
		if !once[r.Call] && (tenant == "" || r.Tenant == tenant) && !r.Start.Before(period.From) && r.Start.Before(period.To) {
			once[r.Call] = true
			found.of(string(r.Tenant), string(r.Function)).add(1, int64(r.Used.CPU), r.Used.BytesIn, r.Used.BytesOut)
		}
	}
	return found.sorted()
}

// What the nodes have not shipped and what the bucket has add up to all, whenever
// they are asked: before, while and after records are shipped.
func TestShippedAndUnshippedAddUp(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	l := begin(t, config)
	all := records(0, 6000)
	for i := range all {
		all[i].Start = all[i].Start.Add(time.Duration(i%3-1) * time.Hour)
	}
	period := HoursOf(past, past.Add(time.Hour))
	r, err := OpenReader(t.Context(), config.withDefaults().Bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	check := func(done int) {
		t.Helper()
		for _, tenant := range []lightcone.TenantID{"", "acme"} {
			answer, err := l.Totals(t.Context(), tenant, period)
			if err != nil {
				t.Fatal(err)
			}
			shipped, err := r.Sum(t.Context(), tenant, period, Covered([]Unshipped{answer}))
			if err != nil {
				t.Fatal(err)
			}
			total := Merge(shipped, []Unshipped{answer}, 0)
			if diff := cmp.Diff(added(all[:done], tenant, period), total.Sums); diff != "" || total.Harvest != 1 {
				t.Fatalf("after %d records of %q: harvest %v: %s", done, tenant, total.Harvest, diff)
			}
		}
	}
	for from := 0; from < len(all); from += 1000 {
		put(t, l, all[from:from+1000])
		check(from + 1000)
	}
	await(t, "all is shipped", func() bool { return idle(l) })
	check(len(all))
	answer, err := l.Totals(t.Context(), "", period)
	if err != nil || len(answer.Sums) > 0 || len(answer.Sequences) > 0 {
		t.Errorf("all is shipped, and yet: %+v, %v", answer, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Totals(ended, "", period); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPeriodsAreWholeHours(t *testing.T) {
	for _, test := range []struct{ from, to, wantFrom, wantTo time.Duration }{
		{0, time.Hour, 0, time.Hour}, {time.Second, time.Hour, 0, time.Hour}, {0, time.Hour + 1, 0, 2 * time.Hour},
		{time.Hour - 1, time.Hour, 0, time.Hour}, {0, 0, 0, 0},
	} {
		got := HoursOf(past.Add(test.from).In(time.FixedZone("half", 5400)), past.Add(test.to))
		if !got.From.Equal(past.Add(test.wantFrom)) || !got.To.Equal(past.Add(test.wantTo)) {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}

// However the records are split into objects, doubled and ordered, and however few
// call ids the reader may hold, the sums are those of the records, each once.
func TestSumsDoNotDependOnTheSplit(t *testing.T) {
	e := NewEncoder()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 60).Draw(t, "records")
		all := records(0, n)
		r := &Reader{store: make(memory), close: func() error { return nil }, most: max(2, rapid.IntRange(n/4, n+1).Draw(t, "held"))}
		for sequence := uint64(0); sequence < 4; sequence++ {
			var part []lightcone.UsageRecord
			for _, record := range all {
				if rapid.IntRange(0, 2).Draw(t, "there") > 0 || sequence == 0 {
					part = append(part, record)
				}
			}
			if len(part) > 0 {
				part = rapid.Permutation(part).Draw(t, "order")
				o := Object{Node: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node"), Hour: past, Sequence: sequence}
				r.store.(memory)[o.Key()] = encodeWith(t, e, o, part)
			}
		}
		tenant := rapid.SampledFrom([]lightcone.TenantID{"", "acme", "nobody"}).Draw(t, "tenant")
		period := HoursOf(past, past.Add(time.Hour))
		got, err := r.Sum(context.Background(), tenant, period, nil)
		if diff := cmp.Diff(added(all, tenant, period), got); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	})
}

// memory is a bucket without a server, for properties with hundreds of buckets.
type memory map[string][]byte

func (m memory) Read(_ context.Context, key string, _ int64) ([]byte, error) {
	if m[key] == nil {
		return nil, store.ErrNotFound
	}
	return m[key], nil
}

func (m memory) List(_ context.Context, prefix string, visit func(store.Object) error) error {
	for _, key := range sortedKeys(m) {
		if strings.HasPrefix(key, prefix) {
			if err := visit(store.Object{Key: key}); err != nil {
				return err
			}
		}
	}
	return nil
}

func sortedKeys(m memory) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// A damaged object is named and left out whole; the others count.
func TestDamagedObjectsAreNamed(t *testing.T) {
	t.Parallel()
	good, bad := Object{Node: "a", Hour: past, Sequence: 1}, Object{Node: "a", Hour: past, Sequence: 2}
	content := encodeRecords(t, bad, records(1000, 2000))
	want := added(records(0, 1000), "", HoursOf(past, past.Add(time.Hour)))
	for what, damaged := range map[string][]byte{
		"cut":                 content[:len(content)-100],
		"empty":               {},
		"another's":           encodeRecords(t, good, records(1000, 2000)),
		"of an hour before":   encodeRecords(t, Object{Node: "a", Hour: past.Add(-time.Hour), Sequence: 2}, records(1000, 2000))[:],
		"no Parquet":          bytes.Repeat([]byte("PAR1"), 100),
		"with a footer alone": append([]byte("PAR1"), content[len(content)-600:]...),
	} {
		if what == "of an hour before" { // its metadata fits, its rows do not
			late := records(1000, 2000)
			late[999].Start = late[999].Start.Add(-time.Hour)
			damaged = encodeRecords(t, bad, late)
		}
		r := &Reader{store: memory{good.Key(): encodeRecords(t, good, records(0, 1000)), bad.Key(): damaged}, most: 1 << 20}
		got, err := r.Sum(t.Context(), "", HoursOf(past, past.Add(time.Hour)), nil)
		var named Damaged
		if !errors.As(err, &named) || len(named) != 1 || !strings.Contains(err.Error(), bad.Key()) {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	r := &Reader{store: memory{good.Key(): encodeRecords(t, good, records(0, 9))}, most: 1 << 20}
	got, err := r.Sum(t.Context(), "", HoursOf(past, past.Add(time.Hour)), map[string][]uint64{"a": {1}, "b": {7}})
	if len(got) > 0 || err != nil {
		t.Errorf("what is left out counts: %v, %v", got, err)
	}
}

// A change somewhere in an object never ends in a panic, nor in other rows than were
// written: it is an error, or harmless.
func FuzzDecode(f *testing.F) {
	o, all := Object{Node: "a", Hour: past, Sequence: 1}, records(0, 700)
	content := encodeRecords(f, o, all)
	f.Add(4, byte(1))
	f.Add(len(content)/2, byte(8))
	f.Add(len(content)-9, byte(255))
	f.Fuzz(func(t *testing.T, at int, mask byte) {
		damaged := bytes.Clone(content)
		damaged[uint(at)%uint(len(damaged))] ^= mask
		var found []lightcone.UsageRecord
		err := Decode(damaged, o, func(r *Row) error {
			found = append(found, r.Record())
			return nil
		})
		if err == nil && !slices.Equal(all, found) {
			t.Errorf("other rows and no error: %.1000s", cmp.Diff(all, found))
		}
	})
}

// Merging depends on no order and on no repetition of a node's answer, and harvest
// is the part of the nodes that answered.
func TestMergeIsWhatTheAnswersAddUpTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawSums := func(name string) []Sum {
			return added(records(0, rapid.IntRange(0, 12).Draw(t, name)), "", HoursOf(past, past.Add(time.Hour)))
		}
		shipped := drawSums("shipped")
		var answers []Unshipped
		want := callsIn(shipped)
		for i, node := range []string{"a", "b", "c"}[:rapid.IntRange(0, 3).Draw(t, "nodes")] {
			answers = append(answers, Unshipped{Node: node, Sequences: []uint64{uint64(i)}, Sums: drawSums(node)})
			want += callsIn(answers[i].Sums)
		}
		missing := rapid.IntRange(0, 3).Draw(t, "missing")
		total := Merge(shipped, answers, missing)
		again := rapid.Permutation(append(slices.Clone(answers), answers[:min(1, len(answers))]...)).Draw(t, "order")
		if diff := cmp.Diff(total, Merge(shipped, again, missing)); diff != "" {
			t.Fatal(diff)
		}
		harvest := 1.0
		if len(answers)+missing > 0 {
			harvest = float64(len(answers)) / float64(len(answers)+missing)
		}
		if callsIn(total.Sums) != want || total.Harvest != harvest {
			t.Fatalf("%d calls, want %d; harvest %v, want %v", callsIn(total.Sums), want, total.Harvest, harvest)
		}
	})
}

func TestNamesOfObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Object{
			Node: rapid.StringMatching(`[a-z0-9-]{1,63}`).Draw(t, "node"), Sequence: rapid.Uint64().Draw(t, "sequence"),
			Hour: HourOf(time.Unix(rapid.Int64Range(earliest/1e6, latest/1e6).Draw(t, "hour"), 0)),
		}
		back, ok := ParseObject(o.Key())
		node, hour, counts := ParseCountsKey(CountsKey(o.Node, o.Hour))
		if !ok || back != o || !counts || node != o.Node || hour != o.Hour {
			t.Fatalf("%s: %+v", o.Key(), back)
		}
	})
	for _, key := range []string{
		"", "usage/dt=2026-02-30/hour=01/node=a/00000000000000000001.parquet", "usage/dt=2026-02-03/hour=24/node=a/00000000000000000001.parquet",
		"usage/dt=2026-02-03/hour=01/node=A/00000000000000000001.parquet", "usage/dt=2026-02-03/hour=01/node=a/1.parquet",
		"usage/dt=2026-02-03/hour=01/node=a/99999999999999999999.parquet", "x/usage/dt=2026-02-03/hour=01/node=a/00000000000000000001.parquet",
	} {
		if o, ok := ParseObject(key); ok {
			t.Errorf("%s: %+v", key, o)
		}
	}
}
