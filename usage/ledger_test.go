package usage

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/usage/store"
)

// abandon ends a ledger as SIGKILL does, as far as files are concerned: what is being
// written is not sealed, and nothing is given up in order.
func abandon(l *Ledger) {
	l.stop.Do(func() {
		l.mu.Lock()
		l.ended = true
		open := []*segment{l.active, l.spare}
		l.active, l.spare = nil, nil
		l.mu.Unlock()
		l.abort()
		<-l.shipped
		close(l.quit)
		<-l.kept
		for _, s := range open {
			if s != nil {
				_ = s.drop()
			}
		}
		l.metrics.unregister(l.config.Metrics)
		_, _ = l.tally.close(false), l.lock.Close()
		if l.bucket != nil {
			_ = l.bucket.Close()
		}
	})
}

// stored are the rows of all objects in a bucket, by key.
func stored(t testing.TB, s *store.Bucket) map[string][]lightcone.UsageRecord {
	t.Helper()
	all := make(map[string][]lightcone.UsageRecord)
	err := s.List(context.Background(), "usage/", func(listed store.Object) error {
		key := listed.Key
		o, ok := ParseObject(key)
		if !ok {
			t.Errorf("a ledger does not name objects %s", key)
		}
		content, err := s.Read(context.Background(), key, store.LongestObject)
		if err != nil {
			return err
		}
		return Decode(content, o, func(r *Row) error {
			all[key] = append(all[key], r.Record())
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// counts are all counts in a bucket, by key.
func counts(t testing.TB, s *store.Bucket) map[string]Counts {
	t.Helper()
	all := make(map[string]Counts)
	err := s.List(context.Background(), "counts/", func(listed store.Object) error {
		content, err := s.Read(context.Background(), listed.Key, mostCounts)
		if err != nil {
			return err
		}
		all[listed.Key], err = ParseCounts(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// expectStored compares what a bucket has with what was appended, to the record, and
// each object with what the counts say of it.
func expectStored(t testing.TB, s *store.Bucket, want []lightcone.UsageRecord) {
	t.Helper()
	objects := stored(t, s)
	var found []lightcone.UsageRecord
	for _, rows := range objects {
		found = append(found, rows...)
	}
	inOrder := func(a, b lightcone.UsageRecord) int { return strings.Compare(string(a.Call[:]), string(b.Call[:])) }
	want = slices.Clone(want)
	slices.SortFunc(found, inOrder)
	slices.SortFunc(want, inOrder)
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("appended and stored (-, +): %.2000s", diff)
	}
	named := 0
	for _, c := range counts(t, s) {
		for _, sequence := range c.Sequences {
			key := Object{Node: c.Node, Hour: c.Hour, Sequence: sequence.Sequence}.Key()
			if got := int64(len(objects[key])); got != sequence.Rows {
				t.Errorf("%s has %d rows, and the counts say %d", key, got, sequence.Rows)
			}
			if sequence.Rows > 0 {
				named++
			}
		}
	}
	if named != len(objects) {
		t.Errorf("%d objects, and counts of %d", len(objects), named)
	}
}

// bucketOf opens the bucket of a test's ledger.
func bucketOf(t testing.TB, config Config) *store.Bucket {
	t.Helper()
	s, err := store.Open(context.Background(), config.withDefaults().Bucket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestRecordsComeIntoTheBucket(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	l := begin(t, config)
	all := records(0, 3000)
	for i := range all[:100] { // these started in the hour before, and one day
		all[i].Start = all[i].Start.Add(-time.Hour)
	}
	all[7].Start = past.Add(-24*time.Hour - time.Microsecond)
	put(t, l, all)
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	s := bucketOf(t, config)
	expectStored(t, s, all)
	hour := counts(t, s)[CountsKey("gw-1", past)]
	if hour.Answered != 2900 || hour.Recorded != 2900 || hour.Torn != 0 || hour.Interrupted != 0 || !hour.Closed || hour.Difference() != 0 {
		t.Errorf("the hour's counts are %+v", hour)
	}
	for i := 1; i < len(hour.Sequences); i++ {
		if hour.Sequences[i].Sequence != hour.Sequences[i-1].Sequence+1 {
			t.Errorf("a gap in %+v", hour.Sequences)
		}
	}
	left, err := filepath.Glob(filepath.Join(config.Dir, "*.segment"))
	if len(left) > 0 || err != nil {
		t.Errorf("shipped, and still there: %q, %v", left, err)
	}
	r := record(1)
	if err := l.Append(&r); !errors.Is(err, ErrStopped) {
		t.Errorf("appended after the stop: %v", err)
	}
}

// Numbers go on where they were, though nothing but the last number is left.
func TestNumbersAreNeverUsedTwice(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	var all []lightcone.UsageRecord
	for round := range 4 {
		l, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		some := records(round*10, round*10+10)
		all = append(all, some...)
		put(t, l, some)
		if round%2 == 0 {
			abandon(l)
		} else if err := halt(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := halt(begin(t, config)); err != nil {
		t.Fatal(err)
	}
	s := bucketOf(t, config)
	expectStored(t, s, all)
	c := counts(t, s)[CountsKey("gw-1", past)]
	if len(c.Sequences) != 4 || c.Sequences[3].Sequence != c.Sequences[0].Sequence+3 || c.Difference() != 0 || c.Interrupted != 0 {
		t.Errorf("want four numbers without a gap: %+v", c)
	}
}

func TestOneProcessAFolder(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	config.lockWait = 100 * time.Millisecond
	begin(t, config)
	if _, err := Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
}

// What is recorded and not answered after a kill is named, and hides no loss.
func TestAKillBetweenRecordAndAnswer(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	config.SealAge = time.Hour
	l := begin(t, config)
	put(t, l, records(0, 20))
	for _, r := range records(20, 23) {
		if err := l.Append(&r); err != nil {
			t.Fatal(err)
		}
	}
	abandon(l)
	if err := halt(begin(t, config)); err != nil {
		t.Fatal(err)
	}
	c := counts(t, bucketOf(t, config))[CountsKey("gw-1", past)]
	if c.Answered != 20 || c.Interrupted != 3 || c.Recorded != 23 || c.Difference() != 0 {
		t.Errorf("%+v", c)
	}
	// The same in a run that ends in order is a difference, for somebody forgot to count.
	l = begin(t, config)
	r := record(50)
	if err := errors.Join(l.Append(&r), halt(l)); err != nil {
		t.Fatal(err)
	}
	if c = counts(t, bucketOf(t, config))[CountsKey("gw-1", past)]; c.Interrupted != 3 || c.Difference() != 1 {
		t.Errorf("%+v", c)
	}
}

// A segment that is damaged on the disk costs its damaged records, which are counted and
// said; the others are there.
func TestADamagedSegmentOnTheDisk(t *testing.T) {
	t.Parallel()
	config, log := configFor(t, t.TempDir())
	config.SealAge = time.Hour
	l := begin(t, config)
	all := records(0, 50)
	put(t, l, all)
	abandon(l)
	names, err := filepath.Glob(filepath.Join(config.Dir, "*.segment"))
	if err != nil || len(names) == 0 { // the second is the spare
		t.Fatal(names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	data[headerLength+3*frameSize(bodyFixed+10)+20] ^= 4 // within the first few records
	if err := os.WriteFile(names[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := halt(begin(t, config)); err != nil {
		t.Fatal(err)
	}
	s := bucketOf(t, config)
	c := counts(t, s)[CountsKey("gw-1", past)]
	if c.Torn != 1 || c.Recorded != 49 || c.Answered != 50 || c.Difference() != 0 || c.Sequences[0].Torn != 1 {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(log.String(), "damaged and lost") {
		t.Errorf("nothing is said: %s", log)
	}
	if found := stored(t, s); len(found) != 1 {
		t.Errorf("%d objects", len(found))
	}
}

// A node that has lost its disk uses new numbers, and its counts stand beside those
// of its earlier life.
func TestANodeThatLostItsDisk(t *testing.T) {
	t.Parallel()
	shared := "file://" + t.TempDir()
	var all []lightcone.UsageRecord
	for life := range 2 {
		config, _ := configFor(t, t.TempDir())
		config.Bucket = shared
		l := begin(t, config)
		some := records(life*100, life*100+70)
		all = append(all, some...)
		put(t, l, some)
		if err := halt(l); err != nil {
			t.Fatal(err)
		}
	}
	s := bucketOf(t, Config{Bucket: shared})
	expectStored(t, s, all)
	if c := counts(t, s)[CountsKey("gw-1", past)]; len(c.Ledgers) != 2 || c.Answered != 140 || c.Recorded != 140 || c.Difference() != 0 {
		t.Errorf("%+v", c)
	}
}

// Another ledger's object under the same name is not overwritten, and neither are
// the segment's records given up.
func TestANameThatIsTaken(t *testing.T) {
	t.Parallel()
	config, log := configFor(t, t.TempDir())
	config.SealAge = time.Hour
	l := begin(t, config)
	put(t, l, records(0, 5))
	o := Object{Node: "gw-1", Hour: past, Sequence: l.numbers.First}
	other := encodeRecords(t, o, records(100, 103))
	s := bucketOf(t, config)
	if err := s.WriteNew(t.Context(), o.Key(), other); err != nil {
		t.Fatal(err)
	}
	if err := halt(l); err == nil || !strings.Contains(err.Error(), "1 segments") {
		t.Errorf("stopped as if all was well: %v", err)
	}
	if there, err := s.Read(t.Context(), o.Key(), store.LongestObject); !bytes.Equal(there, other) || err != nil {
		t.Error("the other object is gone", err)
	}
	if !strings.Contains(log.String(), "taken") {
		t.Error("nothing is said")
	}
	// What is damaged there is no other ledger's work.
	if err := s.Write(t.Context(), o.Key(), other[:len(other)/2]); err != nil {
		t.Fatal(err)
	}
	if err := halt(begin(t, config)); err != nil {
		t.Fatal(err)
	}
	expectStored(t, s, records(0, 5))
}

func TestManyAppendAtOnce(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	l := begin(t, config)
	var group sync.WaitGroup
	for part := range 8 {
		group.Go(func() {
			for n := part * 500; n < part*500+500; n++ {
				r := record(n)
				if err := errors.Join(l.Append(&r), l.Answered(r.Start)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	expectStored(t, bucketOf(t, config), records(0, 4000))
}

func TestAppendAllocatesNothing(t *testing.T) {
	config, _ := configFor(t, t.TempDir())
	config.SealBytes, config.SealAge, config.SyncEvery, config.MaxDiskBytes = 16<<20, time.Hour, time.Minute, 1<<30
	l := begin(t, config)
	r := record(1)
	if err := errors.Join(l.Append(&r), l.Answered(r.Start)); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if l.Append(&r) != nil || l.Answered(r.Start) != nil {
			t.Error("not kept")
		}
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}
