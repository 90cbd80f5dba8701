package gateway

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
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

// withBook gives a gateway a book of deadly inputs. The tenant's own breaker is not what
// its tests are about, and does not trip.
func withBook(t *testing.T) func(*Config) {
	t.Helper()
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	book, err := quarantine.New(quarantine.DefaultConfig(), store, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	rules := admission.DefaultConfig()
	rules.Breaker.Calls, rules.Breaker.Crashes = 32, 32
	tenants, err := admission.NewTable(rules, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Quarantine, c.Tenants = book, tenants }
}

// TestDeadlyInputLeavesTheLine: copies that waited while the first ones killed their
// slots are not run when their turn comes; another input behind them is.
func TestDeadlyInputLeavesTheLine(t *testing.T) {
	const copies = 20
	var runs atomic.Int64
	gate := make(chan struct{})
	book := withBook(t)
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		if string(call.Query) != "deadly" {
			return echo(call, answer)
		}
		runs.Add(1)
		<-gate
		return problem.New(problem.FunctionCrashed, "A sentence.")
	}, func(c *Config) { book(c); c.MaxWait = time.Minute })
	lane := (*s.lanes.Load())["echo"]
	var calls sync.WaitGroup
	var refused atomic.Int64
	for i := range copies + 1 {
		query := "deadly"
		if i == copies {
			query = "harmless"
		}
		calls.Go(func() {
			got, err := s.send("POST", "/function/echo?"+query, strings.NewReader("an input"))
			switch {
			case err != nil:
				t.Error(err)
			case got.status == 422:
				refused.Add(1)
			case query == "harmless" && got.status != 200:
				t.Errorf("the call behind them: %d %s", got.status, got.body)
			}
		})
		eventually(t, "the call runs or waits", func() bool { now := lane.report(); return now.Running+now.Waiting == i+1 })
	}
	close(gate)
	calls.Wait()
	if runs.Load() != 2 || refused.Load() != copies-2 {
		t.Errorf("of %d copies, %d were run and %d refused, want 2 run", copies, runs.Load(), refused.Load())
	}
}

// TestDeadlyInputIsNotRunAgain: what killed two slots is answered 422 and not run;
// what only failed, or took too long, is run as often as it comes.
func TestDeadlyInputIsNotRunAgain(t *testing.T) {
	var runs atomic.Int64
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		runs.Add(1)
		kind := problem.Kind(call.Query)
		if kind == "named" { // by the function itself, which goes on
			answer.Problem = problem.FunctionFailed
			return nil
		}
		if kind != "" {
			return problem.New(kind, "A sentence.")
		}
		return echo(call, answer)
	}, withBook(t))
	for _, test := range []struct {
		kind   problem.Kind
		deadly bool
	}{
		{problem.FunctionCrashed, true}, {problem.OutOfMemory, true},
		{problem.FunctionFailed, true}, // as an error: the process was replaced
		{problem.DeadlineExceeded, false}, {"named", false}, {problem.WorkerLost, false}, {"", false},
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
	if got := counted(t, s.registry, "echo", string(problem.Quarantined)); got != 6 {
		t.Errorf("%v calls counted as quarantined, want 6", got)
	}
}
