package quarantine

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/document"
	"lightcone/internal/problem"
)

// Book is one process's book of deadly inputs: a gateway.Quarantine. Make one with
// New and Run it; without Run it counts for its own process only. Its methods may be
// called from any goroutine.
type Book struct {
	config  Config
	store   document.Store
	logger  *slog.Logger
	metrics *metrics

	index  atomic.Pointer[index] // what calls are checked against; replaced, never changed
	wake   chan struct{}         // room for one message: there is something to share
	caught atomic.Bool           // all that was in the store has been read once

	mu     sync.Mutex
	ledger *ledger
	broken map[string]uint64 // versions of the documents that have been named as unreadable
}

// index finds an input in three steps, each dearer than the one before: almost every
// call is cleared by the first, the length of its body.
type index struct {
	lengths map[int]struct{}
	prints  map[fingerprint]struct{}
	inputs  map[lightcone.Digest]time.Time // when they are free again
}

// fingerprint is what is known of an input without reading its body.
type fingerprint struct {
	tenant    lightcone.TenantID
	function  lightcone.FunctionName
	bodyBytes int
	query     lightcone.Digest
}

// New makes an empty book over a store, in which it uses the paths below quarantine/, and
// registers its metrics. The store's reads may lag behind, but fresh ones find out sooner.
func New(config Config, store document.Store, registerer prometheus.Registerer, logger *slog.Logger) (*Book, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	b := &Book{
		config: config,
		store:  store,
		logger: logger,
		wake:   make(chan struct{}, 1),
		ledger: newLedger(config, time.Now()),
		broken: make(map[string]uint64),
	}
	b.index.Store(&index{})
	var err error
	if b.metrics, err = newMetrics(registerer, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Quarantined is nil when the call's input may be run, else a problem of the kind
// Quarantined. Only of an input whose tenant, function, length and query are those of
// one in quarantine it reads the body.
func (b *Book) Quarantined(call *functions.Call) *problem.Error {
	known := b.index.Load()
	if _, found := known.lengths[len(call.Body)]; !found {
		return nil
	}
	if _, found := known.prints[fingerprint{call.Tenant, call.Function, len(call.Body), lightcone.DigestOf(call.Query)}]; !found {
		return nil
	}
	digest := DigestOf(call)
	free, found := known.inputs[digest]
	if !found || !time.Now().Before(free) {
		return nil
	}
	b.metrics.refused.Inc()
	return problem.New(problem.Quarantined, "This input (%v) has killed %d processes of the function %q, so it is not run before %s; change the input or its parameters, or ask the operator to lift its quarantine.",
		digest, deadlyStrikes, string(call.Function), free.UTC().Format(time.RFC3339))
}

// Strike counts a call whose slot died of it: for this gateway at once, for the
// others as soon as Run has told them. It digests the body, and waits for nobody.
func (b *Book) Strike(call *functions.Call) {
	now := time.Now()
	e := strikeOf(call, now, b.config.Expiry)
	b.mu.Lock()
	said, shared := b.ledger.strike(now, e)
	if said == quarantined {
		b.reindex()
	}
	b.mu.Unlock()
	b.metrics.strikes.Inc()
	if !shared {
		b.metrics.unshared.Inc()
	}
	if said == quarantined {
		b.logger.Warn("input quarantined", "digest", e.Digest, "function", e.Function, "tenant", e.Tenant, "call", call.ID, "until", e.Expires)
	}
	select {
	case b.wake <- struct{}{}:
	default: // it has been told already
	}
}

// Ready is nil once Run has read what was in quarantine when it began. A book that is
// not ready refuses what its own process has seen.
func (b *Book) Ready() error {
	if !b.caught.Load() {
		return errors.New("quarantine: the store has not been read yet")
	}
	return nil
}

// List is what is in quarantine, the newest first. It asks nobody.
func (b *Book) List() []Entry {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Entry, 0, len(b.ledger.held)) // [] in JSON, not null
	for _, h := range b.ledger.held {
		if !h.expired(now) {
			all = append(all, h.Entry)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Digest.String(), b.Digest.String()))
	})
	return all
}

// change changes the ledger, and what calls are checked against.
func (b *Book) change(what func(*ledger)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	what(b.ledger)
	b.reindex()
}

// reindex replaces what calls are checked against. The book is locked.
func (b *Book) reindex() {
	fresh := &index{
		lengths: make(map[int]struct{}),
		prints:  make(map[fingerprint]struct{}),
		inputs:  make(map[lightcone.Digest]time.Time, len(b.ledger.held)),
	}
	for digest, h := range b.ledger.held {
		fresh.lengths[h.BodyBytes] = struct{}{}
		fresh.prints[fingerprint{h.Tenant, h.Function, h.BodyBytes, h.Query}] = struct{}{}
		fresh.inputs[digest] = h.Expires
	}
	b.index.Store(fresh)
}

// size is how many inputs are in quarantine.
func (b *Book) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ledger.held)
}
