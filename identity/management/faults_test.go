package management

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// TestConsulIsKilled in the middle of changes: callers are told in time, and what is
// found afterwards is whole.
func TestConsulIsKilled(t *testing.T) {
	server := testbed.StartConsul(t, testbed.ConsulConfig{})
	m := newManager(t, Config{Store: newConsulStore(t, server), Timeout: 3 * time.Second})
	mustCreate(t, m, "before")
	var changing sync.WaitGroup
	var made atomic.Int64
	refused := make(chan error, 4)
	for i := range cap(refused) {
		changing.Go(func() {
			for n := 0; ; n++ {
				_, _, err := m.CreateTenant(asOperator(t), lightcone.TenantID(fmt.Sprintf("tenant-%d-%d", i, n)), "")
				if err != nil {
					refused <- err
					return
				}
				made.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(30 * time.Second); made.Load() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no changes are made")
		}
	}
	server.Kill()
	changing.Wait()
	for range cap(refused) {
		wantKind(t, <-refused, problem.Overloaded)
	}
	http := listen(t, m)
	for _, request := range [][3]string{{"PATCH", "/v1/tenants/before", `{"disabled":true}`}, {"GET", "/v1/tenants/before", ""}} {
		began := time.Now()
		if got := ask(t, http, request[0], request[1], request[2]); got.status != 503 || got.header.Get("Retry-After") == "" || strings.Contains(got.body, "refused") || time.Since(began) > 5*time.Second {
			t.Errorf("%v after %v: %+v", request, time.Since(began), got)
		}
	}
	server.Restart()
	v, err := verifyAll(t.Context(), m)
	if err != nil || v.Finding != "" || int64(v.Last) < made.Load()+1 {
		t.Fatalf("%+v, %v, after %d changes that were confirmed", v, err, made.Load()+1)
	}
	mustCreate(t, m, "after")
	wantTrail(t, m, v.Last+1)
}

// unanswering is a store that makes commits, or does not, and then says that it
// does not know.
type unanswering struct {
	document.Store
	makes bool
}

func (s unanswering) Commit(ctx context.Context, changes ...document.Change) (uint64, error) {
	if s.makes {
		if _, err := s.Store.Commit(ctx, changes...); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("the connection was cut by 10.0.0.7")
}

func TestACommitWithoutAnAnswer(t *testing.T) {
	store := newStore(t)
	sure := newManager(t, Config{Store: store})
	mustCreate(t, sure, "acme")
	name := "Acme"
	cut := newManager(t, Config{Store: unanswering{store, false}})
	_, _, err := cut.EditTenant(asOperator(t), "acme", Edit{Name: &name})
	if wantKind(t, err, problem.Overloaded); strings.Contains(problem.Of(err).Detail, "10.0.0.7") {
		t.Errorf("the caller is told %s", problem.Of(err).Detail)
	}
	wantTrail(t, sure, 1)
	made := newManager(t, Config{Store: unanswering{store, true}})
	_, version, err := made.EditTenant(asOperator(t), "acme", Edit{Name: &name})
	if tenant, is, err2 := sure.Tenant(t.Context(), "acme"); errors.Join(err, err2) != nil || version != is || tenant.Name != name {
		t.Errorf("%+v at %d, told %d, %v %v", tenant, is, version, err, err2)
	}
	wantTrail(t, sure, 2)
}

func TestAnnouncements(t *testing.T) {
	var log testbed.Log
	heard := &listener{fail: errors.New("redis is away")}
	m := newManager(t, Config{Store: newStore(t), Announce: heard, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	mustCreate(t, m, "acme")
	ctx, leave := context.WithCancel(asOperator(t))
	m.config.Store = leaving{m.config.Store, leave} // the operator leaves when the change is made
	key, _, err := m.IssueKey(ctx, "acme", identity.Scopes{All: true}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	name := "Acme"
	for range 2 { // the second changes nothing
		if _, _, err := m.EditTenant(asOperator(t), "acme", Edit{Name: &name}); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(heard.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("announced: %q", lines)
	}
	for i, path := range []string{identity.TenantPath("acme"), identity.KeyPath(key.ID()), identity.TenantPath("acme")} {
		d, _, err := m.config.Store.Get(t.Context(), path)
		want := fmt.Sprintf("%s %d %s", path, d.Version, d.Value)
		if err != nil || i > 0 && lines[i] != want || !strings.HasPrefix(lines[i], path+" ") {
			t.Errorf("announced: %s, want %s", lines[i], want)
		}
	}
	if strings.Count(log.String(), "redis is away") != 3 {
		t.Errorf("the log: %s", &log)
	}
}

// leaving cancels its caller's context after each commit.
type leaving struct {
	document.Store
	leave context.CancelFunc
}

func (s leaving) Commit(ctx context.Context, changes ...document.Change) (uint64, error) {
	defer s.leave()
	return s.Store.Commit(ctx, changes...)
}

// stuck is a store whose commits end with their contexts.
type stuck struct{ document.Store }

func (s stuck) Commit(ctx context.Context, _ ...document.Change) (uint64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestChangesDoNotPileUp stops the store for more changes than may wait.
func TestChangesDoNotPileUp(t *testing.T) {
	const timeout = 300 * time.Millisecond
	m := newManager(t, Config{Store: stuck{newStore(t)}, Timeout: timeout})
	began := time.Now()
	var changing sync.WaitGroup
	var atOnce atomic.Int64
	for i := range 2 * mostWaiting {
		changing.Go(func() {
			_, _, err := m.CreateTenant(asOperator(t), lightcone.TenantID(fmt.Sprintf("tenant-%d", i)), "")
			if err == nil || problem.Of(err).Kind != problem.Overloaded || problem.Of(err).RetryAfter == 0 {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err), "wait already") {
				atOnce.Add(1)
			}
		})
	}
	changing.Wait()
	if atOnce.Load() == 0 || time.Since(began) > 20*timeout {
		t.Errorf("%d of %d were refused at once, the last after %v", atOnce.Load(), 2*mostWaiting, time.Since(began))
	}
}
