package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/internal/problem"
)

// counter is a server that queues calls, for the client's part of the conversation: the
// real one is tried in cmd/lightcone. Every call is queued, then running, and then what
// its body says: capitals, bad, or dead.
type counter struct {
	mu     sync.Mutex
	calls  map[string]*counted // by idempotency key
	queued int                 // requests to queue
	looks  map[string]int
}

type counted struct {
	id, body string
}

func newCounter() *counter {
	return &counter{calls: make(map[string]*counted), looks: make(map[string]int)}
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method == http.MethodPost {
		c.queued++
		key := r.Header.Get("Idempotency-Key")
		if c.calls[key] == nil {
			c.calls[key] = &counted{id: fmt.Sprintf("0000000000000000000000%04d", len(c.calls)), body: string(body)}
		}
		status := "queued"
		if c.looks[c.calls[key].id] > 1 && string(body) == "dead" {
			status = "dead"
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, documentFor(c.calls[key].id, status))
		return
	}
	id, result := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v1/invocations/"), "/result")
	for _, call := range c.calls {
		if call.id != id {
			continue
		}
		c.looks[id]++
		switch {
		case result && call.body == "bad":
			refuse(w, 422, problem.CorruptInput, "The image is cut short.")
		case result:
			w.Header().Set("Content-Type", "image/webp")
			fmt.Fprint(w, strings.ToUpper(call.body))
		case r.Method == http.MethodDelete:
			fmt.Fprint(w, documentFor(id, "cancelled"))
		case c.looks[id] == 1:
			fmt.Fprint(w, documentFor(id, "running"))
		case call.body == "dead":
			fmt.Fprint(w, documentFor(id, "dead"))
		default:
			fmt.Fprint(w, documentFor(id, "succeeded"))
		}
		return
	}
	refuse(w, 404, problem.NotFound, "There is no such call.")
}

func documentFor(id, status string) string {
	return fmt.Sprintf(`{"id":%q,"function":"echo","status":%q,"attempts":1,"created_at":"2026-11-28T13:07:45.666659385Z","finished_at":null,"error":"It crashed."}`, id, status)
}

