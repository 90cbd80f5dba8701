package gateway

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/usage"
)

// book is a real ledger in a folder of the test's.
type book struct {
	*usage.Ledger
	store string
}

func openBook(t testing.TB, change func(*usage.Config)) *book {
	t.Helper()
	dir := t.TempDir()
	b := &book{store: filepath.Join(dir, "store")}
	config := usage.Config{
		Dir: filepath.Join(dir, "ledger"), Node: "gw-1", Bucket: "file://" + b.store,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&config)
	}
	var err error
	if b.Ledger, err = usage.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing is waited for: some of these buckets are away
		_ = b.Stop(ctx)
	})
	return b
}

// closed stops the ledger, and answers what has come of it: the records by call, and
// how many calls it counted as answered.
func (b *book) closed(t *testing.T) (records map[string]lightcone.UsageRecord, answered int64) {
	t.Helper()
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	records = make(map[string]lightcone.UsageRecord)
	err := filepath.WalkDir(b.store, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		key, err := filepath.Rel(b.store, name)
		if err != nil {
			return err
		}
		if _, _, isCounts := usage.ParseCountsKey(key); isCounts {
			counts, err := usage.ParseCounts(content)
			answered += counts.Answered
			return err
		}
		object, ok := usage.ParseObject(key)
		if !ok {
			t.Errorf("%s is nothing that a ledger writes", key)
		}
		return usage.Decode(content, object, func(row *usage.Row) error {
			r := row.Record()
			if _, twice := records[r.Call.String()]; twice {
				t.Errorf("call %s has two records", r.Call)
			}
			records[r.Call.String()] = r
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, answered
}

// TestWhatIsRecordedOfCalls: a call that a function has seen has one record, with what
// the answer's headers say, unless the platform lost it.
func TestWhatIsRecordedOfCalls(t *testing.T) {
	b := openBook(t, nil)
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		if err := echo(call, answer); err != nil {
			return err
		}
		switch string(call.Body) {
		case "teapot":
			answer.Status = http.StatusTeapot
		case "corrupt":
			answer.Problem, answer.Body = problem.CorruptInput, []byte("Damaged.")
		case "crash":
			return problem.New(problem.FunctionCrashed, "It died.")
		case "memory":
			return problem.New(problem.OutOfMemory, "It outgrew its memory.")
		case "late":
			return problem.New(problem.DeadlineExceeded, "It took too long.")
		case "lost":
			return problem.New(problem.WorkerLost, "It is gone.")
		case "bug":
			return errors.New("a bug of ours")
		}
		return nil
	}, func(c *Config) { c.Ledger = b })
	used := func(in, out int64) lightcone.Usage {
		return lightcone.Usage{CPU: 1500 * time.Microsecond, BytesIn: in, BytesOut: out}
	}
	want := make(map[string]lightcone.UsageRecord)
	for _, test := range []struct {
		body    string
		status  int
		outcome lightcone.Outcome // "" = it has no record
		used    lightcone.Usage
	}{
		{"hello", 200, lightcone.OutcomeAnswered, used(5, 5)},
		{"", 200, lightcone.OutcomeAnswered, used(0, 0)},
		{"teapot", 418, lightcone.OutcomeAnswered, used(6, 6)},
		{"corrupt", 422, lightcone.OutcomeAnswered, used(7, 8)},
		{"crash", 502, lightcone.OutcomeFailed, used(5, 0)},
		{"memory", 502, lightcone.OutcomeFailed, used(6, 0)},
		{"late", 504, lightcone.OutcomeTimeout, used(4, 0)},
		{"lost", 502, "", lightcone.Usage{}},
		{"bug", 500, "", lightcone.Usage{}},
	} {
		got := s.post(t, strings.NewReader(test.body))
		if got.status != test.status {
			t.Errorf("%q: got %d %s", test.body, got.status, got.body)
		}
		if timing := got.header.Get("Server-Timing"); test.outcome != "" && !strings.HasSuffix(timing, "cpu;dur=1.500") {
			t.Errorf("%q: Server-Timing is %q", test.body, timing)
		}
		if test.outcome != "" {
			id, err := lightcone.ParseCallID(got.header.Get("X-Call-Id"))
			if err != nil {
				t.Fatal(err)
			}
			want[id.String()] = lightcone.UsageRecord{Call: id, Tenant: "demo", Function: "echo", Outcome: test.outcome, Used: test.used, Start: id.Time().UTC()}
		}
	}
	for _, refused := range []*reply{
		s.post(t, nil, "Authorization", "Bearer wrong"),
		s.post(t, strings.NewReader("a"), "X-Timeout", "1 fortnight"),
		s.request(t, "POST", "/function/made-up", nil),
		s.request(t, "POST", "/function/forbidden", nil),
	} {
		if refused.status < 400 {
			t.Errorf("got %d %s", refused.status, refused.body)
		}
	}
	s.stop(t)
	got, answered := b.closed(t)
	for id, r := range got {
		if r.Duration <= 0 || r.Duration > patience {
			t.Errorf("call %s took %v", id, r.Duration)
		}
		r.Duration = 0
		got[id] = r
	}
	if difference := cmp.Diff(want, got); difference != "" || answered != int64(len(want)) {
		t.Errorf("%d answered of %d (-want +got):\n%s", answered, len(want), difference)
	}
}

// TestAQueuedCallIsTheWorkersToRecord: the gateway has only accepted it.
func TestAQueuedCallIsTheWorkersToRecord(t *testing.T) {
	b := openBook(t, nil)
	s, _ := queued(t, nil, func(c *Config) { c.Ledger = b })
	if got := s.request(t, "POST", "/async-function/echo", strings.NewReader("a")); got.status != 202 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	s.stop(t)
	if got, answered := b.closed(t); len(got) != 0 || answered != 0 {
		t.Errorf("%d answered, recorded %+v", answered, got)
	}
}

// TestAFullLedgerTakesNoCalls fills a ledger whose bucket is away.
func TestAFullLedgerTakesNoCalls(t *testing.T) {
	b := openBook(t, func(c *usage.Config) { c.SealBytes, c.MaxDiskBytes = 64<<10, 256<<10 })
	if err := os.RemoveAll(b.store); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.store, nil, 0o600); err != nil { // a file where the folder was
		t.Fatal(err)
	}
	s, _ := queued(t, nil, func(c *Config) { c.Ledger = b })
	if got := s.post(t, strings.NewReader("a")); got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	r := lightcone.UsageRecord{Tenant: "demo", Function: "echo", Outcome: lightcone.OutcomeAnswered, Start: time.Now()}
	eventually(t, "a full ledger", func() bool {
		for range 100 {
			if b.Full() == nil {
				_ = b.Append(&r)
			}
		}
		return b.Full() != nil
	})
	for _, path := range []string{"/function/echo", "/async-function/echo"} {
		got := s.request(t, "POST", path, strings.NewReader("a"))
		if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "write down") {
			t.Errorf("%s: got %d %q %s", path, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
}

// TestRecordingAllocatesNothing: what the ledger adds to a call is not for the collector.
func TestRecordingAllocatesNothing(t *testing.T) {
	record := newBenchRecord(t)
	if n := testing.AllocsPerRun(2000, record); n > 0 {
		t.Errorf("recording a call allocates %v times", n)
	}
}

// BenchmarkRecord is all that the ledger adds to a call.
func BenchmarkRecord(b *testing.B) {
	record := newBenchRecord(b)
	b.ReportAllocs()
	for b.Loop() {
		record()
	}
}

// newBenchRecord returns what records one answered call.
func newBenchRecord(t testing.TB) func() {
	book := openBook(t, nil)
	config := DefaultConfig()
	config.Ledger = book
	w := &worker{run: echo}
	w.offer(echoOffer(1))
	g, err := New(config, w, keys{}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := &call{request: functions.Call{ID: g.newCallID(), Tenant: "demo", Function: "echo", Body: make([]byte, 100)}}
	c.answer = functions.Answer{Status: 200, Body: make([]byte, 100), CPU: time.Millisecond}
	return func() {
		if err := g.writable(); err != nil {
			t.Fatal(err)
		}
		if !g.record(c, time.Now(), true, nil) {
			t.Fatal("not recorded")
		}
		g.answered(c.record.Start)
	}
}
