package edge

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/problem"
)

// Directory knows whose keys are whose. Make it with New; Run keeps it current.
// Any number of goroutines may use it.
type Directory struct {
	sources
	keys    tier[keyID, keyFacts]
	tenants tier[lightcone.TenantID, tenantFacts]
	trail   *trail
	filter  filter
	rebuild chan struct{} // asks for a rebuild of the filter
	refresh chan string   // paths

	newcomers  *rate.Limiter // reads for keys that the filter does not know
	unfiltered *rate.Limiter // reads while there is no filter
}

// New makes a Directory that answers at once, and stays current while Run runs.
func New(c Config) (*Directory, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Directory{
		rebuild:    make(chan struct{}, 1),
		refresh:    make(chan string, mostRefreshes),
		newcomers:  rate.NewLimiter(newcomerReads, newcomerReads),
		unfiltered: rate.NewLimiter(unfilteredRead, unfilteredRead),
	}
	d.config, d.clock, d.logger = c, newClock(), c.Logger
	d.origin.outage = newOutage("The origin of keys and tenants", c.Logger, failuresToOpen)
	d.filter.outage = newOutage("The list of keys at the origin", c.Logger, 1)
	d.changes, d.corrections = newChanges(2*c.FreshFor), newCorrections()
	d.budget = rate.NewLimiter(rate.Limit(c.OriginReadsPerSecond), int(c.OriginReadsPerSecond))
	d.trail = newTrail(c.Origin, d.clock, c.FreshFor, c.Logger)
	d.trail.changed, d.trail.gap = d.trailSays, d.trailHasGap

	loads := make(chan struct{}, mostLoads)
	d.keys = tier[keyID, keyFacts]{
		path:   func(id keyID) string { return identity.KeyPath(identity.KeyID(id[:])) },
		decode: decodeKey, admit: d.admitKey,
		held: newHeld[keyID, keyFacts](c.MostKeys), unknown: newUnknown[keyID](),
		sources: &d.sources, trail: d.trail, loads: loads, refresh: d.tryRefresh,
	}
	d.tenants = tier[lightcone.TenantID, tenantFacts]{
		path: identity.TenantPath, decode: decodeTenant, admit: func(lightcone.TenantID) error { return nil },
		held: newHeld[lightcone.TenantID, tenantFacts](c.MostKeys), unknown: newUnknown[lightcone.TenantID](),
		sources: &d.sources, trail: d.trail, loads: loads, refresh: d.tryRefresh,
	}
	d.metrics, err = newMetrics(c.Metrics, d)
	return d, err
}

// Authorize finds whose key was presented, whether it may call function, and what
// its tenant may use. Its errors are a problem.Unauthenticated, the same for each key
// that does not open; a problem.Forbidden; and, when no store can tell, a
// problem.Overloaded. It waits at most loadTimeout for a key that it has not seen,
// and as long for its tenant.
func (d *Directory) Authorize(presented []byte, function lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error) {
	key, facts, quota, err := d.identify(presented)
	if err != nil {
		return "", lightcone.Quota{}, err
	}
	if !facts.scopes.allow(function) {
		return "", lightcone.Quota{}, identity.OutOfScope(key.ID(), function)
	}
	return facts.tenant, quota, nil
}

// Identify finds whose key was presented, whatever its scopes: for what all keys of a
// tenant may do. Its errors, and its waits, are those of Authorize.
func (d *Directory) Identify(presented []byte) (lightcone.TenantID, error) {
	_, facts, _, err := d.identify(presented)
	if err != nil {
		return "", err
	}
	return facts.tenant, nil
}

// identify finds the key that was presented, and its tenant, which is not disabled.
func (d *Directory) identify(presented []byte) (identity.Key, *keyFacts, lightcone.Quota, error) {
	key, err := identity.ParseKey(presented)
	if err != nil {
		return identity.Key{}, nil, lightcone.Quota{}, identity.Unauthenticated()
	}
	now := d.clock.now()
	held, err := d.authenticate(key, now)
	if err != nil {
		return identity.Key{}, nil, lightcone.Quota{}, refusal(err)
	}
	facts := &held.value
	tenant, err := d.tenants.findAgain(facts.tenant, &held.tenant, now)
	if err != nil {
		return identity.Key{}, nil, lightcone.Quota{}, refusal(err)
	}
	if tenant.value.disabled {
		return identity.Key{}, nil, lightcone.Quota{}, problem.New(problem.Forbidden, "The tenant %s is disabled; ask the operator of this Lightcone.", facts.tenant)
	}
	return key, facts, tenant.value.quota, nil
}

// authenticate is what is known of a key that opens.
func (d *Directory) authenticate(key identity.Key, now instant) (*entry[keyFacts], error) {
	digest := key.Digest() // also of an unknown key, which so costs what a wrong secret costs
	held, err := d.keys.find(keyIDOf(key.ID()), now)
	if err != nil {
		return nil, err
	}
	facts := &held.value
	if subtle.ConstantTimeCompare(digest[:], facts.digest[:]) != 1 {
		return nil, errUnknown
	}
	if facts.expires != 0 && d.clock.hasPassed(facts.expires) {
		return nil, errUnknown
	}
	return held, nil
}

func refusal(err error) error {
	if errors.Is(err, errUnknown) {
		return identity.Unauthenticated()
	}
	refused := problem.New(problem.Overloaded, "Lightcone cannot look up this key just now, because the stores of its keys are away or busy; try again in a second.")
	refused.RetryAfter = time.Second
	return refused.Because(err)
}

// admitKey says whether stores are asked for a key that is not in memory.
func (d *Directory) admitKey(id keyID) error {
	exists, loaded := d.filter.may(id)
	switch {
	case exists, !loaded && d.unfiltered.Allow(), loaded && d.newcomers.Allow():
		return nil
	case loaded:
		d.metrics.filtered.Inc()
		return errUnknown
	default:
		d.metrics.refused.Inc()
		return errCannotTell
	}
}

// Run keeps the Directory current until ctx ends, and returns when nothing of it
// runs any more. Call it once.
func (d *Directory) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { d.trail.follow(ctx) })
	running.Go(func() { d.keepFilter(ctx) })
	for range refreshers {
		running.Go(func() { d.keepRefreshing(ctx) })
	}
	if d.config.Redis != nil {
		running.Go(func() { d.config.Redis.subscribe(ctx, d.subscribed, d.announced) })
		running.Go(func() { d.keepCorrecting(ctx) })
	}
	running.Wait()
}

// tryRefresh is false when too many refreshes are waiting.
func (d *Directory) tryRefresh(path string) bool {
	select {
	case d.refresh <- path:
		return true
	default:
		return false
	}
}

func (d *Directory) keepRefreshing(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case path := <-d.refresh:
			d.refreshNow(ctx, path)
		}
	}
}

// refreshNow asks the stores for a document. That they do not say leaves what is
// held as it is, to be served and asked for again.
func (d *Directory) refreshNow(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	if id, ok := strings.CutPrefix(path, identity.KeyPath("")); ok {
		_, _ = d.keys.fetch(ctx, keyIDOf(identity.KeyID(id)), true)
	} else if id, ok := strings.CutPrefix(path, identity.TenantPath("")); ok {
		_, _ = d.tenants.fetch(ctx, lightcone.TenantID(id), true)
	}
}
