package edge

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"lightcone/internal/document"
	"lightcone/internal/retry"
)

// entry is a document in memory: what is needed of it, at one version.
type entry[V any] struct {
	value     V
	version   uint64
	confirmed atomic.Int64 // instant
	retryAt   atomic.Int64 // instant before which no refresh is asked for
	doubted   atomic.Bool  // a change was heard of that this does not have
	dropped   atomic.Bool  // it is not held any more: something has taken its place, or nothing
	jitter    uint8
	tenant    atomic.Pointer[entry[tenantFacts]] // of a key: its tenant's, as last found
}

// tier is the memory for one kind of document.
type tier[K comparable, V any] struct {
	path   func(K) string
	decode func(K, []byte) (V, error)
	admit  func(K) error // says nil, errUnknown or errCannotTell before stores are asked for K

	held    *otter.Cache[K, *entry[V]]
	unknown *otter.Cache[K, instant] // apart, so that what is not there cannot push out what is; until when
	writing sync.Mutex               // held while an entry gives way to another
	flights singleflight.Group

	*sources
	trail   *trail
	loads   chan struct{} // a place for each load at once
	refresh func(path string) bool
}

var (
	errUnknown    = errors.New("there is no such document")
	errCannotTell = errors.New("no store can say whether there is such a document")
)

const (
	lagPause = 30 * time.Millisecond // before a store that lags is asked again

	// The cache hears of one use in so many: telling it costs as much as a hit does,
	// and what is used much is still told apart from what is not.
	usesTold = 32
)

// inline runs the cache's upkeep on the goroutine that caused it, so that it
// belongs to somebody.
func inline(upkeep func()) { upkeep() }

// newHeld is a cache whose entries know when they are in it no more.
func newHeld[K comparable, V any](most int) *otter.Cache[K, *entry[V]] {
	return otter.Must(&otter.Options[K, *entry[V]]{
		MaximumSize: most, Executor: inline,
		OnAtomicDeletion: func(gone otter.DeletionEvent[K, *entry[V]]) { gone.Value.dropped.Store(true) },
	})
}

func newUnknown[K comparable]() *otter.Cache[K, instant] {
	return otter.Must(&otter.Options[K, instant]{MaximumSize: mostUnknown, Executor: inline})
}

// find is the entry for k, from memory if possible, or one of the two errors above.
func (t *tier[K, V]) find(k K, now instant) (*entry[V], error) {
	found, there := t.held.GetEntryQuietly(k)
	if !there {
		return t.load(k)
	}
	return t.use(k, found.Value, now)
}

// findAgain is find for those who keep the entry that they find, in last: that spares
// them the search, which is slow where memory is.
func (t *tier[K, V]) findAgain(k K, last *atomic.Pointer[entry[V]], now instant) (*entry[V], error) {
	if e := last.Load(); e != nil && !e.dropped.Load() {
		return t.use(k, e, now)
	}
	e, err := t.find(k, now)
	if err == nil {
		last.Store(e)
	}
	return e, err
}

// use is the entry, if it may be served, or what the stores have instead.
func (t *tier[K, V]) use(k K, held *entry[V], now instant) (*entry[V], error) {
	if rand.Uint32()%usesTold == 0 {
		t.held.GetIfPresent(k)
	}
	confirmed := held.confirmed.Load()
	switch decide(standing{
		age:     time.Duration(now - confirmed),
		unheard: t.unheard(held, now),
		jitter:  held.jitter,
		doubted: held.doubted.Load() || confirmed < t.trail.doubtedBefore.Load(),
		vouched: t.trail.vouches(confirmed, now),
	}, t.config.FreshFor, t.config.StaleFor) {
	case serve:
		t.metrics.hits.Inc()
		return held, nil
	case serveAndRefresh:
		t.metrics.stale.Inc()
		t.askRefresh(k, held, now)
		return held, nil
	default:
		return t.load(k)
	}
}

// unheard is how long ago an entry was last known to be as the origin has it: when
// it was read, or when the trail was and said nothing of it.
func (t *tier[K, V]) unheard(e *entry[V], now instant) time.Duration {
	known := e.confirmed.Load()
	if !e.doubted.Load() {
		known = t.trail.knownAt(known)
	}
	return time.Duration(now - known)
}

// askRefresh has the entry refreshed, unless somebody has just asked for that.
func (t *tier[K, V]) askRefresh(k K, e *entry[V], now instant) {
	pause := refreshPause
	if e.doubted.Load() {
		pause = doubtedPause
	}
	at := e.retryAt.Load()
	if now < at || !e.retryAt.CompareAndSwap(at, now+int64(pause)) {
		return
	}
	if !t.refresh(t.path(k)) {
		t.metrics.skipped.Inc()
	}
}

