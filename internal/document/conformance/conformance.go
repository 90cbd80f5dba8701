// Package conformance is the suite that every document.Store passes: versions,
// compare-and-set, commits that happen whole or not at all, listing, waiting and
// limits, by example and by comparison with a model.
//
// Invariants: a test uses nothing but the interface and waits for nothing without
// a bound. It asks for reads that see every commit that has returned, so a store
// whose reads may lag is to be tried where they do not.
//
// It does not test what a store does when its process or its server dies: that is
// each store's own to show.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lightcone/internal/document"
)

// bound is how long anything here may take.
const bound = 30 * time.Second

// Run runs the suite. newStore makes an empty store, which ends with its test.
func Run(t *testing.T, newStore func(t *testing.T) document.Store) {
	for _, test := range []struct {
		name string
		run  func(*trial)
	}{
		{"versions", versions},
		{"values", values},
		{"compare and set", compareAndSet},
		{"deletions", deletions},
		{"all or nothing", allOrNothing},
		{"commits are seen whole", seenWhole},
		{"one writer wins", oneWins},
		{"no update is lost", noneLost},
		{"paths", paths},
		{"paths that are none", noPaths},
		{"limits", limits},
		{"wait", waits},
		{"wait ends with its context", waitEnds},
		{"wait misses nothing", waitMissesNothing},
		{"as the model", asModel},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			test.run(&trial{T: t, ctx: ctx, store: newStore(t)})
		})
	}
}

// trial is one test and its store.
type trial struct {
	*testing.T
	ctx   context.Context
	store document.Store
}

