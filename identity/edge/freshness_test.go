package edge

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
)

func TestWhatIsKnownOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		known, fresh := o.customer("known"), o.customer("fresh")
		d := start(t, Config{Origin: store})
		expect(t, d, known, "ok", "at first")
		store.away.Store(true)
		for hour := range 23 {
			time.Sleep(time.Hour)
			expect(t, d, known, "ok", fmt.Sprint(hour+1, " hours after the store went away"))
		}
		_, _, err := d.Authorize([]byte(fresh.key.Text()), "resize")
		if refused := problem.Of(err); refused.Kind != problem.Overloaded || refused.RetryAfter == 0 {
			t.Errorf("a key that was not seen before: %v", err)
		}
		time.Sleep(time.Hour)
		expect(t, d, known, "overloaded", "a day after the last confirmation")
		store.away.Store(false)
		time.Sleep(time.Minute)
		expect(t, d, known, "ok", "the store is back")
		expect(t, d, fresh, "ok", "the store is back")
	})
}

// A key that nobody used for days, though the trail was followed all the time, is
// known for a day since the trail's last word.
func TestAnIdleKeyOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		idle, changed := o.customer("idle"), o.customer("changed")
		d := start(t, Config{Origin: store})
		time.Sleep(time.Minute)
		expect(t, d, idle, "ok", "at first")
		expect(t, d, changed, "ok", "at first")
		time.Sleep(30 * time.Hour)
		store.away.Store(true)
		d.changed(identity.KeyPath(changed.record.ID), 1<<20) // and nobody says to what
		time.Sleep(time.Minute)
		expect(t, d, idle, "ok", "a minute after the store went away")
		expect(t, d, changed, "overloaded", "a minute after the store went away, and it was changed")
		time.Sleep(23*time.Hour + 58*time.Minute)
		expect(t, d, idle, "ok", "almost a day after the store went away")
		time.Sleep(2 * time.Minute)
		expect(t, d, idle, "overloaded", "a day after the store went away")
	})
}

func TestARevocationArrivesByTheAuditTrail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c, other := o.customer("one"), o.customer("other")
		d := start(t, Config{Origin: store})
		expect(t, d, c, "ok", "at first")
		expect(t, d, other, "ok", "at first")
		o.revoke(c)
		time.Sleep(time.Second)
		expect(t, d, c, "unauthenticated", "a second after its revocation")
		other.tenant.Disabled = true
		o.commit(map[string]any{identity.TenantPath("other"): other.tenant})
		time.Sleep(time.Second)
		expect(t, d, other, "forbidden", "a second after its tenant was disabled")
		o.commit(map[string]any{identity.KeyPath(other.record.ID): nil})
		time.Sleep(time.Second)
		expect(t, d, other, "unauthenticated", "a second after its deletion")
		made := o.customer("made")
		expect(t, d, made, "ok", "as soon as it is made")
	})
}

func TestWithoutTheTrailEachDocumentIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c := o.customer("one")
		d := start(t, Config{Origin: store})
		expect(t, d, c, "ok", "at first")
		store.trailAway.Store(true)
		o.revoke(c)
		time.Sleep(23 * time.Second)
		expect(t, d, c, "ok", "what is fresh is not asked for")
		time.Sleep(8 * time.Second)
		says(d, c.key.Text()) // the first call after FreshFor has it refreshed
		time.Sleep(time.Second)
		expect(t, d, c, "unauthenticated", "after FreshFor and a refresh")
	})
}

// An hour of calls costs a read at its end, not one every FreshFor.
func TestTheTrailVouchesForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c := o.customer("one")
		d := start(t, Config{Origin: store})
		time.Sleep(time.Minute)
		expect(t, d, c, "ok", "at first")
		before := store.reads.Load()
		for range 45 {
			time.Sleep(time.Minute)
			expect(t, d, c, "ok", "within the hour")
		}
		if reads := store.reads.Load() - before; reads != 0 {
			t.Errorf("%d reads while the trail says that nothing has changed", reads)
		}
		for range 20 {
			time.Sleep(time.Minute)
			expect(t, d, c, "ok", "beyond the hour")
		}
		if reads := store.reads.Load() - before; reads != 2 {
			t.Errorf("%d reads after the hour, for a key and a tenant", reads)
		}
	})
}

// What changed while the trail was out of reach is heard of when it is back.
func TestTheTrailCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c := o.customer("one")
		d := start(t, Config{Origin: store})
		time.Sleep(time.Minute)
		expect(t, d, c, "ok", "at first")
		store.away.Store(true)
		o.revoke(c)
		time.Sleep(time.Hour)
		expect(t, d, c, "ok", "nobody can know")
		store.away.Store(false)
		time.Sleep(5 * time.Second)
		expect(t, d, c, "unauthenticated", "the store is back")
	})
}

