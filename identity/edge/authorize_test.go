package edge

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/problem"
)

func TestAuthorize(t *testing.T) {
	store := onFile(t)
	o := &operator{t: t, store: store.Store}
	good := o.customer("good")
	quota := lightcone.Unlimited
	quota.ConcurrentCalls = 7
	good.tenant.Quota = quota
	some, revoked, expired, expiring, disabled, orphan := newCustomer(t, "some", rand.Reader), newCustomer(t, "revoked", rand.Reader),
		newCustomer(t, "expired", rand.Reader), newCustomer(t, "expiring", rand.Reader), newCustomer(t, "disabled", rand.Reader), newCustomer(t, "orphan", rand.Reader)
	some.record.Scopes = identity.Scopes{Functions: []lightcone.FunctionName{"shout", "resize"}}
	none := newCustomer(t, "none", rand.Reader)
	none.record.Scopes = identity.Scopes{}
	revoked.record.Revoked = true
	expired.record.Expires = time.Now().Add(-time.Second)
	expiring.record.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	disabled.tenant.Disabled = true
	for _, c := range []customer{good, some, none, revoked, expired, expiring, disabled} {
		o.commit(c.documents())
	}
	o.commit(map[string]any{identity.KeyPath(orphan.record.ID): orphan.record})
	d := start(t, Config{Origin: store})

	text := good.key.Text()
	for _, test := range []struct {
		name, presented string
		function        lightcone.FunctionName
		tenant          lightcone.TenantID
		kind            problem.Kind
		says            string
	}{
		{"all scopes", text, "echo", "good", "", ""},
		{"in scope", some.key.Text(), "resize", "some", "", ""},
		{"expires one day", expiring.key.Text(), "resize", "expiring", "", ""},
		{"out of scope", some.key.Text(), "echo", "", problem.Forbidden, `"echo"`},
		{"a part of a scope", some.key.Text(), "resi", "", problem.Forbidden, `"resi"`},
		{"scopes in one", some.key.Text(), "resize,shout", "", problem.Forbidden, "may not call"},
		{"all is not a function", some.key.Text(), "*", "", problem.Forbidden, "may not call"},
		{"no scopes", none.key.Text(), "resize", "", problem.Forbidden, "may not call"},
		{"no scopes and no function", none.key.Text(), "", "", problem.Forbidden, "may not call"},
		{"disabled", disabled.key.Text(), "resize", "", problem.Forbidden, "tenant disabled is disabled"},
		{"no tenant", orphan.key.Text(), "resize", "", problem.Unauthenticated, ""},
		{"empty", "", "resize", "", problem.Unauthenticated, ""},
		{"truncated", text[:len(text)-1], "resize", "", problem.Unauthenticated, ""},
		{"oversized", text + strings.Repeat("A", 1<<20), "resize", "", problem.Unauthenticated, ""},
		{"malformed", strings.Replace(text, "_", "-", 1), "resize", "", problem.Unauthenticated, ""},
		{"wrong secret", text[:20] + some.key.Text()[20:], "resize", "", problem.Unauthenticated, ""},
		{"unknown", newCustomer(t, "x", rand.Reader).key.Text(), "resize", "", problem.Unauthenticated, ""},
		{"revoked", revoked.key.Text(), "resize", "", problem.Unauthenticated, ""},
		{"expired", expired.key.Text(), "resize", "", problem.Unauthenticated, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // from the store, and from memory
				tenant, quota, err := d.Authorize([]byte(test.presented), test.function)
				if tenant != test.tenant || (err == nil) != (test.kind == "") {
					t.Fatalf("%q, %v", tenant, err)
				}
				if tenant == "good" && quota.ConcurrentCalls != 7 {
					t.Errorf("quota %+v", quota)
				}
				if err == nil {
					continue
				}
				got := problem.Of(err)
				want := test.says
				if test.kind == problem.Unauthenticated {
					want = identity.Unauthenticated().Detail
				}
				if got.Kind != test.kind || !strings.Contains(got.Detail, want) {
					t.Errorf("%s: %q, want %s: %q", got.Kind, got.Detail, test.kind, want)
				}
			}
			outOfScope := test.kind == problem.Forbidden && test.presented != disabled.key.Text()
			who, err := d.Identify([]byte(test.presented))
			if (err == nil) != (test.kind == "" || outOfScope) || (who != "") != (err == nil) || err != nil && problem.Of(err).Kind != test.kind {
				t.Errorf("whatever its scopes: %q, %v", who, err)
			}
		})
	}
}

func TestAKeyStaysExpiredWhenTheClockGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := onFile(t)
		o := &operator{t: t, store: store.Store}
		expiry := time.Now().Add(time.Hour)
		c, later := newCustomer(t, "one", rand.Reader), newCustomer(t, "two", rand.Reader)
		c.record.Expires, later.record.Expires = expiry, expiry.Add(time.Hour)
		o.commit(c.documents())
		o.commit(later.documents())
		d := newDirectory(t, Config{Origin: store})
		expect(t, d, c, "ok", "before it expires")
		time.Sleep(time.Hour - 1)
		expect(t, d, c, "ok", "a nanosecond before it expires")
		time.Sleep(time.Nanosecond)
		expect(t, d, c, "unauthenticated", "when it expires")
		d.clock.wall = func() time.Time { return time.Now().Add(-24 * time.Hour) }
		expect(t, d, c, "unauthenticated", "the clock has gone back a day")
		d.keys.forget(keyIDOf(c.record.ID), math.MaxUint64, 0)
		expect(t, d, c, "unauthenticated", "and it was read again")
		expect(t, d, later, "ok", "another key, that has not expired yet")
		time.Sleep(time.Hour)
		expect(t, d, later, "unauthenticated", "it expires though the clock is a day behind")
	})
}

// A clock that jumps ahead closes what would have expired by then, and no longer
// than it is wrong.
func TestAJumpOfTheClockIsNotForEver(t *testing.T) {
	store := onFile(t)
	o := &operator{t: t, store: store.Store}
	soon, late, never := newCustomer(t, "soon", rand.Reader), newCustomer(t, "late", rand.Reader), o.customer("never")
	soon.record.Expires, late.record.Expires = time.Now().Add(time.Hour), time.Now().Add(1000*time.Hour)
	o.commit(soon.documents())
	o.commit(late.documents())
	d := newDirectory(t, Config{Origin: store})
	for _, step := range []struct {
		ahead             time.Duration
		soon, late, never string
	}{
		{0, "ok", "ok", "ok"},
		{24 * time.Hour, "unauthenticated", "ok", "ok"},
		{87_600 * time.Hour, "unauthenticated", "unauthenticated", "ok"},
		{0, "ok", "ok", "ok"},
	} {
		d.clock.wall = func() time.Time { return time.Now().Add(step.ahead) }
		when := step.ahead.String() + " ahead"
		expect(t, d, soon, step.soon, "expires soon, "+when)
		expect(t, d, late, step.late, "expires late, "+when)
		expect(t, d, never, step.never, "never expires, "+when)
	}
}

// fill puts many customers into memory without a store behind them, and returns
// their keys' texts.
func fill(t testing.TB, d *Directory, count int) [][]byte {
	t.Helper()
	random := mathrand.NewChaCha8([32]byte{1})
	keys := make([][]byte, count)
	for i := range keys {
		c := newCustomer(t, tenantID(i), random)
		keys[i] = []byte(c.key.Text())
		id, now := keyIDOf(c.record.ID), seen{answer: answer{found, 1, 0}, confirmed: d.clock.now()}
		facts := keyFacts{digest: c.record.Digest, tenant: tenantID(i), scopes: scopesOf(identity.Scopes{Functions: []lightcone.FunctionName{"resize", "echo"}})}
		d.keys.put(id, read[keyFacts]{now, facts}, useOrigin)
		d.tenants.put(tenantID(i), read[tenantFacts]{now, tenantFacts{quota: lightcone.Unlimited}}, useOrigin)
		d.filter.add(id)
	}
	return keys
}

func TestAHitAllocatesNothing(t *testing.T) {
	d := newDirectory(t, Config{Origin: onFile(t)})
	presented := fill(t, d, 10)[3]
	if allocations := testing.AllocsPerRun(1000, func() {
		if _, _, err := d.Authorize(presented, "resize"); err != nil {
			t.Fatal(err)
		}
	}); allocations != 0 {
		t.Errorf("%v allocations a call", allocations)
	}
}

// heap is what is in use after everything unused was collected.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAHundredThousandTenantsFit(t *testing.T) {
	const count, most = 100_000, 440 // of the 600 that a tenant may take in a gateway: its limits take the rest
	d := newDirectory(t, Config{Origin: onFile(t)})
	if err := d.filter.rebuild(t.Context(), d.config.Origin); err != nil {
		t.Fatal(err)
	}
	before := heap()
	fill(t, d, count)
	each := float64(heap()-before) / count
	t.Logf("%.0f bytes a tenant with one key, %d keys and %d tenants held", each, d.keys.held.EstimatedSize(), d.tenants.held.EstimatedSize())
	if d.keys.held.EstimatedSize() != count || d.tenants.held.EstimatedSize() != count || each > most {
		t.Errorf("%.0f bytes a tenant, want at most %d", each, most)
	}
	runtime.KeepAlive(d)
}