func TestQueuedFolder(t *testing.T) {
	server := newCounter()
	c := startServer(t, server.ServeHTTP)
	in := writeTree(t, map[string]string{"a.jpg": "a", "same.jpg": "a", "b/c.jpg": "c", "bad.jpg": "bad", "dead.jpg": "dead"})
	out := t.TempDir()
	job := QueuedJob{Job: Job{Function: "echo", In: in, Out: out, Parallel: 2}}
	var last Progress
	summary, err := c.RunQueued(t.Context(), job, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a.webp": "A", "same.webp": "A", "b/c.webp": "C"}
	if diff := cmp.Diff(want, readTree(t, out)); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if summary.Total != 5 || summary.Done != 3 || summary.Failed != 2 || summary.Accepted != 5 || summary.Running != 0 || summary.NotTried != 0 {
		t.Errorf("%+v", summary)
	}
	var ended *Ended
	var refusal *Refusal
	if len(summary.Failures) != 2 || !errors.As(summary.Failures[0].Err, &refusal) || refusal.Kind != problem.CorruptInput ||
		!errors.As(summary.Failures[1].Err, &ended) || ended.Invocation.Status != lightcone.InvocationDead || !strings.HasSuffix(ended.Error(), " is dead after 1 attempt, without a result: It crashed.") {
		t.Errorf("failures: %v", summary.Failures)
	}
	if line := last.Line(0); !strings.HasPrefix(line, "[####################] 5/5 · ") || !strings.Contains(line, " · 5 accepted, 0 running, 3 finished, 2 failed · ") {
		t.Errorf("progress: %s", line)
	}
	if len(server.calls) != 4 {
		t.Errorf("%d calls for four different inputs", len(server.calls))
	}
	// The same job again finds what there is, and another series does not.
	summary, err = c.RunQueued(t.Context(), job, func(Progress) {})
	if err != nil || len(server.calls) != 4 {
		t.Errorf("%d calls after the same job again: %v", len(server.calls), err)
	}
	if len(summary.Failures) != 2 || !strings.HasSuffix(summary.Failures[1].Err.Error(), ": It crashed. To run it anew: --series NAME") {
		t.Errorf("failures of the same job again: %v", summary.Failures)
	}
	job.SkipExisting = true
	before := server.queued
	if summary, err := c.RunQueued(t.Context(), job, func(Progress) {}); err != nil || summary.Skipped != 3 || server.queued != before+2 {
		t.Errorf("skipping what exists: %+v, %v, and %d requests", summary, err, server.queued-before)
	}
	job.SkipExisting, job.Series = false, "second"
	if _, err := c.RunQueued(t.Context(), job, func(Progress) {}); err != nil || len(server.calls) != 8 {
		t.Errorf("%d calls after another series: %v", len(server.calls), err)
	}
	// Detached, it only queues.
	var heard sync.Map
	detached := QueuedJob{Job: Job{Function: "echo", In: in, Parallel: 2}, Detach: true, Accepted: func(file string, i Invocation) { heard.Store(file, i.ID) }}
	looks := len(server.looks)
	if summary, err := c.RunQueued(t.Context(), detached, func(Progress) {}); err != nil || summary.Done != 5 || len(server.looks) != looks {
		t.Errorf("detached: %+v, %v", summary, err)
	}
	if a, _ := heard.Load("a.jpg"); a != server.calls[keyOf(t, "", "a")].id {
		t.Errorf("a.jpg is %v", a)
	}
}

func keyOf(t *testing.T, series, content string) string {
	t.Helper()
	key, err := ContentKey(series, "echo", nil, BytesInput([]byte(content)), "")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestInterruptedWaitIsNoFailure(t *testing.T) {
	server := newCounter()
	ctx, interrupt := context.WithCancel(t.Context())
	c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		server.ServeHTTP(w, r)
		if r.Method == http.MethodGet {
			interrupt()
		}
	})
	in := writeTree(t, map[string]string{"a.jpg": "a", "b.jpg": "b"})
	var last Progress
	summary, err := c.RunQueued(ctx, QueuedJob{Job: Job{Function: "echo", In: in, Out: t.TempDir(), Parallel: 2}}, func(p Progress) { last = p })
	if line := last.Line(0); !strings.Contains(line, " calls/s · stopped after ") {
		t.Errorf("progress at the end: %s", line)
	}
	if err != nil || summary.Failed > 0 || summary.NotTried != 2 || !errors.Is(summary.EndedBy, context.Canceled) {
		t.Errorf("%+v, %v", summary, err)
	}
}

func TestOutcomeAndCancel(t *testing.T) {
	c := startServer(t, newCounter().ServeHTTP)
	queue := func(body string) Invocation {
		t.Helper()
		invocation, err := c.Enqueue(t.Context(), "echo", nil, BytesInput([]byte(body)), Queueing{Key: keyOf(t, "", body)})
		if err != nil || invocation.Status != lightcone.InvocationQueued {
			t.Fatalf("%+v, %v", invocation, err)
		}
		return invocation
	}
	var got string
	answer, err := c.Outcome(t.Context(), queue("a").ID, func(_ Answer, body io.Reader) error {
		text, err := io.ReadAll(body)
		got = string(text)
		return err
	})
	if err != nil || got != "A" || answer.ContentType != "image/webp" {
		t.Errorf("%+v %q, %v", answer, got, err)
	}
	if cancelled, err := c.Cancel(t.Context(), queue("b").ID); err != nil || cancelled.Status != lightcone.InvocationCancelled {
		t.Errorf("%+v, %v", cancelled, err)
	}
	var refusal *Refusal
	if _, err := c.Invocation(t.Context(), "../etc"); !errors.As(err, &refusal) || refusal.Kind != problem.NotFound {
		t.Errorf("no id: %v", err)
	}
}