// A trail that was cut off at its beginning, or a store that was set up anew,
// makes everything doubtful, and nothing lost.
func TestAGapMakesEverythingDoubtful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c := o.customer("one")
		d := start(t, Config{Origin: store})
		time.Sleep(time.Minute)
		expect(t, d, c, "ok", "at first")
		time.Sleep(time.Second)
		before, lists := store.reads.Load(), store.lists.Load()
		was, _, err := store.Get(t.Context(), identity.AuditHead)
		if err != nil {
			t.Fatal(err)
		}
		for _, head := range []string{`{"sequence":5000}`, `{"sequence":5001}`, `{"sequence":3}`} { // too many, one that is not there, fewer
			version, err := store.Commit(t.Context(), document.Change{Path: identity.AuditHead, Value: []byte(head), Version: was.Version})
			if err != nil {
				t.Fatal(err)
			}
			was.Version = version
			time.Sleep(3 * time.Second)
			expect(t, d, c, "ok", head)
			time.Sleep(time.Second)
			expect(t, d, c, "ok", head)
			if reads := store.reads.Load() - before; reads != 2 {
				t.Errorf("%s: %d reads, want the key and the tenant confirmed again", head, reads)
			}
			before = store.reads.Load()
		}
		if store.lists.Load() == lists {
			t.Error("the filter was not made again")
		}
	})
}

func TestADocumentThatCannotBeUsedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c, other := o.customer("one"), o.customer("other")
		d := start(t, Config{Origin: store})
		expect(t, d, c, "ok", "at first")
		o.commit(map[string]any{identity.KeyPath(c.record.ID): other.record, identity.TenantPath("one"): "nonsense"})
		time.Sleep(time.Minute)
		expect(t, d, c, "ok", "its documents are another's, and nonsense")
	})
}

func TestAFloodOfRandomKeysIsNotLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		c := o.customer("one")
		d := start(t, Config{Origin: store, MostKeys: 100})
		expect(t, d, c, "ok", "at first")
		random, before := mathrand.NewChaCha8([32]byte{2}), store.reads.Load()
		for i := range 100_000 {
			key, err := identity.NewKey(random)
			if err != nil {
				t.Fatal(err)
			}
			if got := says(d, key.Text()); got != "unauthenticated" {
				t.Fatalf("random key %d: %s", i, got)
			}
			if i%10_000 == 0 {
				time.Sleep(time.Second) // ten seconds in all
			}
		}
		reads := store.reads.Load() - before
		t.Logf("%d reads of the origin for 100 000 random keys in 10 s", reads)
		if reads > newcomerReads*11+10 {
			t.Errorf("%d reads, want at most %d a second and the filter's mistakes", reads, newcomerReads)
		}
		before = store.reads.Load()
		expect(t, d, c, "ok", "after the flood")
		if store.reads.Load() != before {
			t.Error("the flood has pushed a known key out of memory")
		}
		time.Sleep(time.Second)
		expect(t, d, o.customer("new"), "ok", "a key made after the flood")
	})
}

func TestBeforeTheFilterIsThereReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		c := (&operator{t: t, store: store.Store}).customer("one")
		d := newDirectory(t, Config{Origin: store}) // and nobody runs it
		expect(t, d, c, "ok", "without a filter")
		counts := make(map[string]int)
		for range 5000 {
			key, err := identity.NewKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			counts[says(d, key.Text())]++
		}
		if reads := store.reads.Load(); reads > unfilteredRead+3 || counts["overloaded"] < 3000 || counts["unauthenticated"] == 0 {
			t.Errorf("%d reads; %v", reads, counts)
		}
	})
}

func TestAVersionNeverGoesBack(t *testing.T) {
	d := newDirectory(t, Config{Origin: onFile(t)})
	c := newCustomer(t, "one", rand.Reader)
	id, path := keyIDOf(c.record.ID), identity.KeyPath(c.record.ID)
	take := func(version uint64, revoked bool) bool {
		c.record.Revoked = revoked
		text, err := json.Marshal(c.record)
		if err != nil {
			t.Fatal(err)
		}
		return d.keys.take(id, seen{answer{found, version, 0}, text, d.clock.now()})
	}
	revoked := func() bool {
		e, _ := d.keys.held.GetIfPresent(id)
		return e.value.expires == longAgo
	}
	if !take(5, false) || !take(7, true) || !revoked() {
		t.Fatal("a newer version is not taken")
	}
	take(6, false)
	if !revoked() {
		t.Error("an older version is taken")
	}
	d.changed(path, 9)
	if take(8, false) || !revoked() {
		t.Error("a version is taken that is older than a change that was heard of")
	}
	if !take(9, false) || revoked() {
		t.Error("the version that was heard of is not taken")
	}
}

// News that comes while a store is asked, and says that there is none, stays.
func TestNewsIsNotForgottenForAnOlderAnswer(t *testing.T) {
	d := newDirectory(t, Config{Origin: onFile(t)})
	c := newCustomer(t, "one", rand.Reader)
	id, path := keyIDOf(c.record.ID), identity.KeyPath(c.record.ID)
	text, err := json.Marshal(c.record)
	if err != nil {
		t.Fatal(err)
	}
	d.keys.take(id, seen{answer{found, 3, 0}, text, d.clock.now()})
	heard := d.changes.of(path, d.clock.now())
	d.announced(t.Context(), kept{Path: path, Version: 5, Confirmed: time.Now(), Document: text})
	if d.keys.forget(id, heard, unknownFor) {
		t.Error("the answer is older than what was announced, and is believed")
	}
	if _, there := d.keys.held.GetIfPresent(id); !there {
		t.Error("what was announced is forgotten")
	}
	if _, err := d.keys.find(id, d.clock.now()); err != nil {
		t.Errorf("it is there, and not found: %v", err)
	}
	if !d.keys.forget(id, 5, unknownFor) {
		t.Error("an answer that knows of the change is not believed")
	}
}
