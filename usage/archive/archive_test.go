package archive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"lightcone/usage"
	"lightcone/usage/archive"
	"lightcone/usage/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	hour = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)
	now  = time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
)

func open(t *testing.T, folder string) *store.Bucket {
	t.Helper()
	bucket, err := store.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

func newArchive(t *testing.T) archive.Archive {
	t.Helper()
	return archive.Archive{Hot: open(t, t.TempDir()), Cold: open(t, t.TempDir())}
}

// fill stores an hour of n objects, and returns their rows by key.
func fill(t *testing.T, bucket *store.Bucket, start time.Time, n int) map[string]int64 {
	t.Helper()
	billed := make(map[string]int64)
	for sequence := 1; sequence <= n; sequence++ {
		rows := make([]usage.Row, sequence)
		for i := range rows {
			rows[i] = usage.Row{Tenant: "acme", Function: "resize", Outcome: "answered", Start: start.UnixMicro()}
			binary.BigEndian.PutUint64(rows[i].Call[8:], uint64(sequence<<8+i))
		}
		var content bytes.Buffer
		object := usage.Object{Node: "node-a", Hour: start, Sequence: uint64(sequence)}
		if _, err := usage.NewEncoder().Encode(&content, object, slices.Values(rows)); err != nil {
			t.Fatal(err)
		}
		if err := bucket.Write(t.Context(), object.Key(), content.Bytes()); err != nil {
			t.Fatal(err)
		}
		billed[object.Key()] = int64(sequence)
	}
	return billed
}

// tree is everything in a bucket below a prefix.
func tree(t *testing.T, bucket *store.Bucket, prefix string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := bucket.List(t.Context(), prefix, func(o store.Object) error {
		content, err := bucket.Read(t.Context(), o.Key, 1<<30)
		found[strings.TrimPrefix(o.Key, "archive/")] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func verify(t *testing.T, a archive.Archive) *archive.Verification {
	t.Helper()
	found, err := a.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func move(t *testing.T, a archive.Archive, start time.Time, billed map[string]int64) int {
	t.Helper()
	moved, err := a.MoveHour(t.Context(), start, billed, now)
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

func TestAnHourMovesAndComesBack(t *testing.T) {
	a := newArchive(t)
	billed, before := fill(t, a.Hot, hour, 3), tree(t, a.Hot, "")
	late := usage.Object{Node: "node-b", Hour: hour, Sequence: 1}.Key() // is not billed
	if err := a.Hot.Write(t.Context(), late, []byte("late")); err != nil {
		t.Fatal(err)
	}
	if moved := move(t, a, hour, billed); moved != 3 {
		t.Errorf("%d objects moved, want 3", moved)
	}
	if left := tree(t, a.Hot, ""); len(left) != 1 || left[late] != "late" {
		t.Errorf("there are left %v", slices.Collect(maps.Keys(left)))
	}
	if difference := cmp.Diff(before, tree(t, a.Cold, "archive/usage/")); difference != "" {
		t.Errorf("the archive has something else:\n%s", difference)
	}
	if found := verify(t, a); len(found.Findings) > 0 || found.Objects != 3 || found.Manifests != 1 {
		t.Errorf("found %+v", found)
	}
	held, err := a.Objects(t.Context())
	if err != nil || len(held) != 3 || held[usage.Object{Node: "node-a", Hour: hour, Sequence: 2}.Key()].Rows != 2 {
		t.Errorf("the archive holds %+v (%v)", held, err)
	}
	restored, err := a.RestoreHour(t.Context(), hour)
	if err != nil || restored != 3 {
		t.Errorf("%d restored: %v", restored, err)
	}
	before[late] = "late"
	if difference := cmp.Diff(before, tree(t, a.Hot, "")); difference != "" {
		t.Errorf("something else came back:\n%s", difference)
	}
	if moved := move(t, a, hour, billed); moved != 0 { // the last manifest is finished: what it lists is archived
		t.Errorf("%d objects moved again", moved)
	}
}

// countdown is a context that ends after so many looks at it: a process that is
// killed between two steps.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// However a move is interrupted, every object is whole in one of the two buckets; and
// the next run leaves the archive as if it had not been.
func TestAMoveMayEndBetweenAnyTwoSteps(t *testing.T) {
	for steps := 0; ; steps++ {
		a := newArchive(t)
		billed, before := fill(t, a.Hot, hour, 3), tree(t, a.Hot, "")
		_, err := a.MoveHour(&countdown{Context: t.Context(), left: steps}, hour, billed, now)
		hot, cold := tree(t, a.Hot, ""), tree(t, a.Cold, "archive/usage/")
		for key, content := range before {
			if hot[key] != content && cold[key] != content {
				t.Fatalf("after %d steps %s is lost", steps, key)
			}
		}
		move(t, a, hour, billed)
		if left := tree(t, a.Hot, ""); len(left) != 0 {
			t.Errorf("interrupted after %d steps, the next run left %v", steps, slices.Collect(maps.Keys(left)))
		}
		if difference := cmp.Diff(before, tree(t, a.Cold, "archive/usage/")); difference != "" {
			t.Errorf("interrupted after %d steps, the archive has something else:\n%s", steps, difference)
		}
		if found := verify(t, a); len(found.Findings) > 0 || found.Manifests != 1 {
			t.Errorf("interrupted after %d steps: %+v", steps, found)
		}
		if err == nil {
			t.Logf("a move has %d steps", steps)
			return
		}
	}
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	first := usage.Object{Node: "node-a", Hour: hour, Sequence: 1}.Key()
	manifest := func(n int) string { return fmt.Sprintf("archive/manifest/%020d.json", n) }
	for name, test := range map[string]struct {
		spoil func(t *testing.T, cold *store.Bucket) error
		want  string
	}{
		"an object is changed": {func(t *testing.T, cold *store.Bucket) error {
			content := []byte(tree(t, cold, "archive/usage/")[first])
			content[len(content)/2] ^= 1
			return cold.Write(t.Context(), "archive/"+first, content)
		}, first},
		"an object is missing": {func(t *testing.T, cold *store.Bucket) error {
			return cold.Delete(t.Context(), "archive/"+first)
		}, first + `" is missing`},
		"an object is nobody's": {func(t *testing.T, cold *store.Bucket) error {
			return cold.Write(t.Context(), "archive/usage/other", nil)
		}, `"usage/other" is in no manifest`},
		"a manifest is missing": {func(t *testing.T, cold *store.Bucket) error {
			return cold.Delete(t.Context(), manifest(1))
		}, "manifest 1 is missing"},
		"a manifest is changed": {func(t *testing.T, cold *store.Bucket) error {
			content := tree(t, cold, "archive/manifest/")[manifest(1)[len("archive/"):]]
			return cold.Write(t.Context(), manifest(1), []byte(strings.Replace(content, `"rows": 1`, `"rows": 0`, 1)))
		}, "manifest 2 follows one with the digest"},
		"a manifest is none": {func(t *testing.T, cold *store.Bucket) error {
			return cold.Write(t.Context(), manifest(2), []byte("{}"))
		}, "manifest 2"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t)
			for i := range 2 {
				start := hour.Add(time.Duration(i) * time.Hour)
				move(t, a, start, fill(t, a.Hot, start, 2))
			}
			if found := verify(t, a); len(found.Findings) > 0 {
				t.Fatalf("found %v in a good archive", found.Findings)
			}
			if err := test.spoil(t, a.Cold); err != nil {
				t.Fatal(err)
			}
			if found := verify(t, a); len(found.Findings) == 0 || !strings.Contains(strings.Join(found.Findings, "\n"), test.want) {
				t.Errorf("found %q, want %q", found.Findings, test.want)
			}
		})
	}
}

func TestRetentionRefusesEarlyDeletion(t *testing.T) {
	a := newArchive(t)
	move(t, a, hour, fill(t, a.Hot, hour, 2))
	later := hour.Add(24 * time.Hour)
	move(t, a, later, fill(t, a.Hot, later, 2))
	if _, err := a.Expire(t.Context(), now, now); err == nil || !strings.Contains(err.Error(), "nobody has said") {
		t.Errorf("without a retention: %v", err)
	}
	if err := a.Retain(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	for _, days := range []int{29, 0, -1, 40000} {
		if err := a.Retain(t.Context(), days); err == nil {
			t.Errorf("the retention became %d days", days)
		}
	}
	due := hour.Add(time.Hour).Add(30 * 24 * time.Hour)
	if _, err := a.Expire(t.Context(), hour.Add(time.Hour), due.Add(-time.Nanosecond)); err == nil || !strings.Contains(err.Error(), "cannot be deleted yet") {
		t.Errorf("a nanosecond early: %v", err)
	}
	if found := verify(t, a); found.Objects != 4 {
		t.Fatalf("the archive holds %d objects, want 4", found.Objects)
	}
	deleted, err := a.Expire(t.Context(), hour.Add(time.Hour), due)
	if err != nil || deleted != 2 {
		t.Errorf("%d deleted: %v", deleted, err)
	}
	if found := verify(t, a); len(found.Findings) > 0 || found.Objects != 2 || found.Manifests != 3 {
		t.Errorf("found %+v", found)
	}
	if restored, err := a.RestoreHour(t.Context(), hour); err != nil || restored != 0 {
		t.Errorf("%d restored of what was deleted: %v", restored, err)
	}
}

func TestWhatIsNotWhatWasBilledIsNotArchived(t *testing.T) {
	a := newArchive(t)
	billed := fill(t, a.Hot, hour, 2)
	key := usage.Object{Node: "node-a", Hour: hour, Sequence: 1}.Key()
	billed[key] = 5
	if _, err := a.MoveHour(t.Context(), hour, billed, now); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("the error is %v", err)
	}
	if left := tree(t, a.Hot, ""); len(left) != 2 {
		t.Errorf("%d objects are left, want 2", len(left))
	}
}
