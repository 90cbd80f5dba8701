package management

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// TestManagement is the suite that the management plane passes on every store.
func TestManagement(t *testing.T) {
	cases := []struct {
		name string
		run  func(*testing.T, document.Store)
	}{
		{"tenants", testTenants},
		{"keys", testKeys},
		{"imported keys", testImportedKeys},
		{"pages", testPages},
		{"nothing new, no entry", testNothingNew},
		{"versions", testVersions},
		{"two operators", testTwoOperators},
		{"two operators who agree", testTwoWhoAgree},
		{"many operators", testManyOperators},
		{"a clock that goes backwards", testClockBackwards},
		{"what was spent", testSpent},
	}
	server := testbed.StartConsul(t, testbed.ConsulConfig{})
	for name, makeStore := range map[string]func(t *testing.T) document.Store{
		"embedded": func(t *testing.T) document.Store { return newStore(t) },
		"consul":   func(t *testing.T) document.Store { return newConsulStore(t, server) },
	} {
		for _, c := range cases {
			t.Run(name+"/"+c.name, func(t *testing.T) { c.run(t, makeStore(t)) })
		}
	}
}

func testTenants(t *testing.T, store document.Store) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 123_456_789, time.FixedZone("", 3600))
	m := newManager(t, Config{Store: store, Now: func() time.Time { return now }})
	made, version, err := m.CreateTenant(asOperator(t), "acme", "Acme & Sons")
	want := identity.Tenant{ID: "acme", Name: "Acme & Sons", Quota: lightcone.Unlimited, Created: now.UTC().Truncate(time.Millisecond)}
	if diff := cmp.Diff(want, made); diff != "" || err != nil || version == 0 {
		t.Fatalf("version %d, %v (-want +got):\n%s", version, err, diff)
	}
	_, _, err = m.CreateTenant(asOperator(t), "acme", "Another")
	wantKind(t, err, Conflict)
	_, _, err = m.CreateTenant(asOperator(t), "Acme", "")
	wantKind(t, err, problem.BadParameter)
	_, _, err = m.CreateTenant(asOperator(t), "other", "bell\a")
	wantKind(t, err, problem.BadParameter)
	if _, _, err := m.CreateTenant(t.Context(), "nobodys", ""); problem.Of(err).Kind != problem.Internal {
		t.Fatalf("a change by nobody: %v", err)
	}
	quota := lightcone.Quota{CallsPerSecond: 2.5, Burst: 10, ConcurrentCalls: 0, CPUPerMonth: 300 * time.Millisecond, BytesPerMonth: lightcone.NoLimit}
	disabled, name := true, "Renamed"
	for _, edit := range []Edit{{Quota: &quota}, {Disabled: &disabled}, {Name: &name}} {
		if _, _, err := m.EditTenant(asOperator(t), "acme", edit); err != nil {
			t.Fatal(err)
		}
	}
	want.Quota, want.Disabled, want.Name = quota, true, "Renamed"
	got, _, err := m.Tenant(t.Context(), "acme")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	_, _, err = m.EditTenant(asOperator(t), "nobody", Edit{Name: &name})
	wantKind(t, err, problem.NotFound)
	wantTrail(t, m, 4)
}

