package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lightcone/internal/problem"
)

// hasty is patient enough for a test's server.
var hasty = Policy{Attempts: 4, Base: time.Millisecond, Cap: 5 * time.Millisecond, LongestAsk: 5 * time.Second}

// startServer serves handler, and makes a client that calls it.
func startServer(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newClient(t, Options{API: server.URL, Key: "lc_demo_secret", Policy: hasty, Parallel: 4})
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// callEcho calls the function echo and gives back what came.
func callEcho(ctx context.Context, c *Client, input string) (string, Answer, error) {
	var got strings.Builder
	answer, err := c.Call(ctx, "echo", url.Values{"width": {"300"}}, BytesInput([]byte(input)), func(_ Answer, body io.Reader) error {
		got.Reset()
		_, err := io.Copy(&got, body)
		return err
	})
	return got.String(), answer, err
}

// refuse answers with a problem document.
func refuse(w http.ResponseWriter, status int, kind problem.Kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"urn:lightcone:problem:%s","status":%d,"detail":%q}`, kind, status, detail)
}

// drop closes the connection under the answer.
func drop(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func TestCall(t *testing.T) {
	c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got := []string{r.Method, r.URL.String(), r.Header.Get("Authorization"), r.Header.Get("X-Timeout"), r.Header.Get("Content-Type"), fmt.Sprint(r.ContentLength)}
		want := []string{"POST", "/function/echo?width=300", "Bearer lc_demo_secret", "2s", "text/plain; charset=utf-8", "5"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the request:\n%s", diff)
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Call-Id", "01J000")
		w.Header().Set("Server-Timing", "queue;dur=0.5, exec;dur=8, cpu;dur=7")
		fmt.Fprintf(w, "<%s>", body)
	})
	c.timeout = 2 * time.Second
	got, answer, err := callEcho(t.Context(), c, "hello")
	if err != nil || got != "<hello>" {
		t.Fatalf("got %q, %v", got, err)
	}
	want := Answer{
		Status: 200, ContentType: "text/plain", CallID: "01J000", BytesIn: 5, BytesOut: 7, Attempts: 1,
		Queue: time.Millisecond / 2, Exec: 8 * time.Millisecond, CPU: 7 * time.Millisecond,
	}
	if diff := cmp.Diff(want, answer, cmpopts.IgnoreFields(Answer{}, "Took")); diff != "" {
		t.Error(diff)
	}
	if answer.Took <= 0 {
		t.Errorf("the call took %v", answer.Took)
	}
}

// TestAnswerWorthRetrying meets servers that fail the first times.
func TestAnswerWorthRetrying(t *testing.T) {
	for _, test := range []struct {
		name     string
		failures int64
		fail     func(w http.ResponseWriter)
	}{
		{"shed", 2, func(w http.ResponseWriter) { refuse(w, 503, problem.Overloaded, "Busy.") }},
		{"over the limit", 2, func(w http.ResponseWriter) { refuse(w, 429, problem.LimitReached, "Slower.") }},
		{"dropped before the answer", 1, drop},
		{"dropped in the answer", 2, func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half of it")
			_ = http.NewResponseController(w).Flush()
			drop(w)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int64
			c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if requests.Add(1) <= test.failures {
					test.fail(w)
					return
				}
				_, _ = w.Write(body)
			})
			got, answer, err := callEcho(t.Context(), c, "hello")
			if err != nil || got != "hello" {
				t.Fatalf("got %q, %v", got, err)
			}
			if want := int(test.failures) + 1; answer.Attempts != want || c.Retries() != test.failures {
				t.Errorf("%d attempts and %d retries, want %d and %d", answer.Attempts, c.Retries(), want, test.failures)
			}
		})
	}
}

func TestFinalAnswersAreNotRetried(t *testing.T) {
	for _, test := range []struct {
		status int
		kind   problem.Kind
	}{
		{400, problem.BadParameter}, {401, problem.Unauthenticated}, {422, problem.CorruptInput},
		{502, problem.FunctionCrashed}, {504, problem.DeadlineExceeded},
	} {
		var requests atomic.Int64
		c := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.Header().Set("X-Call-Id", "01J000")
			refuse(w, test.status, test.kind, "No, because.")
		})
		_, _, err := callEcho(t.Context(), c, "hello")
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			t.Fatalf("%d: error %v, want a refusal", test.status, err)
		}
		want := Refusal{Status: test.status, Kind: test.kind, Detail: "No, because.", CallID: "01J000"}
		if diff := cmp.Diff(want, *refusal); diff != "" {
			t.Error(diff)
		}
		if text, want := err.Error(), fmt.Sprintf("No, because. (%d %s, call 01J000)", test.status, test.kind); text != want {
			t.Errorf("reads %q, want %q", text, want)
		}
		if requests.Load() != 1 {
			t.Errorf("%d: asked %d times", test.status, requests.Load())
		}
	}
}

func TestAttemptsEnd(t *testing.T) {
	var requests atomic.Int64
	c := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		refuse(w, 503, problem.Overloaded, "Busy.")
	})
	_, answer, err := callEcho(t.Context(), c, "hello")
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Status != 503 {
		t.Errorf("error %v, want the last refusal", err)
	}
	if requests.Load() != int64(hasty.Attempts) || answer.Attempts != hasty.Attempts {
		t.Errorf("asked %d times in %d attempts, want %d", requests.Load(), answer.Attempts, hasty.Attempts)
	}
}

func TestBudgetSparesAServerThatShedsEverything(t *testing.T) {
	var requests atomic.Int64
	c := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		refuse(w, 503, problem.Overloaded, "Busy.")
	})
	const calls = 100
	for range calls {
		if _, _, err := callEcho(t.Context(), c, "hello"); err == nil {
			t.Fatal("a call succeeded")
		}
	}
	if most := int64(calls + budgetReserve + calls*budgetShare); requests.Load() > most {
		t.Errorf("%d requests for %d calls, want at most %d", requests.Load(), calls, most)
	}
}

// TestRetryAfterHoldsBackEveryCall: one call learns that the server wants a
// second, and the next does not even ask before it is over.
func TestRetryAfterHoldsBackEveryCall(t *testing.T) {
	var refused atomic.Int64
	var early atomic.Bool
	c := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if at := refused.Load(); at == 0 {
			refused.Store(time.Now().UnixNano())
			w.Header().Set("Retry-After", "1")
			refuse(w, 503, problem.Overloaded, "Busy.")
		} else if time.Since(time.Unix(0, at)) < time.Second {
			early.Store(true)
		}
	})
	c.policy.Attempts = 1
	if _, _, err := callEcho(t.Context(), c, "first"); err == nil {
		t.Fatal("the first call was not refused")
	}
	if _, _, err := callEcho(t.Context(), c, "second"); err != nil {
		t.Fatal(err)
	}
	if early.Load() {
		t.Error("the second call came before the second was over")
	}
}

func TestServerThatComesUpLate(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	patient := hasty
	patient.Attempts, patient.Cap = 1000, 10*time.Millisecond
	c := newClient(t, Options{API: "http://" + address, Policy: patient})

	result := make(chan error, 1)
	go func() {
		_, _, err := callEcho(t.Context(), c, "hello")
		result <- err
	}()
	for c.Retries() < 3 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := <-result; err != nil {
		t.Error(err)
	}
	_ = server.Close()
	<-served
}

func TestNobodyThere(t *testing.T) {
	c := newClient(t, Options{API: "http://127.0.0.1:1", Policy: hasty})
	_, answer, err := callEcho(t.Context(), c, "hello")
	var unreachable *Unreachable
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Errorf("error %v, want Unreachable with the address", err)
	}
	if answer.Attempts != hasty.Attempts {
		t.Errorf("%d attempts, want %d", answer.Attempts, hasty.Attempts)
	}
}

func TestSlowServerIsLeft(t *testing.T) {
	for _, test := range []struct {
		name string
		slow func(w http.ResponseWriter, r *http.Request)
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"half an answer", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // the context ends with the connection only once the body is read
				test.slow(w, r)
			})
			c.timeout, c.slack = 20*time.Millisecond, 30*time.Millisecond
			_, answer, err := callEcho(t.Context(), c, "hello")
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not answer in time") {
				t.Errorf("error %v, want one that says it took too long", err)
			}
			if answer.Attempts != 1 {
				t.Errorf("%d attempts: what ran out of time once would again", answer.Attempts)
			}
		})
	}
}

func TestInterruptedWhileWaitingToRetry(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "4")
		refuse(w, 503, problem.Overloaded, "Busy.")
		cancel()
	})
	began := time.Now()
	if _, _, err := callEcho(ctx, c, "hello"); err == nil {
		t.Error("the call succeeded")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the call went on for %v after it was cancelled", took)
	}
}

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		api string
		ok  bool
	}{
		{"http://127.0.0.1:8080", true}, {"https://functions.example.com/", true},
		{"127.0.0.1:8080", false}, {"ftp://x", false}, {"http://", false}, {"", false}, {"http://[::1", false},
	} {
		if _, err := New(Options{API: test.api}); (err == nil) != test.ok {
			t.Errorf("%q: error %v, want usable = %v", test.api, err, test.ok)
		}
	}
}
