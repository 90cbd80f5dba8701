package quarantine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/document"
	"lightcone/internal/document/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second // how long a test waits for what must happen

var start = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

// callOf is the n-th call ever, with the given input.
func callOf(input string, n int) *functions.Call {
	id := lightcone.CallID{}
	copy(id[8:], fmt.Sprintf("%08d", n))
	return &functions.Call{ID: id, Function: "resize", Tenant: "demo", Query: []byte("width=300"), ContentType: []byte("image/jpeg"), Body: []byte(input)}
}

// openStore opens a store in a file of its own.
func openStore(t testing.TB) *embedded.Store {
	t.Helper()
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// gateway is one gateway's book, running.
type gateway struct {
	*Book
	registry *prometheus.Registry
	stop     func() // returns when Run has; may be called twice
}

// newGateway runs a book over store until the test's end. change may be nil.
func newGateway(t testing.TB, store document.Store, logs io.Writer, change func(*Config)) *gateway {
	t.Helper()
	config := DefaultConfig()
	if change != nil {
		change(&config)
	}
	g := &gateway{registry: prometheus.NewRegistry()}
	var err error
	if g.Book, err = New(config, store, g.registry, slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	g.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(g.stop)
	return g
}

// refuses is whether the gateway refuses an input.
func (g *gateway) refuses(input string) bool { return g.Quarantined(callOf(input, 0)) != nil }

// value is a metric's, by its name.
func (g *gateway) value(t testing.TB, name string) float64 {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// eventually waits until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so after %v: %s", patience, what)
		}
	}
}

// stored is whether the store has a document.
func hasDocument(t testing.TB, store document.Store, path string) bool {
	t.Helper()
	_, found, err := store.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func digest(input string) lightcone.Digest { return DigestOf(callOf(input, 0)) }
