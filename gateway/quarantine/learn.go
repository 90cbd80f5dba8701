package quarantine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"lightcone/internal/document"
)

// position is how far a book has followed the store.
type position struct {
	began    bool   // everything has been read once
	sequence uint64 // of the head that was seen last
	version  uint64 // and its document's
}

// learn is the goroutine that hears of changes from the store.
func (b *Book) learn(ctx context.Context) {
	var at position
	for failures := 0; ctx.Err() == nil; {
		next, err := b.follow(ctx, at)
		if err == nil {
			at = next
		}
		failures = b.outcome(ctx, "reading what is in quarantine", failures, err)
	}
}

// follow waits for the head to change, takes over what has changed, and says how
// far it is then.
func (b *Book) follow(ctx context.Context, at position) (position, error) {
	if !at.began {
		return b.readAll(ctx)
	}
	d, found, err := b.store.Wait(ctx, headPath, at.version)
	if err != nil {
		return at, err
	}
	if !found { // somebody emptied the store
		return b.readAll(ctx)
	}
	h := b.headOf(d)
	changes, whole := h.since(at.sequence)
	if !whole {
		return b.readAll(ctx)
	}
	b.change(func(l *ledger) { l.apply(time.Now(), changes) })
	return position{true, h.Sequence, d.Version}, nil
}

// readAll takes over everything that is in quarantine.
func (b *Book) readAll(ctx context.Context) (position, error) {
	// The head comes first: what changes while the rest is read is in its successors.
	d, found, err := b.read(ctx, headPath)
	if err != nil {
		return position{}, err
	}
	var h head
	if found {
		h = b.headOf(d)
	}
	paths, err := b.paths(ctx, quarantinedPath)
	if err != nil {
		return position{}, err
	}
	var all []Entry
	for _, path := range some(paths, b.config.MostInputs, rand.Float64()) {
		digest, ok := b.digestOf(quarantinedPath, path)
		if !ok {
			continue
		}
		e, _, err := b.entry(ctx, quarantinedPath, digest)
		if err != nil {
			return position{}, err
		}
		if e != nil {
			all = append(all, *e)
		}
	}
	b.change(func(l *ledger) {
		l.replace(time.Now(), all)
		l.apply(time.Now(), h.Changes) // for a store whose reads lag behind its head
	})
	b.caught.Store(true)
	return position{true, h.Sequence, d.Version}, nil
}

// sweep forgets what has expired: all of it here, and some of it in the store.
func (b *Book) sweep(ctx context.Context) error {
	b.mu.Lock()
	if b.ledger.expire(time.Now()) {
		b.reindex()
	}
	b.mu.Unlock()
	var failures []error
	for _, prefix := range []string{strikesPath, quarantinedPath} {
		paths, err := b.paths(ctx, prefix)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		for _, path := range some(paths, sweepSome, rand.Float64()) {
			if digest, ok := b.digestOf(prefix, path); ok {
				e, version, err := b.entry(ctx, prefix, digest)
				if err == nil && e != nil && e.expired(time.Now().Add(-clockSkew)) {
					err = b.write(ctx, document.Change{Path: path, Version: version, Delete: true})
				}
				if err != nil && !errors.Is(err, document.ErrConflict) { // another gateway sweeps, too
					failures = append(failures, err)
				}
			}
		}
	}
	return errors.Join(failures...)
}
