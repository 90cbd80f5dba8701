package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// TestStatuses says what each request or outcome is answered with.
func TestStatuses(t *testing.T) {
	var outcome func(*functions.Answer) error
	s := serve(t, 2, func(call *functions.Call, answer *functions.Answer) error { return outcome(answer) }, nil)
	said := func(status int, body string) func(*functions.Answer) error {
		return func(a *functions.Answer) error { a.Status, a.Body = status, append(a.Body[:0], body...); return nil }
	}
	named := func(kind problem.Kind) func(*functions.Answer) error {
		return func(a *functions.Answer) error {
			a.Problem, a.Status, a.Body = kind, 500, append(a.Body[:0], "A sentence."...)
			return nil
		}
	}
	fails := func(kind problem.Kind) func(*functions.Answer) error {
		return func(*functions.Answer) error { return problem.New(kind, "A sentence.") }
	}
	const call = "/function/echo"
	for _, test := range []struct {
		name         string
		method, path string
		header       []string
		outcome      func(*functions.Answer) error
		status       int
		kind         problem.Kind
		blame        blame
		ran          bool
	}{
		{"good", "POST", call, nil, said(200, "ok"), 200, "", "", true},
		{"created", "POST", call, nil, said(201, "ok"), 201, "", "", true},
		{"no content", "POST", call, nil, said(204, ""), 204, "", "", true},
		{"the function's own 404", "POST", call, nil, said(404, "no"), 404, "", function, true},
		{"the function's own 429", "POST", call, nil, said(429, "no"), 429, "", function, true},
		{"the function's own 503", "POST", call, nil, said(503, "no"), 503, "", function, true},
		{"a status of nothing", "POST", call, nil, said(0, ""), 502, problem.FunctionFailed, function, true},
		{"an interim status", "POST", call, nil, said(100, ""), 502, problem.FunctionFailed, function, true},

		{"named bad-parameter", "POST", call, nil, named(problem.BadParameter), 400, problem.BadParameter, function, true},
		{"named too-large", "POST", call, nil, named(problem.TooLarge), 413, problem.TooLarge, function, true},
		{"named unsupported-media", "POST", call, nil, named(problem.UnsupportedMedia), 415, problem.UnsupportedMedia, function, true},
		{"named corrupt-input", "POST", call, nil, named(problem.CorruptInput), 422, problem.CorruptInput, function, true},
		{"named too-many-pixels", "POST", call, nil, named(problem.TooManyPixels), 422, problem.TooManyPixels, function, true},
		{"named deadline-exceeded", "POST", call, nil, named(problem.DeadlineExceeded), 504, problem.DeadlineExceeded, function, true},
		{"named what is not its to name", "POST", call, nil, named(problem.Unauthenticated), 502, problem.FunctionFailed, function, true},
		{"named nonsense", "POST", call, nil, named("nonsense"), 502, problem.FunctionFailed, function, true},

		{"crashed", "POST", call, nil, fails(problem.FunctionCrashed), 502, problem.FunctionCrashed, function, true},
		{"out of memory", "POST", call, nil, fails(problem.OutOfMemory), 502, problem.OutOfMemory, function, true},
		{"failed", "POST", call, nil, fails(problem.FunctionFailed), 502, problem.FunctionFailed, function, true},
		{"past its deadline", "POST", call, nil, fails(problem.DeadlineExceeded), 504, problem.DeadlineExceeded, function, true},
		{"a plain error", "POST", call, nil, func(*functions.Answer) error { return errors.New("a secret path") }, 500, problem.Internal, platform, true},

		{"no key", "POST", call, []string{"Authorization", ""}, nil, 401, problem.Unauthenticated, platform, false},
		{"a wrong key", "POST", call, []string{"Authorization", "Bearer other"}, nil, 401, problem.Unauthenticated, platform, false},
		{"another scheme", "POST", call, []string{"Authorization", "Basic " + testKey}, nil, 401, problem.Unauthenticated, platform, false},
		{"out of scope", "POST", "/function/forbidden", nil, nil, 403, problem.Forbidden, platform, false},
		{"no such function", "POST", "/function/nope", nil, nil, 404, problem.NotFound, platform, false},
		{"no name", "POST", "/function/", nil, nil, 404, problem.NotFound, platform, false},
		{"too long a path", "POST", "/function/echo/more", nil, nil, 404, problem.NotFound, platform, false},
		{"an escaped name", "POST", "/function/%65cho", nil, nil, 404, problem.NotFound, platform, false},
		{"the root", "GET", "/", nil, nil, 404, problem.NotFound, platform, false},
		{"a call by GET", "GET", call, nil, nil, 405, problem.MethodNotAllowed, platform, false},
		{"a call by DELETE", "DELETE", call, nil, nil, 405, problem.MethodNotAllowed, platform, false},
		{"health by POST", "POST", "/healthz", nil, nil, 405, problem.MethodNotAllowed, platform, false},
		{"health with a body", "GET", "/healthz", nil, nil, 400, problem.BadParameter, platform, false},
		{"a timeout too long", "POST", call, []string{"X-Timeout", "21s"}, nil, 400, problem.BadParameter, platform, false},
		{"no timeout at all", "POST", call, []string{"X-Timeout", "0s"}, nil, 400, problem.BadParameter, platform, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			outcome = test.outcome
			got, err := s.send(test.method, test.path, strings.NewReader("body"), test.header...)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != test.status {
				t.Errorf("status: got %d, want %d", got.status, test.status)
			}
			if len(got.header.Get("X-Call-Id")) != 26 {
				t.Errorf("X-Call-Id is %q", got.header.Get("X-Call-Id"))
			}
			if ran := got.header.Get("Server-Timing") != ""; ran != test.ran {
				t.Errorf("Server-Timing is %q, and the function ran: %v", got.header.Get("Server-Timing"), test.ran)
			}
			if diff := cmp.Diff(string(test.blame), got.header.Get("X-Lightcone-Error")); diff != "" {
				t.Errorf("X-Lightcone-Error (-want +got):\n%s", diff)
			}
			for status, header := range map[int]string{401: "Www-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"} {
				if got.status == status && got.header.Get(header) == "" {
					t.Errorf("a %d without %s", status, header)
				}
			}
			if test.kind != "" {
				checkDocument(t, got, test.kind)
			}
			if strings.Contains(got.body, "secret") {
				t.Errorf("the cause leaks: %s", got.body)
			}
		})
	}
}

