package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// switchable is a store that can be away: every request fails then, also those that wait.
type switchable struct {
	document.Store
	mu   sync.Mutex
	away chan struct{} // closed while the store is away

	commits atomic.Int64
}

var errAway = errors.New("the store is away")

func newSwitchable(store document.Store) *switchable {
	return &switchable{Store: store, away: make(chan struct{})}
}

func (s *switchable) leave() { close(s.gone()) }

func (s *switchable) comeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = make(chan struct{})
}

func (s *switchable) gone() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

func (s *switchable) check() error {
	select {
	case <-s.gone():
		return errAway
	default:
		return nil
	}
}

func (s *switchable) Get(ctx context.Context, path string) (document.Document, bool, error) {
	if err := s.check(); err != nil {
		return document.Document{}, false, err
	}
	return s.Store.Get(ctx, path)
}

func (s *switchable) Paths(ctx context.Context, prefix string) ([]string, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return s.Store.Paths(ctx, prefix)
}

func (s *switchable) Commit(ctx context.Context, changes ...document.Change) (uint64, error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	s.commits.Add(1)
	return s.Store.Commit(ctx, changes...)
}

func (s *switchable) Wait(ctx context.Context, path string, version uint64) (document.Document, bool, error) {
	gone := s.gone()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	defer func() { <-ended }()
	defer cancel(nil)
	go func() {
		defer close(ended)
		select {
		case <-gone:
			cancel(errAway)
		case <-ctx.Done():
		}
	}()
	return s.Store.Wait(ctx, path, version)
}

// checkSharing has two gateways see one kill each, and a third learn of it; then lifts it.
// openOne makes each gateway's own store over the same documents.
func checkSharing(t *testing.T, openOne func() document.Store) {
	one, two, three := newGateway(t, openOne(), io.Discard, nil), newGateway(t, openOne(), io.Discard, nil), newGateway(t, openOne(), io.Discard, nil)
	all := []*gateway{one, two, three}
	one.Strike(callOf("deadly", 1))
	eventually(t, "the first strike is in the store", func() bool { return hasDocument(t, one.store, strikesPath+digest("deadly").String()) })
	for _, g := range all {
		if g.refuses("deadly") {
			t.Fatal("an input that killed one slot is refused")
		}
	}
	two.Strike(callOf("deadly", 2))
	for _, g := range all {
		eventually(t, "every gateway refuses the input", func() bool { return g.refuses("deadly") })
		if g.refuses("deathly") || g.refuses("harmless") {
			t.Error("another input is refused")
		}
		if list := g.List(); len(list) != 1 || list[0].Digest != digest("deadly") || len(list[0].Calls) != 2 || list[0].Tenant != "demo" {
			t.Errorf("the list is %+v", list)
		}
	}
	if hasDocument(t, one.store, strikesPath+digest("deadly").String()) {
		t.Error("the strike's document is still there")
	}
	began := time.Now()
	if err := three.Lift(t.Context(), digest("deadly")); err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		eventually(t, "every gateway runs the lifted input", func() bool { return !g.refuses("deadly") })
		if len(g.List()) != 0 {
			t.Errorf("the list is %+v", g.List())
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("lifting took %v; want less than 1s", took)
	}
	if err := three.Lift(t.Context(), digest("deadly")); !errors.Is(err, ErrNotQuarantined) {
		t.Errorf("lifted twice: %v", err)
	}
	one.Strike(callOf("deadly", 3))
	if one.refuses("deadly") {
		t.Error("a lifted input starts with its old strikes")
	}
}

func TestGatewaysShareOneFile(t *testing.T) {
	store := openStore(t)
	checkSharing(t, func() document.Store { return store })
}

