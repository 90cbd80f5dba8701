package gateway

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/functions"
	"lightcone/gateway/admission"
	"lightcone/gateway/quarantine"
	"lightcone/internal/document/embedded"
	"lightcone/internal/problem"
)

// TestDeadlyInputIsNotRunAgain: what killed two slots is answered 422 and not run;
// what only failed, or took too long, is run as often as it comes.
func TestDeadlyInputIsNotRunAgain(t *testing.T) {
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	book, err := quarantine.New(quarantine.DefaultConfig(), store, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	rules := admission.DefaultConfig()
	rules.Breaker.Calls, rules.Breaker.Crashes = 32, 32 // the tenant's own breaker is not what this is about
	tenants, err := admission.NewTable(rules, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		runs.Add(1)
		if kind := problem.Kind(call.Query); kind != "" {
			return problem.New(kind, "A sentence.")
		}
		return echo(call, answer)
	}, func(c *Config) { c.Quarantine, c.Tenants = book, tenants })
	for _, test := range []struct {
		kind   problem.Kind
		deadly bool
	}{
		{problem.FunctionCrashed, true}, {problem.OutOfMemory, true},
		{problem.DeadlineExceeded, false}, {problem.FunctionFailed, false}, {problem.WorkerLost, false}, {"", false},
	} {
		runs.Store(0)
		for call := range 4 {
			var body io.Reader = strings.NewReader("an input")
			if call == 3 {
				body = io.MultiReader(body) // chunked
			}
			got, err := s.send("POST", "/function/echo?"+string(test.kind), body)
			if err != nil {
				t.Fatal(err)
			}
			if refused := got.status == 422; refused != (test.deadly && call >= 2) || got.closes {
				t.Errorf("%q, call %d: %d %s", test.kind, call, got.status, got.body)
			} else if refused {
				checkDocument(t, got, problem.Quarantined)
				if got.header.Get("X-Lightcone-Error") != string(platform) || got.header.Get("Server-Timing") != "" {
					t.Errorf("headers of a call that was not run: %v", got.header)
				}
			}
		}
		if want := map[bool]int64{true: 2, false: 4}[test.deadly]; runs.Load() != want {
			t.Errorf("%q was run %d times, want %d", test.kind, runs.Load(), want)
		}
		if got, err := s.send("POST", "/function/echo?"+string(test.kind), strings.NewReader("an inpvt")); err != nil || got.status == 422 {
			t.Errorf("%q: another input of the same length and query: %v, %v", test.kind, got, err)
		}
	}
	if got := counted(t, s.registry, "echo", string(problem.Quarantined)); got != 4 {
		t.Errorf("%v calls counted as quarantined, want 4", got)
	}
}