// checkDocument checks that an answer is the problem document of kind.
func checkDocument(t *testing.T, got *reply, kind problem.Kind) {
	t.Helper()
	var document document
	if err := json.Unmarshal([]byte(got.body), &document); err != nil {
		t.Fatalf("%q is no document: %v", got.body, err)
	}
	if want := "urn:lightcone:problem:" + string(kind); document.Type != want || document.Status != got.status ||
		got.header.Get("Content-Type") != "application/problem+json" ||
		document.Instance != "urn:lightcone:call:"+got.header.Get("X-Call-Id") || !strings.HasSuffix(document.Detail, ".") {
		t.Errorf("got %+v as %s, want type %s", document, got.header.Get("Content-Type"), want)
	}
}

func TestCallCarriesWhatTheFunctionNeeds(t *testing.T) {
	var got functions.Call
	var remaining time.Duration
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		got, remaining = *call, time.Until(call.Deadline)
		answer.Status, answer.Vary = http.StatusOK, "Accept"
		return nil
	}, nil)
	reply, err := s.send("POST", "/function/echo?width=300&fit=pad", http.NoBody, "Content-Type", "image/png", "Accept", "image/webp",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Timeout", "3s")
	if err != nil {
		t.Fatal(err)
	}
	want := functions.Call{
		ID: got.ID, Deadline: got.Deadline, Function: "echo", Tenant: "demo",
		Query: []byte("width=300&fit=pad"), ContentType: []byte("image/png"), Accept: []byte("image/webp"),
		Traceparent: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
	}
	// The gateway's memory is its own again by now, so only lengths can be compared of what points into it.
	if len(got.Query) != len(want.Query) || len(got.ContentType) != len(want.ContentType) || len(got.Accept) != len(want.Accept) || len(got.Traceparent) != len(want.Traceparent) {
		t.Errorf("got %+v", got)
	}
	if got.Function != want.Function || got.Tenant != want.Tenant || got.Body != nil || got.ID.String() != reply.header.Get("X-Call-Id") {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if remaining <= 2*time.Second || remaining > 3*time.Second {
		t.Errorf("the function had %v left of 3s", remaining)
	}
	if reply.header.Get("Vary") != "Accept" {
		t.Errorf("Vary is %q", reply.header.Get("Vary"))
	}
}

func TestHealthAndReadiness(t *testing.T) {
	s := serve(t, 3, echo, func(c *Config) { c.Details = func() any { return map[string]string{"sandbox": "full"} } })
	get := func(method, path string) *reply {
		t.Helper()
		got, err := s.send(method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := get("GET", "/healthz"); got.status != 200 || got.body != "{\"live\":true}\n" {
		t.Errorf("health: %d %s", got.status, got.body)
	}
	if got := get("HEAD", "/healthz"); got.status != 200 || got.body != "" {
		t.Errorf("health by HEAD: %d %q", got.status, got.body)
	}
	want := `{"ready":true,"functions":[{"name":"echo","slots":3,"waiting":0,"running":0}],"details":{"sandbox":"full"}}` + "\n"
	if got := get("GET", "/readyz"); got.status != 200 || got.body != want {
		t.Errorf("readiness: %d %s", got.status, got.body)
	}
	notReady := errors.New("no slot is up yet")
	s.worker.ready.Store(&notReady)
	if got := get("GET", "/readyz"); got.status != 503 || !strings.Contains(got.body, `"ready":false,"reason":"no slot is up yet"`) || got.header.Get("Retry-After") == "" {
		t.Errorf("unreadiness: %d %s", got.status, got.body)
	}
	s.worker.offer()
	eventually(t, "the function is gone", func() bool { return s.post(t, nil).status == 404 })
}

func TestPanicCostsItsOwnCall(t *testing.T) {
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		if string(call.Body) == "panic" {
			panic("a bug")
		}
		return echo(call, answer)
	}, nil)
	for range 3 {
		got := s.post(t, strings.NewReader("panic"))
		if got.status != 500 {
			t.Fatalf("a panic is answered %d", got.status)
		}
		checkDocument(t, got, problem.Internal)
		if got := s.post(t, strings.NewReader("fine")); got.status != 200 || got.body != "fine" {
			t.Fatalf("after a panic: %d %q", got.status, got.body)
		}
	}
}

func TestBudgetBoundsBytesInFlight(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		if string(call.Query) == "hold" {
			entered <- struct{}{}
			<-leave
		}
		return echo(call, answer)
	}, func(c *Config) { c.MaxBytesInFlight = 2 << 20 })
	held := make(chan *reply, 1)
	go func() {
		got, err := s.send("POST", "/function/echo?hold", strings.NewReader(strings.Repeat("a", 1<<20)))
		if err != nil {
			t.Error(err)
		}
		held <- got
	}()
	<-entered
	for name, body := range map[string]io.Reader{
		"announced": strings.NewReader(strings.Repeat("b", 3<<19)),
		"chunked":   io.MultiReader(strings.NewReader(strings.Repeat("b", 3<<19))),
	} {
		got := s.post(t, body)
		if got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: over the budget: %d %s", name, got.status, got.body)
		}
		checkDocument(t, got, problem.Overloaded)
	}
	close(leave)
	if got := <-held; got.status != 200 || len(got.body) != 1<<20 {
		t.Errorf("the held call: %d with %d bytes", got.status, len(got.body))
	}
}