// A key's entry knows its tenant's, and yet a call sees at once what has taken that
// one's place, and that nothing has.
func TestATenantsNewEntryIsSeenAtOnce(t *testing.T) {
	d := newDirectory(t, Config{Origin: onFile(t)})
	presented := fill(t, d, 1)[0]
	said := func() string {
		_, quota, err := d.Authorize(presented, "resize")
		if err != nil {
			return string(problem.Of(err).Kind)
		}
		return fmt.Sprint(quota.ConcurrentCalls)
	}
	hold := func(version uint64, facts tenantFacts) {
		d.tenants.put(tenantID(0), read[tenantFacts]{seen{answer{found, version, 0}, nil, d.clock.now()}, facts}, useOrigin)
	}
	limited := lightcone.Unlimited
	for _, step := range []struct {
		name, want string
		change     func()
	}{
		{"at first", "-1", func() {}},
		{"limited", "7", func() { limited.ConcurrentCalls = 7; hold(2, tenantFacts{quota: limited}) }},
		{"disabled", "forbidden", func() { hold(3, tenantFacts{quota: limited, disabled: true}) }},
		{"enabled", "7", func() { hold(4, tenantFacts{quota: limited}) }},
		{"not in memory, and in no store", "unauthenticated", func() { d.tenants.held.Invalidate(tenantID(0)) }},
		{"made again", "7", func() { hold(5, tenantFacts{quota: limited}) }},
		{"deleted", "unauthenticated", func() { d.tenants.forget(tenantID(0), 5, unknownFor) }},
	} {
		step.change()
		for range 2 { // found, and found again
			if got := said(); got != step.want {
				t.Errorf("%s: %s, want %s", step.name, got, step.want)
			}
		}
	}
}

// Only some uses are told to the cache; still, what is in use outlives what is not.
func TestWhatIsUsedStaysInMemory(t *testing.T) {
	const used = 100
	d := newDirectory(t, Config{Origin: onFile(t), MostKeys: 1000})
	keys := fill(t, d, 1000)
	for range 20 * usesTold {
		for _, key := range keys[:used] {
			if _, _, err := d.Authorize(key, "resize"); err != nil {
				t.Fatal(err)
			}
		}
	}
	random := mathrand.NewChaCha8([32]byte{5})
	for i := range 20_000 {
		c := newCustomer(t, tenantID(1_000_000+i), random)
		now := seen{answer: answer{found, 1, 0}, confirmed: d.clock.now()}
		d.keys.put(keyIDOf(c.record.ID), read[keyFacts]{now, keyFacts{tenant: c.tenant.ID}}, useOrigin)
		d.tenants.put(c.tenant.ID, read[tenantFacts]{now, tenantFacts{}}, useOrigin)
	}
	kept := 0
	for _, key := range keys[:used] {
		if _, _, err := d.Authorize(key, "resize"); err == nil {
			kept++
		}
	}
	if kept < used*9/10 {
		t.Errorf("%d of %d that are used are still in memory", kept, used)
	}
	if held := d.keys.held.EstimatedSize(); held > 1010 {
		t.Errorf("%d keys are held", held)
	}
}

func TestCallersAtOnceCauseOneRead(t *testing.T) {
	store := onFile(t)
	o := &operator{t: t, store: store.Store}
	c := o.customer("good")
	d := start(t, Config{Origin: store})
	store.slow.Store(int64(50 * time.Millisecond))
	before := store.reads.Load()
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() { expect(t, d, c, "ok", "one of a hundred") })
	}
	callers.Wait()
	if reads := store.reads.Load() - before; reads != 2 {
		t.Errorf("%d reads for a key and a tenant", reads)
	}
}

// With few keys, all of it is in the processor's caches; with many, little is.
func BenchmarkAuthorize(b *testing.B) {
	d := newDirectory(b, Config{Origin: onFile(b), FreshFor: time.Hour})
	keys := fill(b, d, 100_000)
	// Memory's order would help, but a call's key has just been read.
	mathrand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i := range keys {
		keys[i] = bytes.Clone(keys[i])
	}
	for _, count := range []int{1000, len(keys)} {
		b.Run(fmt.Sprint(count, " keys in turn"), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, _, err := d.Authorize(keys[i%count], "resize"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzWhatIsPublished(f *testing.F) {
	d := newDirectory(f, Config{Origin: onFile(f)})
	c := newCustomer(f, "one", mathrand.NewChaCha8([32]byte{4}))
	record, about := (&operator{t: f}).text(c.record), (&operator{t: f}).text(c.tenant)
	f.Add(identity.KeyPath(c.record.ID), record)
	f.Add(identity.TenantPath("one"), about)
	f.Add("keys/short", []byte("{}"))
	f.Add("elsewhere", []byte(nil))
	version := uint64(0)
	f.Fuzz(func(t *testing.T, path string, value []byte) {
		version += 2
		d.keys.take(keyIDOf(c.record.ID), seen{answer: answer{found, version, 0}, value: record})
		d.announced(t.Context(), kept{Path: path, Version: version + 1, Confirmed: time.Now(), Document: value})
		select {
		case <-d.refresh:
		default:
		}
		held, there := d.keys.held.GetIfPresent(keyIDOf(c.record.ID))
		if !there || held.version == version+1 && path != identity.KeyPath(c.record.ID) {
			t.Errorf("%q with %q has changed what is held for another key", path, value)
		}
	})
}
