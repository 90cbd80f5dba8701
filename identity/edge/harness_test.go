package edge

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/document/embedded"
	"lightcone/internal/problem"
)

func TestMain(m *testing.M) {
	// go-redis looks only once a second whether the pool was closed that it dials for.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// watched counts what is read of a real store, and can be cut off from it, whole or
// for the audit trail alone.
type watched struct {
	document.Store
	reads     atomic.Int64 // of keys and tenants
	lists     atomic.Int64
	away      atomic.Bool
	trailAway atomic.Bool
	slow      atomic.Int64 // nanoseconds before an answer
}

var errAway = errors.New("the store is cut off")

func (w *watched) reach(path string) error {
	if w.away.Load() || w.trailAway.Load() && strings.HasPrefix(path, "audit/") {
		return errAway
	}
	return nil
}

func (w *watched) Get(ctx context.Context, path string) (document.Document, bool, error) {
	if !strings.HasPrefix(path, "audit/") {
		w.reads.Add(1)
		time.Sleep(time.Duration(w.slow.Load()))
	}
	if err := w.reach(path); err != nil {
		return document.Document{}, false, err
	}
	return w.Store.Get(ctx, path)
}

func (w *watched) Paths(ctx context.Context, prefix string) ([]string, error) {
	w.lists.Add(1)
	if err := w.reach(prefix); err != nil {
		return nil, err
	}
	return w.Store.Paths(ctx, prefix)
}

func (w *watched) Wait(ctx context.Context, path string, version uint64) (document.Document, bool, error) {
	if err := w.reach(path); err != nil {
		return document.Document{}, false, err
	}
	return w.Store.Wait(ctx, path, version)
}

func onFile(t testing.TB) *watched {
	t.Helper()
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &watched{Store: store}
}

// operator commits changes as the management plane does: documents, an audit entry
// and its head in one.
type operator struct {
	t     testing.TB
	store document.Store
	mu    sync.Mutex
}

// commit changes documents, nil values delete, and returns them as they then are.
func (o *operator) commit(values map[string]any) []document.Document {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var head identity.Head
	was, exists, err := o.store.Get(ctx, identity.AuditHead)
	if err == nil && exists {
		err = json.Unmarshal(was.Value, &head)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	head.Sequence++
	entry := identity.Entry{Sequence: head.Sequence, Time: time.Now(), Actor: "test", Action: "test"}
	var changes []document.Change
	for path, value := range values {
		entry.Changed = append(entry.Changed, path)
		d, _, err := o.store.Get(ctx, path)
		if err != nil {
			o.t.Fatal(err)
		}
		changes = append(changes, document.Change{Path: path, Version: d.Version, Delete: value == nil, Value: o.text(value)})
	}
	changes = append(changes,
		document.Change{Path: identity.AuditPath(head.Sequence), Value: o.text(entry)},
		document.Change{Path: identity.AuditHead, Value: o.text(head), Version: was.Version})
	version, err := o.store.Commit(ctx, changes...)
	if err != nil {
		o.t.Fatal(err)
	}
	var documents []document.Document
	for _, change := range changes[:len(values)] {
		d := document.Document{Path: change.Path, Version: version}
		if !change.Delete {
			d.Value = change.Value
		}
		documents = append(documents, d)
	}
	return documents
}

func (o *operator) text(value any) []byte {
	if value == nil {
		return nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		o.t.Fatal(err)
	}
	return text
}

// customer is a tenant with one key.
type customer struct {
	key    identity.Key
	record identity.Record
	tenant identity.Tenant
}

func newCustomer(t testing.TB, id lightcone.TenantID, random io.Reader) customer {
	t.Helper()
	key, err := identity.NewKey(random)
	if err != nil {
		t.Fatal(err)
	}
	return customer{
		key:    key,
		record: identity.Record{ID: key.ID(), Digest: key.Digest(), Tenant: id, Scopes: identity.Scopes{All: true}},
		tenant: identity.Tenant{ID: id, Quota: lightcone.Unlimited},
	}
}

func (c customer) documents() map[string]any {
	return map[string]any{identity.KeyPath(c.record.ID): c.record, identity.TenantPath(c.tenant.ID): c.tenant}
}

func (o *operator) customer(id lightcone.TenantID) customer {
	o.t.Helper()
	c := newCustomer(o.t, id, rand.Reader)
	o.commit(c.documents())
	return c
}

func (o *operator) revoke(c customer) []document.Document {
	o.t.Helper()
	c.record.Revoked = true
	return o.commit(map[string]any{identity.KeyPath(c.record.ID): c.record})
}

func newDirectory(t testing.TB, c Config) *Directory {
	t.Helper()
	c.Logger, c.Metrics = slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// start is a Directory that runs for as long as the test, with its filter made.
func start(t testing.TB, c Config) *Directory {
	t.Helper()
	d := newDirectory(t, c)
	run(t, d)
	eventually(t, 20*time.Second, "the filter is made and the audit trail read", func() bool {
		_, loaded := d.filter.may(keyID{})
		return loaded && d.trail.isRead(d.clock.now())
	})
	return d
}

func run(t testing.TB, d *Directory) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { d.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func eventually(t testing.TB, bound time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > bound {
			t.Fatalf("not within %v: %s", bound, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// says is what a Directory says to a key: "ok", or the problem's kind.
func says(d *Directory, presented string) string {
	if _, _, err := d.Authorize([]byte(presented), "resize"); err != nil {
		return string(problem.Of(err).Kind)
	}
	return "ok"
}

func expect(t testing.TB, d *Directory, c customer, want string, when string) {
	t.Helper()
	if got := says(d, c.key.Text()); got != want {
		t.Errorf("%s: %s, want %s", when, got, want)
	}
}

func tenantID(i int) lightcone.TenantID { return lightcone.TenantID(fmt.Sprintf("tenant-%06d", i)) }