// load asks the stores, once for all that ask at the same time.
func (t *tier[K, V]) load(k K) (*entry[V], error) {
	if until, there := t.unknown.GetIfPresent(k); there && t.clock.now() < until {
		t.metrics.unknown.Inc()
		return nil, errUnknown
	}
	if err := t.admit(k); err != nil {
		return nil, err
	}
	t.metrics.misses.Inc()
	loaded, err, _ := t.flights.Do(t.path(k), func() (any, error) {
		select {
		case t.loads <- struct{}{}:
			defer func() { <-t.loads }()
		default:
			return nil, errCannotTell
		}
		ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
		defer cancel()
		return t.fetch(ctx, k, false)
	})
	if err != nil {
		if errors.Is(err, errCannotTell) {
			t.metrics.refused.Inc()
		}
		return nil, err
	}
	return loaded.(*entry[V]), nil
}

// fetch asks Redis and the origin for k until what they say can be used, or ctx ends.
func (t *tier[K, V]) fetch(ctx context.Context, k K, refresh bool) (*entry[V], error) {
	for {
		e, v := t.fetchOnce(ctx, k, refresh)
		switch v {
		case useRedis, useOrigin:
			return e, nil
		case gone:
			return nil, errUnknown
		case cannotTell:
			return nil, errCannotTell
		}
		if retry.Pause(ctx, lagPause) != nil {
			return nil, errCannotTell
		}
	}
}

func (t *tier[K, V]) fetchOnce(ctx context.Context, k K, refresh bool) (*entry[V], verdict) {
	path := t.path(k)
	now := t.clock.now()
	heard, held := t.changes.of(path, now), uint64(0)
	if e, there := t.held.GetIfPresent(k); there && t.unheard(e, now) < t.config.StaleFor {
		held = e.version
	}
	redis, origin := t.read(k, t.fromRedis(ctx, path)), read[V]{}
	v := settle(redis.answer, origin.answer, heard, held, t.config.FreshFor, t.config.StaleFor)
	if v == askOrigin {
		origin = t.read(k, t.fromOrigin(ctx, path, refresh))
		v = settle(redis.answer, origin.answer, heard, held, t.config.FreshFor, t.config.StaleFor)
	}
	switch v {
	case useOrigin:
		older := redis.reply == found && redis.version < origin.version || 0 < held && held < origin.version
		t.remember(ctx, document.Document{Path: path, Value: origin.seen.value, Version: origin.version}, older)
		return t.put(k, origin, v)
	case useRedis:
		return t.put(k, redis, v)
	case gone:
		if redis.reply == found {
			t.remember(ctx, document.Document{Path: path, Version: redis.version}, true)
		}
		pause := unknownFor
		if heard > 0 { // perhaps it was made just now, and the origin lags
			pause = justHeardFor
		}
		if !t.forget(k, heard, pause) {
			return nil, lagging
		}
	}
	return nil, v
}

// read is what a store has, understood.
type read[V any] struct {
	seen
	value V
}

// read understands what a store has; what cannot be understood is no answer.
func (t *tier[K, V]) read(k K, s seen) read[V] {
	if s.reply != found {
		return read[V]{seen: s}
	}
	value, err := t.decode(k, s.value)
	if err != nil {
		t.logger.Error("A document cannot be used; what was known before stays in force.", "path", t.path(k), "version", s.version, "error", err)
		return read[V]{seen: seen{answer: answer{reply: failed}}}
	}
	return read[V]{s, value}
}

// put keeps what a store has, if it is not older than what is held or was heard
// of meanwhile; then it is lagging, else the verdict stays.
func (t *tier[K, V]) put(k K, r read[V], v verdict) (*entry[V], verdict) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if r.version < t.changes.of(t.path(k), t.clock.now()) {
		return nil, lagging
	}
	held, there := t.held.GetIfPresent(k)
	stale := there && t.unheard(held, t.clock.now()) >= t.config.StaleFor
	switch {
	case there && held.version > r.version && !stale:
		return held, v
	case there && held.version == r.version:
		held.confirmed.Store(max(held.confirmed.Load(), r.confirmed))
		held.doubted.Store(false)
		return held, v
	}
	e := &entry[V]{value: r.value, version: r.version, jitter: uint8(rand.Uint32())}
	e.confirmed.Store(r.confirmed)
	t.held.Set(k, e)
	t.unknown.Invalidate(k)
	return e, v
}

// take keeps a document that was published, if it can be used.
func (t *tier[K, V]) take(k K, s seen) bool {
	r := t.read(k, s)
	if r.reply != found {
		return false
	}
	_, v := t.put(k, r, useRedis)
	return v == useRedis
}

// forget drops what is held for k, and has nobody look for it for a while. It is
// false, and does nothing, when a change was heard of since that is newer than heard.
func (t *tier[K, V]) forget(k K, heard uint64, pause time.Duration) bool {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.changes.of(t.path(k), t.clock.now()) > heard {
		return false
	}
	t.held.Invalidate(k)
	t.unknown.Set(k, t.clock.now()+int64(pause))
	return true
}

// changed doubts what is held for k, if it is older than version. It is true when
// a refresh is due.
func (t *tier[K, V]) changed(k K, version uint64) bool {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.unknown.Invalidate(k)
	held, there := t.held.GetIfPresent(k)
	if !there || held.version >= version {
		return false
	}
	held.doubted.Store(true)
	held.retryAt.Store(t.clock.now() + int64(doubtedPause))
	return true
}