func testKeys(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	mustCreate(t, m, "acme", "other")
	scopes := identity.Scopes{Functions: []lightcone.FunctionName{"resize", "echo"}}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	key, record, err := m.IssueKey(asOperator(t), "acme", scopes, expires)
	if err != nil || record.ID != key.ID() || record.Digest != key.Digest() || record.Revoked || !record.Expires.Equal(expires) {
		t.Fatalf("%+v, %v", record, err)
	}
	if stored, err := m.Key(t.Context(), key.ID()); err != nil || cmp.Diff(record, stored) != "" {
		t.Fatalf("%+v, %v; want %+v", stored, err, record)
	}
	if others, _, err := m.Keys(t.Context(), "other", "", 10); err != nil || len(others) != 0 {
		t.Fatalf("another tenant has %v, %v", others, err)
	}
	for range 2 {
		if err := m.RevokeKey(asOperator(t), key.ID()); err != nil {
			t.Fatal(err)
		}
	}
	records, more, err := m.Keys(t.Context(), "acme", "", 10)
	if err != nil || more || len(records) != 1 || !records[0].Revoked {
		t.Fatalf("a revoked key's record: %+v, %v", records, err)
	}
	for _, bad := range []func() error{
		func() error { _, _, err := m.IssueKey(asOperator(t), "acme", identity.Scopes{}, expires); return err },
		func() error {
			_, _, err := m.IssueKey(asOperator(t), "acme", scopes, time.Now().Add(-time.Second))
			return err
		},
		func() error {
			_, _, err := m.IssueKey(asOperator(t), "acme", identity.Scopes{Functions: slices.Repeat(scopes.Functions, 51)}, expires)
			return err
		},
	} {
		wantKind(t, bad(), problem.BadParameter)
	}
	_, _, err = m.IssueKey(asOperator(t), "nobody", scopes, expires)
	wantKind(t, err, problem.NotFound)
	wantKind(t, m.RevokeKey(asOperator(t), "aaaaaaaaaaaaaaaa"), problem.NotFound)
	wantTrail(t, m, 4)
}

