package quarantine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"lightcone"
	"lightcone/internal/document"
	"lightcone/internal/retry"
)

const (
	firstPause   = 50 * time.Millisecond // after the store's first failure
	longestPause = 5 * time.Second       // after many

	mostTries = 8  // of one Commit that others keep being faster than
	sweepSome = 64 // documents of each kind that one sweep looks at

	clockSkew = time.Minute // an expired document is left alone for so long: see the package's comment
)

// ErrNotQuarantined is Lift's when there is nothing to lift.
var ErrNotQuarantined = errors.New("it is not in quarantine; GET /v1/quarantine lists what is")

// Run shares strikes with the other gateways, and learns from them, until ctx ends.
// It returns when nothing of it runs any more. What has not been shared then is lost.
func (b *Book) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { b.learn(ctx) })
	running.Go(func() { b.tell(ctx) })
	running.Wait()
}

// Lift forgets an input, on all gateways: within a second on those that reach
// the store. Its error is ErrNotQuarantined, or the store's: then nobody knows,
// and it may be tried again.
func (b *Book) Lift(ctx context.Context, digest lightcone.Digest) error {
	err := b.commit(ctx, digest, func(s stored) ([]document.Change, error) {
		b.mu.Lock()
		_, here := b.ledger.held[digest]
		b.mu.Unlock()
		if s.heldVersion == 0 && !here {
			return nil, ErrNotQuarantined
		}
		return lift(digest, s), nil
	})
	if err != nil {
		return fmt.Errorf("lift the quarantine of %v: %w", digest, err)
	}
	b.change(func(l *ledger) { l.lift(digest) })
	b.logger.Info("quarantine lifted", "digest", digest)
	return nil
}

// tell is the goroutine that writes to the store.
func (b *Book) tell(ctx context.Context) {
	sweep := time.NewTicker(b.config.SweepEvery)
	defer sweep.Stop()
	failures := 0
	for ctx.Err() == nil {
		b.mu.Lock()
		mine, more := b.ledger.next()
		b.mu.Unlock()
		if more {
			failures = b.outcome(ctx, "sharing a strike", failures, b.share(ctx, mine))
			continue
		}
		select {
		case <-b.wake:
		case <-sweep.C:
			if err := b.sweep(ctx); err != nil {
				b.logger.Debug("sweeping the quarantine failed; the next sweep goes on", "error", err)
			}
		case <-ctx.Done():
		}
	}
}

// outcome counts failures in a row, names the first, and pauses after each.
func (b *Book) outcome(ctx context.Context, doing string, failures int, err error) int {
	if err == nil {
		if failures > 0 {
			b.logger.Info("the quarantine's store is back", "doing", doing, "failures", failures)
		}
		return 0
	}
	if ctx.Err() != nil {
		return failures
	}
	if failures == 0 {
		b.logger.Warn("the quarantine's store is away; this process counts for itself meanwhile", "doing", doing, "error", err)
	}
	_ = retry.Pause(ctx, retry.BackOff(failures+1, firstPause, longestPause, rand.Float64())) // the caller looks at ctx
	return failures + 1
}

// share writes what this gateway has seen of an input. What comes of it, learn hears
// from the head like every other gateway: so a lift in between is not overtaken.
func (b *Book) share(ctx context.Context, mine Entry) error {
	err := b.commit(ctx, mine.Digest, func(s stored) ([]document.Change, error) {
		return share(time.Now(), mine, s), nil
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.ledger.postpone(mine.Digest)
	} else {
		b.ledger.shared(mine)
	}
	return err
}

// commit reads what the store has about an input, writes what decide says, and
// begins again when somebody else was faster.
func (b *Book) commit(ctx context.Context, digest lightcone.Digest, decide func(stored) ([]document.Change, error)) error {
	for tries := 1; ; tries++ {
		s, err := b.look(ctx, digest)
		if err != nil {
			return err
		}
		changes, err := decide(s)
		if err != nil || len(changes) == 0 {
			return err
		}
		err = b.write(ctx, changes...)
		if !errors.Is(err, document.ErrConflict) || tries == mostTries {
			return err
		}
		if err := retry.Pause(ctx, retry.BackOff(tries, firstPause, longestPause, rand.Float64())); err != nil {
			return err
		}
	}
}

// look reads what the store has about an input.
func (b *Book) look(ctx context.Context, digest lightcone.Digest) (s stored, err error) {
	if s.strike, s.strikeVersion, err = b.entry(ctx, strikesPath, digest); err != nil {
		return s, err
	}
	if s.quarantined, s.heldVersion, err = b.entry(ctx, quarantinedPath, digest); err != nil {
		return s, err
	}
	d, found, err := b.read(ctx, headPath)
	if err != nil || !found {
		return s, err
	}
	s.headVersion = d.Version
	s.head = b.headOf(d)
	return s, nil
}

// entry reads an input's document at one of the two paths. The entry is nil, and the
// version is not 0, when it is there and cannot be read.
func (b *Book) entry(ctx context.Context, prefix string, digest lightcone.Digest) (*Entry, uint64, error) {
	d, found, err := b.read(ctx, prefix+digest.String())
	if err != nil || !found {
		return nil, 0, err
	}
	e, err := decode(digest, d.Value)
	if err != nil {
		b.unreadable(d.Path, d.Version, err)
		return nil, d.Version, nil
	}
	return &e, d.Version, nil
}

// headOf is the head in a document; an empty one if it cannot be read.
func (b *Book) headOf(d document.Document) head {
	h, err := decodeHead(d.Value)
	if err != nil {
		b.unreadable(d.Path, d.Version, err)
	}
	return h
}

// mostBroken bounds the memory of documents that have been named.
const mostBroken = 1024

// unreadable names a document that cannot be read, once for each version of it.
func (b *Book) unreadable(path string, version uint64, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seen, named := b.broken[path]; named && seen == version {
		return
	}
	if len(b.broken) >= mostBroken {
		clear(b.broken)
	}
	b.broken[path] = version
	b.metrics.unreadable.Inc()
	b.logger.Error("a document of the quarantine cannot be read and is passed over; delete it", "path", path, "version", version, "error", why)
}

// digestOf is the digest in a path below prefix.
func (b *Book) digestOf(prefix, path string) (digest lightcone.Digest, ok bool) {
	if err := digest.UnmarshalText([]byte(strings.TrimPrefix(path, prefix))); err != nil {
		b.unreadable(path, 0, err)
		return digest, false
	}
	return digest, true
}

func (b *Book) read(ctx context.Context, path string) (document.Document, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.StoreTimeout)
	defer cancel()
	return b.store.Get(ctx, path)
}

func (b *Book) paths(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.StoreTimeout)
	defer cancel()
	return b.store.Paths(ctx, prefix)
}

func (b *Book) write(ctx context.Context, changes ...document.Change) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.StoreTimeout)
	defer cancel()
	_, err := b.store.Commit(ctx, changes...)
	return err
}
