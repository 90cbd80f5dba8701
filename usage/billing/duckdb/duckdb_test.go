package duckdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/usage"
	"lightcone/usage/billing"
	"lightcone/usage/billing/duckdb"
	"lightcone/usage/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

var hour = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)

func open(t *testing.T, memory int64) *duckdb.Folder {
	t.Helper()
	folder, err := duckdb.Open(t.Context(), duckdb.Config{Memory: memory, Threads: runtime.GOMAXPROCS(0), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := folder.Close(); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// rows makes n calls of the hour, each with another id.
func rows(random *rand.Rand, n int) []usage.Row {
	made := make([]usage.Row, n)
	for i := range made {
		start := hour.Add(time.Duration(random.Int64N(int64(time.Hour))))
		row := &made[i]
		binary.BigEndian.PutUint64(row.Call[:8], uint64(start.UnixMilli())<<16|random.Uint64N(1<<16))
		binary.BigEndian.PutUint64(row.Call[8:], random.Uint64())
		row.Tenant, row.Function, row.Outcome = fmt.Sprintf("tenant-%d", random.IntN(10_000)), "resize", "answered"
		row.CPU, row.BytesIn, row.BytesOut = 8e6+random.Int64N(4e6), random.Int64N(1<<20), random.Int64N(20_000)
		row.Start, row.Duration = start.UnixMicro(), row.CPU+random.Int64N(1e6)
	}
	return made
}

func encode(t *testing.T, sequence uint64, rows []usage.Row) []byte {
	t.Helper()
	var object bytes.Buffer
	if _, err := usage.NewEncoder().Encode(&object, usage.Object{Node: "node-a", Hour: hour, Sequence: sequence}, slices.Values(rows)); err != nil {
		t.Fatal(err)
	}
	return object.Bytes()
}

func write(t *testing.T, folder string, number int, content []byte) string {
	t.Helper()
	name := filepath.Join(folder, fmt.Sprintf("%06d.parquet", number))
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// fold folds all shares, with each file's calls summed.
func fold(t *testing.T, folder *duckdb.Folder, files []string, shares int) billing.Folded {
	t.Helper()
	all := billing.Folded{Billed: make([]int64, len(files))}
	for index := range shares {
		folded, err := folder.Fold(t.Context(), files, hour, billing.Share{Index: index, Of: shares})
		if err != nil {
			t.Fatal(err)
		}
		all.Rows = append(all.Rows, folded.Rows...)
		all.Disputed += folded.Disputed
		all.Strays += folded.Strays
		for i, n := range folded.Billed {
			all.Billed[i] += n
		}
	}
	slices.SortFunc(all.Rows, func(a, b billing.Row) int { return strings.Compare(a.Tenant, b.Tenant) })
	return all
}

func TestCopiesInOtherFilesCountOnceAndForTheFirst(t *testing.T) {
	folder, scratch := open(t, 256<<20), t.TempDir()
	made := rows(rand.New(rand.NewPCG(1, 2)), 100)
	files := []string{
		write(t, scratch, 1, encode(t, 1, made[:60])),
		write(t, scratch, 2, encode(t, 2, append(slices.Clone(made[40:]), made[99]))), // 20 of the first file, and one of its own twice
	}
	folded := fold(t, folder, files, 1)
	if !slices.Equal(folded.Billed, []int64{60, 40}) || folded.Disputed != 0 || folded.Strays != 0 {
		t.Errorf("the files account for %v calls, %d disputed, %d strays", folded.Billed, folded.Disputed, folded.Strays)
	}
	var calls, cpu, want int64
	for _, row := range folded.Rows {
		calls, cpu = calls+row.Calls, cpu+row.CPU
	}
	for _, row := range made {
		want += row.CPU
	}
	if calls != 100 || cpu != want {
		t.Errorf("%d calls and %d ns of CPU, want 100 and %d", calls, cpu, want)
	}
}

func TestACallWhoseRecordsDifferIsDisputedAndBilledAtTheLeast(t *testing.T) {
	folder, scratch := open(t, 256<<20), t.TempDir()
	one := rows(rand.New(rand.NewPCG(1, 2)), 1)[0]
	other := one
	one.CPU, one.BytesIn, other.CPU, other.BytesIn = 5, 7, 6, 6
	for _, order := range [][]usage.Row{{one, other}, {other, one}} {
		folded := fold(t, folder, []string{write(t, scratch, 1, encode(t, 1, order))}, 1)
		if len(folded.Rows) != 1 || folded.Disputed != 1 || folded.Rows[0].Calls != 1 || folded.Rows[0].CPU != 5 || folded.Rows[0].BytesIn != 6 {
			t.Errorf("folded %+v", folded)
		}
	}
}

func TestAnIdOfAnotherHourIsAStray(t *testing.T) {
	folder, scratch := open(t, 256<<20), t.TempDir()
	stray := rows(rand.New(rand.NewPCG(1, 2)), 3)
	binary.BigEndian.PutUint64(stray[0].Call[:8], uint64(hour.UnixMilli()-1)<<16)
	binary.BigEndian.PutUint64(stray[1].Call[:8], uint64(hour.Add(time.Hour).UnixMilli())<<16)
	if folded := fold(t, folder, []string{write(t, scratch, 1, encode(t, 1, stray))}, 2); folded.Strays != 2 {
		t.Errorf("%d strays, want 2", folded.Strays)
	}
}

func TestRecordsThatCannotBeBilledFailTheFold(t *testing.T) {
	folder, scratch := open(t, 256<<20), t.TempDir()
	for name, spoil := range map[string]func(*usage.Row){
		"negative CPU":    func(r *usage.Row) { r.CPU = -1 },
		"negative bytes":  func(r *usage.Row) { r.BytesOut = -1 },
		"the hour before": func(r *usage.Row) { r.Start = hour.UnixMicro() - 1 },
		"the hour after":  func(r *usage.Row) { r.Start = hour.Add(time.Hour).UnixMicro() },
		"more than fits":  func(r *usage.Row) { r.CPU = 1<<63 - 1 },
	} {
		made := rows(rand.New(rand.NewPCG(1, 2)), 10)
		for i := range made {
			made[i].Tenant = "acme"
		}
		spoil(&made[3])
		_, err := folder.Fold(t.Context(), []string{write(t, scratch, 1, encode(t, 1, made))}, hour, billing.Share{Of: 1})
		if !errors.Is(err, billing.ErrRecords) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := folder.Fold(t.Context(), []string{filepath.Join(scratch, "nowhere.parquet")}, hour, billing.Share{Of: 1})
	if err == nil || errors.Is(err, billing.ErrRecords) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Every bit of an object is changed once. What Inspect lets pass has to fold to the
// very same, or to fail by the object's own fault, or a bill could be wrong without
// anybody's knowing.
func TestNoChangedBitChangesABill(t *testing.T) {
	folder, scratch := open(t, 512<<20), t.TempDir()
	made := rows(rand.New(rand.NewPCG(3, 4)), 40)
	for i := range made {
		made[i].Tenant = []string{"acme", "globex"}[i%2]
	}
	object := encode(t, 7, made)
	want := fold(t, folder, []string{write(t, scratch, 0, object)}, 1)
	var passed []string
	var bits []int
	for bit := range 8 * len(object) {
		changed := bytes.Clone(object)
		changed[bit/8] ^= 1 << (bit % 8)
		if records, err := store.Inspect(changed, "node-a", 7); err == nil {
			file, err := records.Parquet()
			if err != nil {
				t.Fatal(err)
			}
			bits = append(bits, bit)
			passed = append(passed, write(t, scratch, len(bits), file))
		}
	}
	t.Logf("of %d bits, %d can change without being noticed", 8*len(object), len(passed))
	const batch = 100
	for start := 0; start < len(passed); start += batch {
		files := passed[start:min(start+batch, len(passed))]
		if differs(t.Context(), folder, files, want) == nil {
			continue
		}
		for i, file := range files {
			if err := differs(t.Context(), folder, []string{file}, want); err != nil && !errors.Is(err, billing.ErrRecords) {
				t.Errorf("bit %d of byte %d: %v", bits[start+i]%8, bits[start+i]/8, err)
			}
		}
	}
}

// differs says how the files, which are of the same calls, fold to something else than
// one of them does.
func differs(ctx context.Context, folder *duckdb.Folder, files []string, want billing.Folded) error {
	folded, err := folder.Fold(ctx, files, hour, billing.Share{Of: 1})
	if err != nil {
		return err
	}
	slices.SortFunc(folded.Rows, func(a, b billing.Row) int { return strings.Compare(a.Tenant, b.Tenant) })
	if folded.Disputed != 0 || folded.Strays != 0 || !reflect.DeepEqual(folded.Rows, want.Rows) {
		return fmt.Errorf("folded %+v, want %+v", folded, want)
	}
	return nil
}

// Every call has a copy here, so that each share is also folded in parts.
func TestAFoldThatDoesNotFitInMemorySpills(t *testing.T) {
	const memory, each, distinct = 96 << 20, 250_000, 8
	scratch := t.TempDir()
	files := make([]string, 2*distinct)
	random, want := rand.New(rand.NewPCG(5, 6)), int64(0)
	for i := range distinct {
		made := rows(random, each)
		for _, row := range made {
			want += row.CPU
		}
		object := encode(t, uint64(i), made)
		files[i], files[distinct+i] = write(t, scratch, i, object), write(t, scratch, distinct+i, object)
	}
	folded := fold(t, open(t, memory), files, 2)
	var calls, cpu int64
	for _, row := range folded.Rows {
		calls, cpu = calls+row.Calls, cpu+row.CPU
	}
	if calls != each*distinct || cpu != want || folded.Disputed != 0 || folded.Strays != 0 {
		t.Errorf("%d calls and %d ns of CPU, %d disputed, %d strays; want %d and %d", calls, cpu, folded.Disputed, folded.Strays, each*distinct, want)
	}
	for i, billed := range folded.Billed {
		if first := i < distinct; first && billed != each || !first && billed != 0 {
			t.Errorf("file %d accounts for %d calls", i, billed)
		}
	}

	// Where nothing can be written, the same memory does not do.
	nowhere, err := duckdb.Open(t.Context(), duckdb.Config{Memory: memory, Threads: runtime.GOMAXPROCS(0), Scratch: filepath.Join(files[0], "nowhere")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nowhere.Fold(t.Context(), files, hour, billing.Share{Of: 1}); err == nil || errors.Is(err, billing.ErrRecords) {
		t.Errorf("two million calls were folded in %d bytes without spilling: %v", memory, err)
	}
	if err := nowhere.Close(); err != nil {
		t.Error(err)
	}
}
