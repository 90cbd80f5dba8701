// Package document is what Lightcone's parts expect of a small, consistent store
// of documents: tenants, keys, the audit trail, what is in quarantine. A region
// keeps them in Consul's KV, one machine in a file; who uses them cannot tell.
//
// Invariants: a document's version changes whenever the document does, and is never
// used again for it; a Commit happens whole or not at all, and never on top of
// a version that its author has not seen.
//
// It stores nothing itself, knows nothing of what is in a document, and is not for
// what is written on every call.
package document

import (
	"context"
	"errors"
)

// Document is one document as it was at one version.
type Document struct {
	Path    string // slash-separated
	Value   []byte
	Version uint64 // above 0
}

// Change is one document's part of a Commit.
type Change struct {
	Path    string
	Value   []byte // ignored when Delete
	Version uint64 // that the document must still have; 0 = there must be none
	Delete  bool
}

const (
	MostChanges = 32        // in one Commit
	MostBytes   = 256 << 10 // of all values in one Commit
)

// ErrConflict is Commit's when a document is not at the version that its change
// names: somebody else was first. Nothing was changed.
var ErrConflict = errors.New("somebody else has changed the document since it was read")

// Store keeps documents. Any number of goroutines may use it. Its reads may be said
// to lag behind its writes where it is made; they never mix versions.
type Store interface {
	// Get reads a document; found is false, without an error, when there is none.
	Get(ctx context.Context, path string) (d Document, found bool, err error)
	// Paths lists the paths that begin with prefix, sorted.
	Paths(ctx context.Context, prefix string) ([]string, error)
	// Commit makes all changes or none, and returns the version that the documents
	// then have: one for all, 0 when all are deleted. What Check refuses is not tried.
	// ErrConflict is in its error's chain if one of them was at another
	// version. After any other error nobody knows: read them again.
	Commit(ctx context.Context, changes ...Change) (version uint64, err error)
	// Wait returns the document once its version is another than the given one (0 =
	// it is not there), at once if it is already. found is false when it is then gone.
	// It blocks until then; its error is ctx's, or says that nobody can tell now.
	Wait(ctx context.Context, path string, version uint64) (d Document, found bool, err error)
}
