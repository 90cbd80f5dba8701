package management

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone"
	"lightcone/consul"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/document/embedded"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// operator is who makes the tests' changes.
const operator = "operatoroperator"

func asOperator(t testing.TB) context.Context { return WithActor(t.Context(), operator) }

func newStore(t testing.TB) document.Store {
	t.Helper()
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// newConsulStore is a store in a real Consul, below a prefix of the test's own.
func newConsulStore(t testing.TB, server *testbed.Consul) document.Store {
	t.Helper()
	client, err := consul.Connect(consul.Config{Address: server.Address, Token: testbed.ManagementToken, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return consul.NewDocuments(client, strings.ReplaceAll(strings.ToLower(t.Name()), " ", "-"), false)
}

func newManager(t testing.TB, config Config) *Manager {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustCreate(t testing.TB, m *Manager, ids ...lightcone.TenantID) {
	t.Helper()
	for _, id := range ids {
		if _, _, err := m.CreateTenant(asOperator(t), id, ""); err != nil {
			t.Fatal(err)
		}
	}
}

func wantKind(t testing.TB, err error, kind problem.Kind) {
	t.Helper()
	if err == nil || problem.Of(err).Kind != kind {
		t.Fatalf("got %v, want a problem of kind %s", err, kind)
	}
}

// wantTrail checks the trail as a whole, and that it has so many entries and agrees
// with the documents it speaks of.
func wantTrail(t testing.TB, m *Manager, entries uint64) {
	t.Helper()
	v, err := verifyAll(t.Context(), m)
	if err != nil || v.Finding != "" || v.Verified != entries || v.Last != entries {
		t.Fatalf("the trail: %+v, %v; want %d entries and no finding", v, err, entries)
	}
	if finding := disagreement(t.Context(), m); finding != "" {
		t.Fatal(finding)
	}
}

func verifyAll(ctx context.Context, m *Manager) (v Verification, err error) {
	for err == nil {
		if v, err = m.VerifyAudit(ctx, v.Verified); v.Done() {
			break
		}
	}
	return v, err
}

// disagreement compares each document with what the trail last made of it.
func disagreement(ctx context.Context, m *Manager) string {
	latest := make(map[string]string)
	var previous time.Time
	for after, last := uint64(0), uint64(1); after < last; {
		stored, end, err := m.Audit(ctx, after, MostPerPage)
		if err != nil {
			return err.Error()
		}
		for _, text := range stored {
			var e identity.Entry
			if err := json.Unmarshal(text, &e); err != nil {
				return err.Error()
			}
			if before := latest[e.Changed[0]]; before != string(e.Before) {
				return fmt.Sprintf("entry %d changes %s from %s, and before it was %s", e.Sequence, e.Changed[0], e.Before, before)
			}
			if e.Time.Before(previous) {
				return fmt.Sprintf("entry %d is before the one before it", e.Sequence)
			}
			latest[e.Changed[0]], previous = string(e.After), e.Time
		}
		after, last = after+uint64(len(stored)), end
	}
	for _, prefix := range []string{identity.TenantPath(""), identity.KeyPath("")} {
		paths, err := m.config.Store.Paths(ctx, prefix)
		if err != nil {
			return err.Error()
		}
		for _, path := range paths {
			d, _, err := m.config.Store.Get(ctx, path)
			if err != nil || string(d.Value) != latest[path] {
				return fmt.Sprintf("%s is %s (%v), and the trail says %s", path, d.Value, err, latest[path])
			}
			delete(latest, path)
		}
	}
	if len(latest) > 0 {
		return fmt.Sprintf("the trail speaks of what is not there: %v", latest)
	}
	return ""
}