// TestNewGatewayReadsWhatIsThere: one that starts late, and one that missed more changes
// than the head holds, know all the same.
func TestNewGatewayReadsWhatIsThere(t *testing.T) {
	store := openStore(t)
	generous := func(c *Config) { c.Burst, c.MostWaiting = 1000, 1000 }
	one := newGateway(t, store, io.Discard, generous)
	away := newSwitchable(store)
	late := newGateway(t, away, io.Discard, generous)
	eventually(t, "the second gateway waits", func() bool { return len(late.List()) == 0 })
	away.leave()
	const inputs = mostChanges + 20
	for i := range inputs {
		for kill := range deadlyStrikes {
			one.Strike(callOf(fmt.Sprint("input ", i), 2*i+kill))
		}
	}
	eventually(t, "all is shared", func() bool {
		paths, err := store.Paths(t.Context(), quarantinedPath)
		return err == nil && len(paths) == inputs
	})
	away.comeBack()
	fresh := newGateway(t, store, io.Discard, nil)
	for _, g := range []*gateway{late, fresh} {
		eventually(t, "all is known", func() bool { return len(g.List()) == inputs })
		if !g.refuses("input 0") || !g.refuses(fmt.Sprint("input ", inputs-1)) || g.value(t, "lightcone_quarantine_inputs") != inputs {
			t.Error("the list is there, and the inputs are run")
		}
	}
}

// TestStoreAway: a gateway counts and refuses for itself, and shares it later.
func TestStoreAway(t *testing.T) {
	store := openStore(t)
	away := newSwitchable(store)
	var logs testbed.Log
	one, two := newGateway(t, away, &logs, nil), newGateway(t, store, io.Discard, nil)
	away.leave()
	one.Strike(callOf("twice", 1))
	one.Strike(callOf("twice", 2))
	one.Strike(callOf("once", 3))
	if !one.refuses("twice") || one.refuses("once") {
		t.Error("without its store, the gateway does not count for itself")
	}
	if err := one.Lift(t.Context(), digest("twice")); !errors.Is(err, errAway) || !one.refuses("twice") {
		t.Errorf("lifted without the store: %v", err)
	}
	eventually(t, "the log says that the store is away", func() bool { return strings.Contains(logs.String(), "the store is away") })
	two.Strike(callOf("once", 4))
	eventually(t, "the other gateway has counted", func() bool { return hasDocument(t, store, strikesPath+digest("once").String()) })
	away.comeBack()
	for _, g := range []*gateway{one, two} {
		eventually(t, "both know both", func() bool { return g.refuses("twice") && g.refuses("once") })
	}
}

// TestFloodIsBounded: a new deadly input on each call writes no more than the budget.
func TestFloodIsBounded(t *testing.T) {
	store := newSwitchable(openStore(t))
	g := newGateway(t, store, io.Discard, func(c *Config) { c.Burst, c.SharesPerSecond, c.MostInputs = 8, 0.001, 10 })
	const strikes = 500
	for i := range strikes {
		g.Strike(callOf(fmt.Sprint("input ", i), i))
	}
	eventually(t, "what was to be shared is", func() bool {
		paths, err := store.Paths(t.Context(), strikesPath)
		return err == nil && len(paths) == 6
	})
	g.Strike(callOf("input 499", strikes)) // the reserve is for this
	eventually(t, "the deadly input is shared", func() bool { return hasDocument(t, store, quarantinedPath+digest("input 499").String()) })
	if commits := store.commits.Load(); commits != 7 {
		t.Errorf("%d commits; want 7", commits)
	}
	if got := g.value(t, "lightcone_quarantine_strikes_total"); got != strikes+1 {
		t.Errorf("%v strikes counted", got)
	}
	if got := g.value(t, "lightcone_quarantine_strikes_unshared_total"); got != strikes-6 {
		t.Errorf("%v strikes counted as unshared", got)
	}
}

