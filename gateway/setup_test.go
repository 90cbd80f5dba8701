package gateway

import (
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// nopListener has nothing to accept.
type nopListener struct{}

func (nopListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (nopListener) Close() error              { return nil }
func (nopListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestConfigNamesTheBadField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for field, change := range map[string]func(*Config){
		"MaxConnections":   func(c *Config) { c.MaxConnections = 0 },
		"MaxHeaderBytes":   func(c *Config) { c.MaxHeaderBytes = 100 },
		"HeaderTimeout":    func(c *Config) { c.HeaderTimeout = 0 },
		"IdleTimeout":      func(c *Config) { c.IdleTimeout = -1 },
		"BodyStallTimeout": func(c *Config) { c.BodyStallTimeout = 0 },
		"WriteTimeout":     func(c *Config) { c.WriteTimeout = 0 },
		"MaxCallsInFlight": func(c *Config) { c.MaxCallsInFlight = 0 },
		"MaxBytesInFlight": func(c *Config) { c.MaxBytesInFlight = 1 },
		"MaxWaitingCalls":  func(c *Config) { c.MaxWaitingCalls = -1 },
		"MaxWait":          func(c *Config) { c.MaxWait = 0 },
		"InitialService":   func(c *Config) { c.InitialService = 0 },
		"Queue":            func(c *Config) { c.Queue = newMemoryQueue() },
		"DrainDelay":       func(c *Config) { c.DrainDelay = -time.Second },
	} {
		config := DefaultConfig()
		change(&config)
		if _, err := New(config, &worker{}, keys{}, prometheus.NewRegistry(), slog.Default()); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("a bad %s: got %v", field, err)
		}
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := &worker{}
	w.offer()
	for i, good := range []bool{true, false} {
		if _, err := New(DefaultConfig(), w, keys{}, registry, slog.Default()); (err == nil) != good {
			t.Errorf("gateway %d on one registry: %v", i, err)
		}
	}
}

func TestServeNeedsItsListener(t *testing.T) {
	w := &worker{}
	w.offer()
	g, err := New(DefaultConfig(), w, keys{}, prometheus.NewRegistry(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Serve(nopListener{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener closed by another: %v", err)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMetricsCountOutcomes(t *testing.T) {
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		switch string(call.Body) {
		case "crash":
			return problem.New(problem.FunctionCrashed, "It crashed.")
		case "corrupt":
			answer.Problem = problem.CorruptInput
		case "teapot":
			answer.Status = 418
		default:
			return echo(call, answer)
		}
		return nil
	}, nil)
	for _, body := range []string{"a", "b", "crash", "corrupt", "teapot"} {
		s.post(t, strings.NewReader(body))
	}
	s.post(t, nil, "Authorization", "Bearer wrong")
	if _, err := s.send("POST", "/function/made-up", nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		function, outcome string
		want              float64
	}{
		{"echo", "ok", 2},
		{"echo", "function-crashed", 1},
		{"echo", "corrupt-input", 1},
		{"echo", "function-error", 1},
		{"", "not-found", 1},
		{"", "unauthenticated", 0}, // the function was known, so the refusal is its own
		{"echo", "unauthenticated", 1},
	} {
		if got := counted(t, s.registry, test.function, test.outcome); got != test.want {
			t.Errorf("%q of %q: counted %v, want %v", test.outcome, test.function, got, test.want)
		}
	}
}

// counted is the value of lightcone_gateway_calls_total with the labels given.
func counted(t *testing.T, registry *prometheus.Registry, function, outcome string) float64 {
	t.Helper()
	return gathered(t, registry, "lightcone_gateway_calls_total", map[string]string{"function": function, "outcome": outcome})
}

// gathered is a counter's or gauge's value; 0 if there is none with these labels.
func gathered(t testing.TB, registry *prometheus.Registry, name string, want map[string]string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetName() == name && maps.Equal(labels, want) {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func TestBufferClasses(t *testing.T) {
	last := -1
	for n := 1; n <= 1<<20; n += 511 {
		class, size := classOf(n)
		if size < n || class < last {
			t.Fatalf("%d bytes: class %d of %d bytes after class %d", n, class, size, last)
		}
		last = class
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1<<30).Draw(t, "n")
		class, size := classOf(n)
		if size < n || size > max(4096, n+n/4) || class >= classes {
			t.Fatalf("%d bytes: class %d of %d bytes", n, class, size)
		}
		if again, same := classOf(size); again != class || same != size {
			t.Fatalf("%d bytes go to class %d of %d bytes, which goes to class %d", n, class, size, again)
		}
	})
}

// TestBodyReaderKeepsItsReservations reads chunked bodies in random pieces under
// random limits: what is reserved is what the buffer holds, whatever happens.
func TestBodyReaderKeepsItsReservations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(0, 400<<10).Draw(t, "length")
		limit := rapid.IntRange(1, 400<<10).Draw(t, "limit")
		b := &budget{limit: int64(rapid.IntRange(0, 2<<20).Draw(t, "budget"))}
		sent := strings.Repeat("x", length)
		reader := bodyReader{stream: strings.NewReader(sent), arm: func(time.Time) error { return nil }, memory: &holding{budget: b}, stall: time.Hour, limit: limit}
		body, n, err := reader.read(chunked)
		held := int64(0)
		if body != nil {
			held = int64(len(body.bytes))
		}
		if b.used.Load() != held {
			t.Fatalf("%d bytes reserved for a buffer of %d", b.used.Load(), held)
		}
		switch {
		case err == nil:
			if length > limit || string(body.bytes[:n]) != sent {
				t.Fatalf("read %d of %d bytes under a limit of %d", n, length, limit)
			}
		case problem.Of(err).Kind == problem.TooLarge:
			if length <= limit {
				t.Fatalf("%d bytes are over the limit of %d", length, limit)
			}
		case problem.Of(err).Kind != problem.Overloaded:
			t.Fatal(err)
		}
	})
}

func TestDiscardStopsAtItsBound(t *testing.T) {
	arm := func(time.Time) error { return nil }
	for _, test := range []struct {
		name   string
		stream io.Reader
		left   int
		want   bool
	}{
		{"nothing left", nil, 0, true},
		{"all of it", strings.NewReader("abc"), 3, true},
		{"cut short", strings.NewReader("ab"), 3, false},
		{"too much", strings.NewReader("abc"), drainBytes + 1, false},
		{"of unknown length", strings.NewReader("abc"), chunked, false},
	} {
		if got := discard(test.stream, test.left, arm); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
