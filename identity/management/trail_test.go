package management

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// aTrail is a store whose audit trail has so many entries.
func aTrail(t testing.TB, entries int) (*Manager, document.Store) {
	store := newStore(t)
	m := newManager(t, Config{Store: store})
	for i := range entries {
		mustCreate(t, m, lightcone.TenantID(fmt.Sprintf("tenant-%d", i)))
	}
	return m, store
}

// aLongTrail is aTrail, made by fewer commits.
func aLongTrail(t testing.TB, entries int) (*Manager, document.Store) {
	store := newStore(t)
	var head identity.Head
	var version uint64
	var batch []document.Change
	for i := range entries {
		d, err := creating(lightcone.TenantID(fmt.Sprintf("tenant-%d", i)), "")(read{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		changes, err := commitOf(d, operator, head, version, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		end := len(changes) - 1 // the head
		if err := json.Unmarshal(changes[end].Value, &head); err != nil {
			t.Fatal(err)
		}
		if batch = append(batch, changes[:end]...); len(batch)+end < document.MostChanges && i < entries-1 {
			continue
		}
		if version, err = store.Commit(t.Context(), append(batch, changes[end])...); err != nil {
			t.Fatal(err)
		}
		batch = nil
	}
	return newManager(t, Config{Store: store}), store
}

// put writes a document over whatever is there; nil deletes it.
func put(t interface{ Fatal(...any) }, store document.Store, path string, value []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, _, err := store.Get(ctx, path)
	if err == nil && (value != nil || d.Version > 0) {
		_, err = store.Commit(ctx, document.Change{Path: path, Value: value, Version: d.Version, Delete: value == nil})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnyTamperingShows flips, removes, swaps and plants; and what is put back is
// whole again.
func TestAnyTamperingShows(t *testing.T) {
	const entries = 12
	m, store := aTrail(t, entries)
	wantTrail(t, m, entries)
	read := func(path string) []byte {
		d, _, err := store.Get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return d.Value
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, entries).Draw(t, "entry")
		path := identity.AuditPath(n)
		before := map[string][]byte{path: read(path), identity.AuditHead: read(identity.AuditHead)}
		names := []uint64{n} // that may be found
		switch what := rapid.SampledFrom([]string{"flip", "head", "remove", "swap", "plant", "cut", "behead"}).Draw(t, "what"); what {
		case "flip":
			put(t, store, path, flipped(t, before[path]))
		case "head":
			put(t, store, identity.AuditHead, flipped(t, before[identity.AuditHead]))
			names = nil
		case "remove":
			put(t, store, path, nil)
		case "swap":
			other := rapid.Uint64Range(1, entries).Filter(func(o uint64) bool { return o != n }).Draw(t, "other")
			before[identity.AuditPath(other)] = read(identity.AuditPath(other))
			put(t, store, path, before[identity.AuditPath(other)])
			put(t, store, identity.AuditPath(other), before[path])
			names = []uint64{min(n, other)}
		case "plant":
			names = []uint64{entries + 1}
			before[identity.AuditPath(entries+1)] = nil
			put(t, store, identity.AuditPath(entries+1), before[path])
		case "cut": // the last entry goes, and the head stays
			before[identity.AuditPath(entries)] = read(identity.AuditPath(entries))
			put(t, store, identity.AuditPath(entries), nil)
			names = []uint64{entries}
		case "behead":
			put(t, store, identity.AuditHead, nil)
			names = []uint64{1}
		}
		v, err := verifyAll(context.Background(), m)
		if err != nil || v.Finding == "" {
			t.Fatalf("%+v, %v: want a finding", v, err)
		}
		if names != nil && !slices.Contains(names, v.Entry) {
			t.Fatalf("found %+v; want entry %v", v, names)
		}
		for path, value := range before {
			put(t, store, path, value)
		}
	})
	wantTrail(t, m, entries)
}

func flipped(t *rapid.T, value []byte) []byte {
	bit := rapid.IntRange(0, 8*len(value)-1).Draw(t, "bit")
	value = bytes.Clone(value)
	value[bit/8] ^= 1 << (bit % 8)
	return value
}

// TestTheFirstEntriesCannotBeDropped renumbers a trail without its first entry.
func TestTheFirstEntriesCannotBeDropped(t *testing.T) {
	m, store := aTrail(t, 3)
	head, _, err := m.head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := m.Audit(t.Context(), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.Replace(entries[0], []byte(`"sequence":2`), []byte(`"sequence":1`), 1)
	put(t, store, identity.AuditPath(1), second)
	put(t, store, identity.AuditPath(2), nil)
	put(t, store, identity.AuditPath(3), nil)
	put(t, store, identity.AuditHead, fmt.Appendf(nil, `{"sequence":1,"hash":"%s","time":%q}`, identity.EntryHash(second), head.Time.Format("2006-01-02T15:04:05.999Z07:00")))
	v, err := m.VerifyAudit(t.Context(), 0)
	if err != nil || v.Entry != 1 || !strings.Contains(v.Finding, "missing") {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestVerificationInPages(t *testing.T) {
	const entries = 2*MostPerPage + 3
	m, store := aLongTrail(t, entries)
	wantTrail(t, m, entries)
	put(t, store, identity.AuditPath(MostPerPage), nil) // seen from the first page, of which it is the last
	if v, err := verifyAll(t.Context(), m); err != nil || v.Entry != MostPerPage {
		t.Errorf("%+v, %v: want entry %d", v, err, MostPerPage)
	}
	if _, err := m.VerifyAudit(t.Context(), entries+1); problem.Of(err).Kind != problem.BadParameter {
		t.Errorf("after the end: %v", err)
	}
}

// TestATrailThatChangesWhileItIsVerified must not be taken for a damaged one.
func TestATrailThatChangesWhileItIsVerified(t *testing.T) {
	m, _ := aTrail(t, 1)
	var changing sync.WaitGroup
	ended := make(chan struct{})
	changing.Go(func() {
		defer close(ended)
		for i := range 100 {
			mustCreate(t, m, lightcone.TenantID(fmt.Sprintf("more-%d", i)))
		}
	})
	for going := true; going; {
		select {
		case <-ended:
			going = false
		default:
		}
		if v, err := verifyAll(t.Context(), m); err != nil || v.Finding != "" {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	changing.Wait()
	wantTrail(t, m, 101)
}

// TestADamagedTrailIsSaid is about a head that was put back: no change can be made,
// and waiting does not help.
func TestADamagedTrailIsSaid(t *testing.T) {
	m, store := aTrail(t, 2)
	var log testbed.Log
	m.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	put(t, store, identity.AuditHead, nil)
	_, _, err := m.CreateTenant(asOperator(t), "late", "")
	wantKind(t, err, problem.Internal)
	if !strings.Contains(log.String(), "verify the trail") {
		t.Errorf("the log does not say what to do: %s", &log)
	}
	put(t, store, identity.AuditPath(1), []byte("{"))
	put(t, store, identity.AuditHead, []byte(`{"sequence":2}`))
	_, _, err = m.Audit(t.Context(), 0, 1)
	wantKind(t, err, problem.Internal)
}
