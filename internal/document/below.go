package document

import (
	"context"
	"strings"
)

// Below is the part of store whose paths begin with prefix, as a store of its own:
// its paths are told and given without the prefix.
func Below(store Store, prefix string) Store { return below{store, prefix} }

type below struct {
	store  Store
	prefix string
}

func (b below) Get(ctx context.Context, path string) (Document, bool, error) {
	d, found, err := b.store.Get(ctx, b.prefix+path)
	return b.inside(d), found, err
}

func (b below) Paths(ctx context.Context, prefix string) ([]string, error) {
	paths, err := b.store.Paths(ctx, b.prefix+prefix)
	for i := range paths {
		paths[i] = strings.TrimPrefix(paths[i], b.prefix)
	}
	return paths, err
}

func (b below) Commit(ctx context.Context, changes ...Change) (uint64, error) {
	whole := make([]Change, 0, len(changes))
	for _, change := range changes {
		change.Path = b.prefix + change.Path
		whole = append(whole, change)
	}
	return b.store.Commit(ctx, whole...)
}

func (b below) Wait(ctx context.Context, path string, version uint64) (Document, bool, error) {
	d, found, err := b.store.Wait(ctx, b.prefix+path, version)
	return b.inside(d), found, err
}

func (b below) inside(d Document) Document {
	d.Path = strings.TrimPrefix(d.Path, b.prefix)
	return d
}