func testImportedKeys(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	mustCreate(t, m, "acme", "other")
	key, err := identity.NewKey(m.config.Random)
	if err != nil {
		t.Fatal(err)
	}
	record := identity.Record{ID: key.ID(), Digest: key.Digest(), Tenant: "acme", Scopes: identity.Scopes{All: true}}
	for range 2 {
		if _, err := m.ImportKey(asOperator(t), record); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.RevokeKey(asOperator(t), key.ID()); err != nil {
		t.Fatal(err)
	}
	if again, err := m.ImportKey(asOperator(t), record); err != nil || !again.Revoked {
		t.Fatalf("an import brought a revoked key back: %+v, %v", again, err)
	}
	record.Tenant = "other"
	_, err = m.ImportKey(asOperator(t), record)
	wantKind(t, err, Conflict)
	wantTrail(t, m, 4)
}

func testPages(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	all := []lightcone.TenantID{"a", "a-b", "a1", "ab", "b"} // in the order of bytes
	mustCreate(t, m, all...)
	var got []lightcone.TenantID
	for more := true; more; {
		var page []identity.Tenant
		var err error
		after := lightcone.TenantID("")
		if len(got) > 0 {
			after = got[len(got)-1]
		}
		if page, more, err = m.Tenants(t.Context(), after, 2); err != nil || len(page) > 2 {
			t.Fatalf("%d tenants, %v", len(page), err)
		}
		for _, tenant := range page {
			got = append(got, tenant.ID)
		}
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if page, more, err := m.Tenants(t.Context(), "aa", 1); err != nil || !more || page[0].ID != "ab" {
		t.Fatalf("after an id that is not there: %v, %v", page, err)
	}
	for after := range 7 {
		entries, last, err := m.Audit(t.Context(), uint64(after), 2)
		if want := min(2, max(5-after, 0)); err != nil || last != 5 || len(entries) != want {
			t.Fatalf("after %d: %d entries of %d, %v; want %d", after, len(entries), last, err, want)
		}
	}
}

func testNothingNew(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	mustCreate(t, m, "acme")
	disabled, quota := true, lightcone.Quota{CallsPerSecond: 0.1, Burst: 1, ConcurrentCalls: -7, CPUPerMonth: 300_000_001, BytesPerMonth: 5}
	var versions []uint64
	for range 3 {
		for _, edit := range []Edit{{Disabled: &disabled}, {Quota: &quota}} {
			_, version, err := m.EditTenant(asOperator(t), "acme", edit)
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, version)
		}
	}
	if len(slices.Compact(versions)) != 2 {
		t.Fatalf("versions %v: want two changes", versions)
	}
	wantTrail(t, m, 3)
}

func testVersions(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	mustCreate(t, m, "acme")
	_, read, err := m.Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	first, second := "first", "second"
	_, next, err := m.EditTenant(asOperator(t), "acme", Edit{Name: &first}, read)
	if err != nil || next == read {
		t.Fatalf("version %d after %d, %v", next, read, err)
	}
	_, _, err = m.EditTenant(asOperator(t), "acme", Edit{Name: &second}, read)
	wantKind(t, err, Stale)
	_, _, err = m.EditTenant(asOperator(t), "acme", Edit{Name: &first}, read) // also if it would change nothing
	wantKind(t, err, Stale)
	if _, _, err = m.EditTenant(asOperator(t), "acme", Edit{Name: &second}, read, next); err != nil {
		t.Fatal(err)
	}
	wantTrail(t, m, 3)
}

// meeting is a store in which so many first reads of a path wait for each other.
type meeting struct {
	document.Store
	path string
	met  *sync.WaitGroup
	once *sync.Once
}

func (s meeting) Get(ctx context.Context, path string) (document.Document, bool, error) {
	d, found, err := s.Store.Get(ctx, path)
	if path == s.path {
		s.once.Do(func() {
			s.met.Done()
			s.met.Wait()
		})
	}
	return d, found, err
}

// together lets operators, each with a Manager of its own, edit a tenant that all of
// them have read before the first writes.
func together(t *testing.T, store document.Store, id lightcone.TenantID, edits ...Edit) []error {
	var met, done sync.WaitGroup
	met.Add(len(edits))
	errs := make([]error, len(edits))
	for i, edit := range edits {
		m := newManager(t, Config{Store: meeting{store, identity.TenantPath(id), &met, new(sync.Once)}})
		done.Go(func() {
			_, _, errs[i] = m.EditTenant(asOperator(t), id, edit)
		})
	}
	done.Wait()
	return errs
}

func testTwoOperators(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	mustCreate(t, m, "acme")
	names := []string{"one", "two"}
	for range 5 {
		errs := together(t, store, "acme", Edit{Name: &names[0]}, Edit{Name: &names[1]})
		winner := slices.Index(errs, nil)
		if winner < 0 || errs[1-winner] == nil {
			t.Fatalf("%v: want one winner", errs)
		}
		wantKind(t, errs[1-winner], Conflict)
		if !errors.Is(errs[1-winner], document.ErrConflict) {
			t.Fatalf("%v is no ErrConflict", errs[1-winner])
		}
		tenant, _, err := m.Tenant(t.Context(), "acme")
		if err != nil || tenant.Name != names[winner] {
			t.Fatalf("the name is %s, %v; want the winner's, %s", tenant.Name, err, names[winner])
		}
		names[0], names[1] = names[0]+"'", names[1]+"'"
	}
	wantTrail(t, m, 6)
}

func testTwoWhoAgree(t *testing.T, store document.Store) {
	m := newManager(t, Config{Store: store})
	mustCreate(t, m, "acme")
	disabled := true
	if errs := together(t, store, "acme", Edit{Disabled: &disabled}, Edit{Disabled: &disabled}); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	wantTrail(t, m, 2)
}

// testManyOperators is about the trail's end, which all changes contend for.
func testManyOperators(t *testing.T, store document.Store) {
	const operators, each = 6, 8
	errs := make(chan error, operators*each)
	var done sync.WaitGroup
	for o := range operators {
		m := newManager(t, Config{Store: store})
		for i := range each {
			done.Go(func() {
				_, _, err := m.CreateTenant(asOperator(t), lightcone.TenantID(fmt.Sprintf("tenant-%d-%d", o, i)), "")
				errs <- err
			})
		}
	}
	done.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	wantTrail(t, newManager(t, Config{Store: store}), operators*each)
}

func testClockBackwards(t *testing.T, store document.Store) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	m := newManager(t, Config{Store: store, Now: func() time.Time { return now }})
	for _, id := range []lightcone.TenantID{"a", "b", "c"} {
		mustCreate(t, m, id)
		now = now.Add(-time.Hour)
	}
	tenant, _, err := m.Tenant(t.Context(), "c")
	if want := now.Add(3 * time.Hour); err != nil || !tenant.Created.Equal(want) {
		t.Fatalf("made at %v, %v; want %v", tenant.Created, err, want)
	}
	now = now.Add(24 * time.Hour)
	mustCreate(t, m, "d")
	wantTrail(t, m, 4) // it compares the times
}
