package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"lightcone/internal/document"
)

// asModel makes random commits, mostly at the versions that documents have, and
// compares every answer with a map's.
func asModel(t *trial) {
	run := 0
	rapid.Check(t.T, func(r *rapid.T) {
		run++
		folder := fmt.Sprintf("run%d/", run) // of its own: rapid runs it again and again, on one store
		m := &model{r: r, ctx: t.ctx, store: t.store, folder: folder, documents: make(map[string]document.Document)}
		for range rapid.IntRange(1, 8).Draw(r, "commits") {
			m.commit()
		}
		m.compare()
	})
}

// model is what a store must hold below a folder.
type model struct {
	r         *rapid.T
	ctx       context.Context
	store     document.Store
	folder    string
	documents map[string]document.Document
	last      uint64 // version
}

// commit makes one drawn commit in the store and in the model.
func (m *model) commit() {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "a/b", "c"}), 1, 3, rapid.ID).Draw(m.r, "paths")
	var changes []document.Change
	for _, name := range names {
		is := m.documents[m.folder+name].Version
		changes = append(changes, document.Change{
			Path:    m.folder + name,
			Version: rapid.SampledFrom([]uint64{is, is, is, is, is, 0, m.last, m.last + 1}).Draw(m.r, "version"),
			Value:   rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(m.r, "value"),
		})
		at := &changes[len(changes)-1]
		at.Delete = at.Version > 0 && rapid.IntRange(0, 3).Draw(m.r, "delete") == 0
	}
	stale := slices.ContainsFunc(changes, func(c document.Change) bool { return m.documents[c.Path].Version != c.Version })
	version, err := m.store.Commit(m.ctx, changes...)
	if stale != errors.Is(err, document.ErrConflict) || !stale && err != nil {
		m.r.Fatalf("commit %+v: %v; stale: %v", changes, err, stale)
	}
	if stale {
		return
	}
	for _, change := range changes {
		if delete(m.documents, change.Path); !change.Delete {
			m.documents[change.Path] = document.Document{Path: change.Path, Value: change.Value, Version: version}
		}
	}
	deleted := !slices.ContainsFunc(changes, func(c document.Change) bool { return !c.Delete })
	if deleted != (version == 0) || !deleted && version <= m.last {
		m.r.Fatalf("commit %+v: version %d after %d", changes, version, m.last)
	}
	m.last = max(m.last, version)
}

func (m *model) compare() {
	want := slices.Sorted(maps.Keys(m.documents))
	got, err := m.store.Paths(m.ctx, m.folder)
	if err != nil || !slices.Equal(got, want) {
		m.r.Fatalf("paths %q, %v; want %q", got, err, want)
	}
	below := slices.DeleteFunc(want, func(path string) bool { return !strings.HasPrefix(path, m.folder+"a") })
	if got, err := m.store.Paths(m.ctx, m.folder+"a"); err != nil || !slices.Equal(got, below) {
		m.r.Fatalf("paths from a on: %q, %v; want %q", got, err, below)
	}
	for _, name := range []string{"a", "b", "a/b", "c"} {
		is := m.documents[m.folder+name]
		d, found, err := m.store.Get(m.ctx, m.folder+name)
		if err != nil || found != (is.Version > 0) || d.Version != is.Version || string(d.Value) != string(is.Value) {
			m.r.Fatalf("%s: %+v, %v; want %+v", name, d, err, is)
		}
	}
}
