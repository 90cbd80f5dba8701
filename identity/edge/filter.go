package edge

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/bits-and-blooms/bloom/v3"

	"lightcone/identity"
	"lightcone/internal/document"
)

// keyID is an identity.KeyID without its string header.
type keyID [16]byte

func keyIDOf(id identity.KeyID) (k keyID) {
	copy(k[:], id)
	return k
}

// filter knows which keys may exist, so that those nobody issued cost no read. It
// errs on one side: a key that exists and was heard of always passes.
type filter struct {
	outage     *outage
	mu         sync.RWMutex
	bloom      *bloom.BloomFilter // nil until the first rebuild
	rebuilding bool
	added      []keyID // since the rebuild that is under way began
	holds      int     // keys in bloom
	planned    int     // keys that bloom is made for
}

const (
	// falsePositives of the filter: of a million random keys, one is looked for.
	// It takes 29 bits a key (Bloom, "Space/Time Trade-offs in Hash Coding with
	// Allowable Errors", CACM 1970: ln(1/p) / (ln 2)^2).
	falsePositives = 1e-6
	leastPlanned   = 20_000 // keys
	rebuildEvery   = time.Hour
	rebuildTimeout = 30 * time.Second
)

// may says whether a key with this id may exist. Before the first rebuild loaded
// is false and nobody knows.
func (f *filter) may(id keyID) (exists, loaded bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.bloom == nil {
		return false, false
	}
	return f.bloom.Test(id[:]), true
}

// add makes the filter know a key. It is true when the filter has become too full
// to be of use, and wants to be rebuilt.
func (f *filter) add(id keyID) (full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rebuilding {
		f.added = append(f.added, id)
	}
	if f.bloom == nil {
		return false
	}
	if !f.bloom.TestAndAdd(id[:]) {
		f.holds++
	}
	return f.holds > f.planned
}

// rebuild replaces the filter by one of all keys that the store lists.
func (f *filter) rebuild(ctx context.Context, store document.Store) error {
	f.note(true)
	defer f.note(false)
	ctx, cancel := context.WithTimeout(ctx, rebuildTimeout)
	defer cancel()
	paths, err := store.Paths(ctx, identity.KeyPath(""))
	if err != nil {
		return fmt.Errorf("list all keys, for the filter: %w", err)
	}
	planned := max(2*len(paths), leastPlanned)
	made := bloom.NewWithEstimates(uint(planned), falsePositives)
	for _, path := range paths {
		id := keyIDOf(identity.KeyID(strings.TrimPrefix(path, identity.KeyPath(""))))
		made.Add(id[:])
	}
	f.mu.Lock()
	defer f.mu.Unlock()          // before note is called
	for _, id := range f.added { // after the list was made, perhaps
		made.Add(id[:])
	}
	f.bloom, f.holds, f.planned = made, len(paths)+len(f.added), planned
	return nil
}

// note begins and ends noting what is added while the filter is made anew.
func (f *filter) note(rebuilding bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rebuilding, f.added = rebuilding, nil
}