// TestUnreadableDocuments are named, once, and passed over.
func TestUnreadableDocuments(t *testing.T) {
	store := openStore(t)
	var changes []document.Change
	for _, path := range []string{headPath, strikesPath + digest("a").String(), quarantinedPath + digest("b").String(), quarantinedPath + "no-digest", strikesPath + "no-digest"} {
		changes = append(changes, document.Change{Path: path, Value: []byte("\x00{")})
	}
	if _, err := store.Commit(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	var logs testbed.Log
	g := newGateway(t, store, &logs, func(c *Config) { c.SweepEvery = 10 * time.Millisecond })
	eventually(t, "each is named", func() bool { return g.value(t, "lightcone_quarantine_unreadable_documents_total") == 5 })
	for _, input := range []string{"a", "b"} {
		for kill := range deadlyStrikes {
			g.Strike(callOf(input, kill))
		}
		eventually(t, "an unreadable document is written over", func() bool {
			d, found, err := store.Get(t.Context(), quarantinedPath+digest(input).String())
			if err != nil || !found {
				return false
			}
			_, err = decode(digest(input), d.Value)
			return err == nil
		})
	}
	for _, c := range changes {
		if n := strings.Count(logs.String(), "path="+c.Path+" "); n != 1 {
			t.Errorf("%s is named %d times", c.Path, n)
		}
	}
}

// TestExpiredIsSwept: documents go after their time, by whoever looks.
func TestExpiredIsSwept(t *testing.T) {
	store := openStore(t)
	for i, age := range []time.Duration{0, 3 * time.Hour} {
		struck := strikeOf(callOf(fmt.Sprint("struck ", i), 1), time.Now().Add(-age), time.Hour)
		both := merge(strikeOf(callOf(fmt.Sprint("held ", i), 2), time.Now().Add(-age), time.Hour), strikeOf(callOf(fmt.Sprint("held ", i), 3), time.Now().Add(-age), time.Hour))
		if _, err := store.Commit(t.Context(), document.Change{Path: strikesPath + struck.Digest.String(), Value: struck.encode()},
			document.Change{Path: quarantinedPath + both.Digest.String(), Value: both.encode()}); err != nil {
			t.Fatal(err)
		}
	}
	g := newGateway(t, store, io.Discard, func(c *Config) { c.SweepEvery = 10 * time.Millisecond })
	eventually(t, "what has expired is gone", func() bool {
		return !hasDocument(t, store, strikesPath+digest("struck 1").String()) && !hasDocument(t, store, quarantinedPath+digest("held 1").String())
	})
	if !hasDocument(t, store, strikesPath+digest("struck 0").String()) || !hasDocument(t, store, quarantinedPath+digest("held 0").String()) {
		t.Error("what has not expired is gone, too")
	}
	if !g.refuses("held 0") || g.refuses("held 1") || g.refuses("struck 0") {
		t.Error("the wrong inputs are refused")
	}
}

// TestExpiryFreesAnInput here without any sweep.
func TestExpiryFreesAnInput(t *testing.T) {
	g := newGateway(t, openStore(t), io.Discard, func(c *Config) { c.Expiry = 200 * time.Millisecond })
	g.Strike(callOf("x", 1))
	g.Strike(callOf("x", 2))
	if found := g.Quarantined(callOf("x", 3)); found == nil || found.Kind != problem.Quarantined || !strings.Contains(found.Detail, digest("x").String()) {
		t.Fatalf("refused with %v", found)
	}
	eventually(t, "the input is free", func() bool { return !g.refuses("x") && len(g.List()) == 0 })
	if g.value(t, "lightcone_quarantine_refused_total") == 0 {
		t.Error("refusals are not counted")
	}
}

func TestRoutes(t *testing.T) {
	away := newSwitchable(openStore(t))
	g := newGateway(t, away, io.Discard, nil)
	routes := g.Handler()
	ask := func(method, path string, status int, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != status || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: %d %s; want %d with %q", method, path, w.Code, w.Body, status, want)
		}
		if isProblem := w.Header().Get("Content-Type") == "application/problem+json"; isProblem != (status >= 400) {
			t.Errorf("%s %s: %s", method, path, w.Header())
		}
	}
	ask("GET", "/v1/quarantine", http.StatusOK, `{"quarantined":[]}`)
	g.Strike(callOf("x", 1))
	g.Strike(callOf("x", 2))
	name := digest("x").String()
	ask("GET", "/v1/quarantine", http.StatusOK, `"digest":"`+name+`","function":"resize","tenant":"demo","body_bytes":1,`)
	ask("DELETE", "/v1/quarantine/x", http.StatusBadRequest, "64 hexadecimal digits")
	ask("DELETE", "/v1/quarantine/"+digest("y").String(), http.StatusNotFound, "not in quarantine")
	away.leave()
	ask("DELETE", "/v1/quarantine/"+name, http.StatusServiceUnavailable, "try again")
	away.comeBack()
	ask("DELETE", "/v1/quarantine/"+name, http.StatusNoContent, "")
	ask("GET", "/v1/quarantine", http.StatusOK, `{"quarantined":[]}`)
}