func TestNonsenseAboutAQueuedCall(t *testing.T) {
	for _, body := range []string{"", "null", "{}", "[]", `{"id":"short"}`, strings.Repeat("[", 100_000)} {
		c := startServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		if invocation, err := c.Invocation(t.Context(), "x"); err == nil {
			t.Errorf("%.20q reads as %+v", body, invocation)
		}
	}
}

func TestEndedReadsAsASentence(t *testing.T) {
	said := func(text string) *string { return &text }
	for _, test := range []struct {
		ended Ended
		want  string
	}{
		{Ended{Invocation: Invocation{ID: "1", Status: "cancelled"}}, "The call 1 is cancelled after 0 attempts, without a result."},
		{Ended{Invocation: Invocation{ID: "1", Status: "dead", Attempts: 1, Error: said("It crashed.")}}, "The call 1 is dead after 1 attempt, without a result: It crashed."},
		{Ended{Invocation: Invocation{ID: "1", Status: "dead", Attempts: 4, Error: said("exit 2")}}, "The call 1 is dead after 4 attempts, without a result: exit 2."},
		{Ended{Invocation: Invocation{ID: "1", Status: "cancelled"}, Before: true}, "The call 1 is cancelled after 0 attempts, without a result. To run it anew: --series NAME"},
	} {
		if got := test.ended.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestContentKeysDiffer(t *testing.T) {
	seen := make(map[string]string)
	for _, test := range []struct {
		name, series, function string
		params                 map[string][]string
		content, callback      string
	}{
		{"plain", "", "echo", nil, "a", ""},
		{"content", "", "echo", nil, "b", ""},
		{"series", "s", "echo", nil, "a", ""},
		{"function", "", "resize", nil, "a", ""},
		{"params", "", "echo", map[string][]string{"width": {"3"}}, "a", ""},
		{"callback", "", "echo", nil, "a", "https://example.com"},
		{"shifted", "echo", "", nil, "a", ""},
	} {
		key, err := ContentKey(test.series, lightcone.FunctionName(test.function), test.params, BytesInput([]byte(test.content)), test.callback)
		if err != nil || len(key) != 43 || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("%s: %q, %v", test.name, key, err)
		}
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s have the same key", test.name, other)
		}
		seen[key] = test.name
	}
	if first, again := keyOf(t, "s", "a"), keyOf(t, "s", "a"); first != again {
		t.Errorf("the same call has two keys, %s and %s", first, again)
	}
}

func TestLookAgain(t *testing.T) {
	for _, test := range []struct {
		looks  int
		waited time.Duration
		random float64
		want   time.Duration
	}{
		{1, 0, 0.5, 100 * time.Millisecond}, {1, 0, 0, 75 * time.Millisecond}, {2, 0, 0.5, 150 * time.Millisecond},
		{4, 0, 0.5, 337500 * time.Microsecond}, {5, 0, 0.5, 400 * time.Millisecond}, {100, young - 1, 1, 500 * time.Millisecond},
		{100, young, 0.5, 3 * time.Second}, {1 << 30, time.Hour, 0.5, 3 * time.Second}, {1, time.Hour, 0.5, 100 * time.Millisecond},
	} {
		if got := lookAgain(test.looks, test.waited, test.random); got != test.want {
			t.Errorf("after %d looks in %v with %v: %v, want %v", test.looks, test.waited, test.random, got, test.want)
		}
	}
}

func TestRepeatedCalls(t *testing.T) {
	for _, test := range []struct {
		accepted Invocation
		repeated bool
	}{
		{Invocation{Status: lightcone.InvocationQueued}, false},
		{Invocation{Status: lightcone.InvocationQueued, Attempts: 1}, true},
		{Invocation{Status: lightcone.InvocationRunning, Attempts: 1}, true},
		{Invocation{Status: lightcone.InvocationSucceeded, Attempts: 1}, true},
	} {
		if got := test.accepted.Repeated(); got != test.repeated {
			t.Errorf("%+v is repeated: %v", test.accepted, got)
		}
	}
}
