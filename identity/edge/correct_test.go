package edge

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/identity"
	"lightcone/internal/testbed"
)

// TestWhatRedisMissedIsCorrected: Redis hangs when keys are revoked, comes back
// with them as they were, and then the origin goes away: who never saw the keys
// must not open them.
func TestWhatRedisMissedIsCorrected(t *testing.T) {
	t.Parallel()
	redis, server := startRedis(t), testbed.StartConsul(t, testbed.ConsulConfig{})
	o := &operator{t: t, store: inConsul(t, server, false)}
	reader := connect(t, redis)
	d := start(t, Config{Origin: inConsul(t, server, true), Redis: connect(t, redis)})
	held, never, late, untouched := o.customer("held"), o.customer("never"), o.customer("late"), o.customer("untouched")
	other := newDirectory(t, Config{Origin: inConsul(t, server, true), Redis: reader})
	for _, c := range []customer{held, never, late, untouched} {
		expect(t, other, c, "ok", "by way of Redis, at first")
	}
	expect(t, d, held, "ok", "at first")

	freeze(redis)
	o.revoke(held)
	revoked := o.revoke(never)
	eventually(t, 5*time.Second, "the revoked key is refused", func() bool { return says(d, held.key.Text()) == "unauthenticated" })
	thaw(redis)
	eventually(t, 20*time.Second, "Redis has the key as it is now", func() bool {
		k, err := reader.get(t.Context(), revoked[0].Path)
		return err == nil && k.Version == revoked[0].Version
	})

	freeze(redis)
	o.revoke(late)
	path := identity.KeyPath(late.record.ID)
	eventually(t, 5*time.Second, "the origin's document is kept", func() bool { return d.corrections.all()[path].known.Version > 0 })
	server.Kill()
	thaw(redis)
	eventually(t, 20*time.Second, "nothing waits to be corrected", func() bool { return d.corrections.count() == 0 })

	began := newDirectory(t, Config{Origin: inConsul(t, server, true), Redis: connect(t, redis)})
	for _, c := range []customer{held, never, late} {
		expect(t, began, c, "unauthenticated", "a Directory made since, without the origin: "+string(c.tenant.ID))
	}
	expect(t, began, untouched, "ok", "a Directory made since, without the origin")
}

// freeze stops all of Redis, which keeps what it has; a killed one may lose it.
func freeze(r *testbed.Redis) {
	for _, one := range slices.Concat(r.Guards, r.Servers) {
		one.Freeze()
	}
}

func thaw(r *testbed.Redis) {
	for _, one := range slices.Concat(r.Servers, r.Guards) {
		one.Thaw()
	}
	r.Master()
}

// A document that was deleted while Redis was away does not come back from there.
func TestWhatWasDeletedIsCorrected(t *testing.T) {
	t.Parallel()
	redis, store := startRedis(t), onFile(t)
	o := &operator{t: t, store: store.Store}
	c := o.customer("one")
	reader := connect(t, redis)
	expect(t, newDirectory(t, Config{Origin: store, Redis: reader}), c, "ok", "at first")
	start(t, Config{Origin: store, Redis: connect(t, redis)})
	o.commit(map[string]any{identity.KeyPath(c.record.ID): nil}) // and nobody announces it
	eventually(t, 10*time.Second, "Redis has it no more", func() bool {
		k, err := reader.get(t.Context(), identity.KeyPath(c.record.ID))
		return err == nil && len(k.Document) == 0
	})
	store.away.Store(true)
	expect(t, newDirectory(t, Config{Origin: store, Redis: connect(t, redis)}), c, "unauthenticated", "deleted, without the origin")
}

func TestCorrectionsAreBounded(t *testing.T) {
	r, err := Connect(RedisConfig{Master: "nobody", Logger: slog.New(slog.DiscardHandler)}, testStale)
	if err != nil {
		t.Fatal(err)
	}
	d := newDirectory(t, Config{Origin: onFile(t), Redis: r})
	for i := range mostCorrections + 7 {
		d.trailSays(t.Context(), identity.TenantPath(tenantID(i)), 1)
	}
	d.trailSays(t.Context(), identity.TenantPath(tenantID(0)), 9)
	d.trailSays(t.Context(), "elsewhere", 9)
	if got := d.corrections.count(); got != mostCorrections {
		t.Errorf("%d are waiting", got)
	}
	families, err := d.config.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "lightcone_edge_corrections_dropped_total" && family.GetMetric()[0].GetCounter().GetValue() != 7 {
			t.Errorf("dropped: %v", family)
		}
	}
	path := identity.TenantPath(tenantID(0))
	d.corrections.done(path, 8)
	if d.corrections.all()[path].version != 9 {
		t.Error("it is no longer wanted at version 9, and has reached 8")
	}
	d.corrections.done(path, 9)
	if got := d.corrections.count(); got != mostCorrections-1 {
		t.Errorf("%d are waiting after one is done", got)
	}
}

// An origin that was set up anew may never have what its trail once told of.
func TestACorrectionIsGivenUp(t *testing.T) {
	r, err := Connect(RedisConfig{Master: "nobody", Logger: slog.New(slog.DiscardHandler)}, testStale)
	if err != nil {
		t.Fatal(err)
	}
	store := onFile(t)
	c := (&operator{t: t, store: store.Store}).customer("one")
	d := newDirectory(t, Config{Origin: store, Redis: r})
	d.trailSays(t.Context(), identity.KeyPath(c.record.ID), 1<<20)
	for round := 1; !d.correctAll(t.Context()); round++ {
		if round == mostLagged {
			t.Fatal("it is tried for ever")
		}
	}
	if got := d.corrections.count(); got != 0 {
		t.Errorf("%d are waiting", got)
	}
}
