package edge

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/retry"
)

// trailSays takes in that a document was changed, as the audit trail has it.
func (d *Directory) trailSays(ctx context.Context, path string, version uint64) {
	d.metrics.heard.WithLabelValues("audit").Inc()
	d.wantCorrected(path, correction{version: version}) // whoever announced it may have failed to
	if !d.changed(path, version) {
		return
	}
	select { // wait for room: that it was changed is certain
	case d.refresh <- path:
	case <-ctx.Done():
	}
}

// announced takes in a changed document as it was published.
func (d *Directory) announced(ctx context.Context, k kept) {
	d.metrics.heard.WithLabelValues("redis").Inc()
	if !d.changed(k.Path, k.Version) {
		return
	}
	s := seen{
		answer: answer{reply: found, version: k.Version}, value: k.Document,
		confirmed: d.clock.now() - int64(k.age(d.clock.wall(), d.config.FreshFor)),
	}
	if len(k.Document) > 0 && d.putSeen(k.Path, s) {
		return
	}
	select { // it was deleted, or cannot be used: the stores may know better
	case d.refresh <- k.Path:
	case <-ctx.Done():
	}
}

// changed notes a change, and is true when the document is held as it was before.
func (d *Directory) changed(path string, version uint64) bool {
	if !d.changes.note(path, version, d.clock.now()) {
		d.trail.missed(d.clock.now())
	}
	if id, ok := strings.CutPrefix(path, identity.KeyPath("")); ok && identity.KeyID(id).Validate() == nil {
		key := keyIDOf(identity.KeyID(id))
		if d.filter.add(key) {
			d.wantFilter()
		}
		return d.keys.changed(key, version)
	}
	if id, ok := strings.CutPrefix(path, identity.TenantPath("")); ok {
		return d.tenants.changed(lightcone.TenantID(id), version)
	}
	return false
}

func (d *Directory) putSeen(path string, s seen) bool {
	if id, ok := strings.CutPrefix(path, identity.KeyPath("")); ok {
		return d.keys.take(keyIDOf(identity.KeyID(id)), s)
	}
	return d.tenants.take(lightcone.TenantID(strings.TrimPrefix(path, identity.TenantPath(""))), s)
}

// subscribed takes in that a subscription has begun. If the audit trail is known
// to its end then nothing was missed; else what is held may lack what was published
// meanwhile.
func (d *Directory) subscribed() {
	if now := d.clock.now(); !d.trail.isRead(now) {
		d.trail.doubtedBefore.Store(now)
		d.metrics.gaps.Inc()
	}
}

func (d *Directory) trailHasGap() {
	d.metrics.gaps.Inc()
	d.wantFilter()
}

func (d *Directory) wantFilter() {
	select {
	case d.rebuild <- struct{}{}:
	default: // somebody has asked already
	}
}

// keepFilter makes the filter, as soon as the origin can list the keys, and again
// now and then: what a filter has taken in it never forgets.
func (d *Directory) keepFilter(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		if err := d.filter.rebuild(ctx, d.config.Origin); err != nil {
			failures++
			d.filter.outage.report(err)
			_ = retry.Pause(ctx, retry.BackOff(failures, time.Second, rebuildTimeout, rand.Float64())) // the loop asks ctx
			continue
		}
		failures = 0
		d.filter.outage.report(nil)
		next := time.NewTimer(rebuildEvery - time.Duration(rand.Int64N(int64(rebuildEvery/5))))
		select {
		case <-ctx.Done():
		case <-next.C:
		case <-d.rebuild:
			_ = retry.Pause(ctx, time.Duration(rand.Int64N(int64(time.Second)))) // not all gateways at once
		}
		next.Stop()
	}
}
