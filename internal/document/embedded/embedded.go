// Package embedded keeps documents in one file, for a Lightcone that runs on one
// machine: a document.Store over bbolt.
//
// Invariants: a Commit has been synced to the disk when it returns, and a process
// that is killed in the middle of one leaves it whole or not there; versions count up
// in the file, are never used twice, and outlive deletions; one process has the file
// at a time.
//
// It does not replicate or expire anything, and the file does not shrink: what is
// deleted leaves room for what comes.
package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"lightcone/internal/document"
)

// lockBound is how long Open waits for the file: as long as a Lightcone that has
// been told to stop may need to let go of it.
const lockBound = 2 * time.Second

// bucket holds every document, as its version in versionBytes, big-endian, and
// then its value. Its sequence is the version that was given last.
var bucket = []byte("documents")

const versionBytes = 8

var errClosed = errors.New("the store of documents is closed")

// Store keeps documents in a file. Make it with Open; any number of goroutines may
// use it. Reads see every Commit that has returned.
type Store struct {
	db      *bbolt.DB
	writing chan struct{} // holds one token: who has it commits
	closed  chan struct{}
	close   func() error

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, by every commit
}

// Open opens the file, or makes it, for its owner alone. It waits up to 2 s for
// another Lightcone that holds it. Close the store.
func Open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockBound, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open the documents in %s: another Lightcone holds the file (waited %v): stop that one, or use another file", path, lockBound)
	}
	if err != nil {
		return nil, fmt.Errorf("open the documents in %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err = errors.Join(err, syncFolder(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the documents in %s: %w", path, err), db.Close())
	}
	s := &Store{db: db, writing: make(chan struct{}, 1), closed: make(chan struct{}), changed: make(chan struct{})}
	s.close = sync.OnceValue(func() error {
		close(s.closed)
		return db.Close()
	})
	return s, nil
}

// syncFolder makes the file's name as durable as its content.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Close ends every Wait with an error, waits for commits under way and lets go of
// the file. Further calls answer the same; other methods then fail.
func (s *Store) Close() error { return s.close() }

// Get implements document.Store.
func (s *Store) Get(ctx context.Context, path string) (d document.Document, found bool, err error) {
	if err := errors.Join(document.CheckPath(path), ctx.Err()); err != nil {
		return document.Document{}, false, fmt.Errorf("get a document: %w", err)
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		d, found = read(tx, path)
		return nil
	})
	if err != nil {
		return document.Document{}, false, fmt.Errorf("get the document %s: %w", path, plain(err))
	}
	return d, found, nil
}

// read copies a document out of the file, which is mapped only while tx is open.
func read(tx *bbolt.Tx, path string) (document.Document, bool) {
	stored := tx.Bucket(bucket).Get([]byte(path))
	if stored == nil {
		return document.Document{}, false
	}
	return document.Document{
		Path: path, Version: binary.BigEndian.Uint64(stored), Value: bytes.Clone(stored[versionBytes:]),
	}, true
}

// Paths implements document.Store.
func (s *Store) Paths(ctx context.Context, prefix string) (paths []string, err error) {
	if err := errors.Join(document.CheckPrefix(prefix), ctx.Err()); err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(bucket).Cursor() // in the order of bytes
		for path, _ := cursor.Seek([]byte(prefix)); path != nil && bytes.HasPrefix(path, []byte(prefix)); path, _ = cursor.Next() {
			paths = append(paths, string(path))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the documents under %q: %w", prefix, plain(err))
	}
	return paths, nil
}

// Commit implements document.Store. ctx bounds the wait for commits before this
// one; once it has begun, it ends with the disk.
func (s *Store) Commit(ctx context.Context, changes ...document.Change) (version uint64, err error) {
	if err := document.Check(changes); err != nil {
		return 0, err
	}
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("commit %d documents, %s first: %w", len(changes), changes[0].Path, err)
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		version, err = apply(tx.Bucket(bucket), changes)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("commit %d documents, %s first: %w", len(changes), changes[0].Path, plain(err))
	}
	s.wake()
	return version, nil
}

// apply makes the changes in an open transaction, which goes back by itself when
// one is refused.
func apply(documents *bbolt.Bucket, changes []document.Change) (uint64, error) {
	next, err := documents.NextSequence()
	if err != nil {
		return 0, err
	}
	version := uint64(0)
	for _, change := range changes {
		path, is := []byte(change.Path), uint64(0)
		if stored := documents.Get(path); stored != nil {
			is = binary.BigEndian.Uint64(stored)
		}
		if is != change.Version {
			return 0, fmt.Errorf("%s is at version %d, not %d: %w", change.Path, is, change.Version, document.ErrConflict)
		}
		if change.Delete {
			err = documents.Delete(path)
		} else {
			version = next
			err = documents.Put(path, append(binary.BigEndian.AppendUint64(nil, next), change.Value...))
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", change.Path, err)
		}
	}
	return version, nil
}

func (s *Store) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// nextChange is closed by the first commit after this call.
func (s *Store) nextChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Wait implements document.Store. It costs a read for each commit meanwhile, of
// whatever document.
func (s *Store) Wait(ctx context.Context, path string, version uint64) (document.Document, bool, error) {
	for {
		changed := s.nextChange() // before the read, so that no commit falls between
		d, found, err := s.Get(ctx, path)
		if err != nil || d.Version != version { // a document that is not there has 0
			return d, found, err
		}
		select {
		case <-changed:
		case <-s.closed:
			return document.Document{}, false, fmt.Errorf("wait for the document %s: %w", path, errClosed)
		case <-ctx.Done():
			return document.Document{}, false, fmt.Errorf("wait for the document %s: %w", path, ctx.Err())
		}
	}
}

// plain is bbolt's error in the words of this package.
func plain(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return errClosed
	}
	return err
}