// commit makes changes that must go through.
func (t *trial) commit(changes ...document.Change) uint64 {
	t.Helper()
	version, err := t.store.Commit(t.ctx, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// conflicts makes changes that must be refused.
func (t *trial) conflicts(changes ...document.Change) {
	t.Helper()
	if version, err := t.store.Commit(t.ctx, changes...); !errors.Is(err, document.ErrConflict) || version != 0 {
		t.Errorf("committed %+v as version %d, %v; want ErrConflict", changes, version, err)
	}
}

// holds checks a document; version 0 means that there must be none.
func (t *trial) holds(path, value string, version uint64) {
	t.Helper()
	d, found, err := t.store.Get(t.ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.is(d, found, path, value, version)
}

func (t *trial) is(d document.Document, found bool, path, value string, version uint64) {
	t.Helper()
	if version == 0 {
		path = "" // nothing is there
	}
	if found != (version > 0) || d.Path != path || string(d.Value) != value || d.Version != version {
		t.Errorf("got %q = %.40q at version %d, found %v; want %q = %.40q at version %d", d.Path, d.Value, d.Version, found, path, value, version)
	}
}

func put(path, value string, version uint64) document.Change {
	return document.Change{Path: path, Value: []byte(value), Version: version}
}

func remove(path string, version uint64) document.Change {
	return document.Change{Path: path, Version: version, Delete: true}
}

func versions(t *trial) {
	t.holds("a", "", 0)
	first := t.commit(put("a", "1", 0), put("b", "1", 0))
	t.holds("a", "1", first)
	t.holds("b", "1", first)
	second := t.commit(put("a", "2", first))
	same := t.commit(put("a", "2", second)) // a commit is a change, even to the same value
	if first == 0 || second <= first || same <= second {
		t.Errorf("versions %d, %d, %d; want them to rise", first, second, same)
	}
	t.holds("a", "2", same)
	t.holds("b", "1", first)
	if version := t.commit(remove("a", same)); version != 0 {
		t.Errorf("a commit that only deletes has version %d; want 0", version)
	}
	t.holds("a", "", 0)
	again := t.commit(put("a", "2", 0))
	if again <= same {
		t.Errorf("after the deletion, version %d follows %d", again, same)
	}
	mixed := t.commit(remove("b", first), put("a", "3", again), put("c", "3", 0))
	t.holds("a", "3", mixed)
	t.holds("b", "", 0)
	t.holds("c", "3", mixed)
}

func values(t *trial) {
	odd := "\x00\xff\"<&>\n{}\xf0"
	version := t.commit(put("empty", "", 0), put("odd", odd, 0))
	t.holds("empty", "", version)
	t.holds("odd", odd, version)
	value := []byte("before")
	version = t.commit(document.Change{Path: "own", Value: value}, put("large", strings.Repeat("l", 64<<10), 0)) // no store keeps this in one page
	copy(value, "behind")
	got, _, err := t.store.Get(t.ctx, "own")
	if err != nil {
		t.Fatal(err)
	}
	copy(got.Value, "behind")
	t.holds("own", "before", version) // what callers do with their bytes does not reach the store
}

func compareAndSet(t *trial) {
	t.conflicts(put("a", "1", 7)) // there is none
	first := t.commit(put("a", "1", 0))
	t.conflicts(put("a", "2", 0)) // there is one
	second := t.commit(put("a", "2", first))
	t.conflicts(put("a", "3", first))    // too old
	t.conflicts(put("a", "3", second+1)) // not yet
	t.holds("a", "2", second)
}

func deletions(t *trial) {
	t.conflicts(remove("a", 7))
	first := t.commit(put("a", "1", 0), put("ab", "1", 0))
	second := t.commit(put("a", "2", first))
	t.conflicts(remove("a", first))
	t.holds("a", "2", second)
	t.commit(remove("a", second))
	t.holds("a", "", 0)
	t.holds("ab", "1", first) // no folder goes with it
	t.conflicts(remove("a", second))
	t.conflicts(put("a", "3", second))
}

func allOrNothing(t *trial) {
	version := t.commit(put("a", "1", 0), put("b", "1", 0), put("c", "1", 0))
	refused := []document.Change{put("a", "2", version), remove("b", version), put("d", "2", 0)}
	for at := range len(refused) + 1 {
		t.conflicts(slices.Insert(slices.Clone(refused), at, put("c", "2", version+1))...)
		t.conflicts(slices.Insert(slices.Clone(refused), at, put("c", "2", 0))...)
		t.conflicts(slices.Insert(slices.Clone(refused), at, remove("c", version+1))...)
		t.conflicts(slices.Insert(slices.Clone(refused), at, remove("gone", version))...)
	}
	for _, path := range []string{"a", "b", "c"} {
		t.holds(path, "1", version)
	}
	t.holds("d", "", 0)
}

func paths(t *trial) {
	all := []string{"a", "a-b", "a/b", "a/b/c", "a/bc", "a/c", "a.b", "A", "a_b", "b", "keys/1", "keys/10", "keys/2"}
	for part := range slices.Chunk(all, 5) {
		var changes []document.Change
		for _, path := range part {
			changes = append(changes, put(path, path, 0))
		}
		t.commit(changes...)
	}
	slices.Sort(all)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "keys/1", "keys/", "none", "none/", "b/"} {
		want := slices.DeleteFunc(slices.Clone(all), func(path string) bool { return !strings.HasPrefix(path, prefix) })
		if got, err := t.store.Paths(t.ctx, prefix); err != nil || !slices.Equal(got, want) {
			t.Errorf("under %q: %q, %v; want %q", prefix, got, err, want)
		}
	}
}

func noPaths(t *trial) {
	t.commit(put("a", "1", 0))
	for _, path := range []string{"/", "/a", "a//b", "..", "a/../b", "./a", "a/.b", "a b", "a?x=1", "a#b", "a%2Fb", "ä", "a\x00", "\xff", strings.Repeat("a", document.MostPath+1)} {
		_, commitErr := t.store.Commit(t.ctx, put(path, "", 0))
		_, _, getErr := t.store.Get(t.ctx, path)
		_, _, waitErr := t.store.Wait(t.ctx, path, 7)
		_, pathsErr := t.store.Paths(t.ctx, path)
		for _, err := range []error{commitErr, getErr, waitErr, pathsErr} {
			if err == nil || errors.Is(err, document.ErrConflict) || !strings.Contains(err.Error(), "the document path") {
				t.Errorf("%.40q: %v, %v, %v, %v; want all refused for the path", path, commitErr, getErr, waitErr, pathsErr)
				break
			}
		}
	}
	for _, path := range []string{"", "a/"} { // fit to begin a path with
		_, _, err := t.store.Get(t.ctx, path)
		if _, commitErr := t.store.Commit(t.ctx, put(path, "", 0)); err == nil || commitErr == nil {
			t.Errorf("%q: %v, %v; want it refused", path, err, commitErr)
		}
	}
}

func limits(t *trial) {
	long := strings.Repeat("p", document.MostPath-2)
	var most []document.Change
	for i := range document.MostChanges {
		most = append(most, put(fmt.Sprintf("%s%02d", long, i), strings.Repeat("\xff", document.MostBytes/document.MostChanges), 0))
	}
	version := t.commit(most...)
	t.holds(most[0].Path, string(most[0].Value), version)
	t.holds(most[document.MostChanges-1].Path, string(most[0].Value), version)
	large := t.commit(put("large", strings.Repeat("l", document.MostBytes), 0))
	t.holds("large", strings.Repeat("l", document.MostBytes), large)
	var gone []document.Change
	for _, change := range most {
		gone = append(gone, remove(change.Path, version))
	}
	for _, refused := range [][]document.Change{
		{},
		{put("a", "", 0), put("b", "", 0), put("a", "", 0)},
		{put("a", strings.Repeat("a", document.MostBytes), 0), put("b", "b", 0)},
		{remove("a", 0)},
		append(slices.Clone(gone), put("a", "", 0)),
	} {
		_, err := t.store.Commit(t.ctx, refused...)
		if want := document.Check(refused); err == nil || want == nil || err.Error() != want.Error() {
			t.Errorf("%d changes: %v; want %v", len(refused), err, want)
		}
	}
	t.commit(gone...)
	if left, err := t.store.Paths(t.ctx, ""); err != nil || !slices.Equal(left, []string{"large"}) {
		t.Errorf("left are %q, %v", left, err)
	}
}
