package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// serveCallersOf is serveCallers with a registry of its own.
func serveCallersOf(t *testing.T, w Worker, callers Callers, change func(*Config)) *served {
	t.Helper()
	return serveCallers(t, w, callers, prometheus.NewRegistry(), change)
}

// request sends one that must be answered.
func (s *served) request(t *testing.T, method, path string, body io.Reader, header ...string) *reply {
	t.Helper()
	got, err := s.send(method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const idle202 = `{"id":"ID","function":"echo","status":"queued","attempts":0,"created_at":"AT","finished_at":null,"error":null}` + "\n"

// checkAccepted checks a 202 whose call nobody has run yet, and answers its id.
func checkAccepted(t *testing.T, got *reply, applied string) string {
	t.Helper()
	id := got.header.Get("X-Call-Id")
	parsed, err := lightcone.ParseCallID(id)
	if err != nil {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	want := strings.NewReplacer("ID", id, "AT", parsed.Time().UTC().Format(time.RFC3339Nano)).Replace(idle202)
	if got.status != 202 || got.body != want {
		t.Errorf("got %d %s, want %s", got.status, got.body, want)
	}
	for name, want := range map[string]string{
		"Location": "/v1/invocations/" + id, "Preference-Applied": applied, "Content-Type": "application/json", "Server-Timing": "", "X-Lightcone-Error": "",
	} {
		if value := got.header.Get(name); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	return id
}

func TestAcceptedCallCarriesWhatTheFunctionNeeds(t *testing.T) {
	s, q := queued(t, nil, nil)
	header := []string{
		"Content-Type", "image/png", "Accept", "image/webp", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"X-Timeout", "3s", "Idempotency-Key", `"one"`, "X-Callback-Url", "https://example.com/done?a=b",
	}
	for _, path := range []string{"/async-function/echo?width=300&fit=pad", "/function/echo?width=300&fit=pad"} {
		for name, body := range map[string]io.Reader{"announced": strings.NewReader("body"), "chunked": io.MultiReader(strings.NewReader("body"))} {
			q.set(func() { clear(q.keys) })
			id := checkAccepted(t, s.request(t, "POST", path, body, append(header, "Prefer", "respond-async")...), "respond-async")
			got := q.last(t)
			want := functions.Queued{
				Call: functions.Call{
					ID: got.Call.ID, Function: "echo", Tenant: "demo", Deadline: got.Call.Deadline, Query: []byte("width=300&fit=pad"), ContentType: []byte("image/png"),
					Accept: []byte("image/webp"), Traceparent: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), Body: []byte("body"),
				},
				Timeout: 3 * time.Second, IdempotencyKey: `"one"`, Callback: "https://example.com/done?a=b",
			}
			if diff := cmp.Diff(want, got); diff != "" || got.Call.ID.String() != id {
				t.Errorf("%s, %s: the call %s (-want +got):\n%s", path, name, id, diff)
			}
		}
	}
	checkAccepted(t, s.request(t, "POST", "/async-function/echo", nil), "respond-async")
	if got := q.last(t); got.Timeout != 5*time.Second || got.IdempotencyKey != "" || got.Callback != "" || len(got.Call.Body) > 0 {
		t.Errorf("a call that says nothing: %+v", got)
	}
	if got := s.post(t, strings.NewReader("now"), "Prefer", "wait=5, return=minimal"); got.status != 200 || got.body != "now" || got.header.Get("Preference-Applied") != "" {
		t.Errorf("a call that waits: %d %q", got.status, got.body)
	}
}

func TestIdempotentRepeatHasTheFirstCallsID(t *testing.T) {
	s, _ := queued(t, nil, nil)
	first := s.request(t, "POST", "/async-function/echo", nil, "Idempotency-Key", "a")
	second := s.request(t, "POST", "/async-function/echo", nil, "Idempotency-Key", "a")
	third := s.request(t, "POST", "/async-function/echo", nil, "Idempotency-Key", strings.Repeat("k", 255))
	if checkAccepted(t, first, "respond-async") != checkAccepted(t, second, "respond-async") {
		t.Errorf("%s, then %s", first.body, second.body)
	}
	if checkAccepted(t, third, "respond-async") == first.header.Get("X-Call-Id") {
		t.Errorf("another key: %s", third.body)
	}
}

// TestBadWishes says what each is refused with, and that the queue never hears of it.
func TestBadWishes(t *testing.T) {
	s, q := queued(t, nil, func(c *Config) {
		c.CheckCallback = func(url string) error {
			if strings.Contains(url, "10.0.0.1") {
				return problem.New(problem.BadParameter, "X-Callback-Url: private addresses are not called.")
			}
			return nil
		}
	})
	const queue, wait = "/async-function/echo", "/function/echo"
	for _, test := range []struct {
		name, path string
		header     []string
		status     int
		kind       problem.Kind
		names      string
	}{
		{"a wait in the past", queue, []string{"Prefer", "wait=-1"}, 400, problem.BadParameter, `wait is \"-1\"`},
		{"a wait in words", queue, []string{"Prefer", "wait=abc"}, 400, problem.BadParameter, `wait is \"abc\"`},
		{"a bad wait of a call that waits", wait, []string{"Prefer", "wait=-1"}, 400, problem.BadParameter, `wait is \"-1\"`},
		{"no list", wait, []string{"Prefer", "respond-async wait=1"}, 400, problem.BadParameter, "Prefer"},
		{"a key of 10 KB", queue, []string{"Idempotency-Key", strings.Repeat("k", 10<<10)}, 400, problem.BadParameter, "10240 bytes"},
		{"a key of 256", queue, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, problem.BadParameter, "Idempotency-Key"},
		{"an empty key", queue, []string{"Idempotency-Key", ""}, 400, problem.BadParameter, "Idempotency-Key"},
		{"a key with a space", queue, []string{"Idempotency-Key", "a b"}, 400, problem.BadParameter, "Idempotency-Key"},
		{"a key beyond ASCII", queue, []string{"Idempotency-Key", "schlüssel"}, 400, problem.BadParameter, "Idempotency-Key"},
		{"a key for a call that waits", wait, []string{"Idempotency-Key", "a"}, 400, problem.BadParameter, "Prefer: respond-async"},
		{"a callback for a call that waits", wait, []string{"X-Callback-Url", "https://example.com"}, 400, problem.BadParameter, "Prefer: respond-async"},
		{"a callback to nowhere", queue, []string{"X-Callback-Url", ""}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback without a scheme", queue, []string{"X-Callback-Url", "example.com/done"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback by FTP", queue, []string{"X-Callback-Url", "ftp://example.com"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback to a file", queue, []string{"X-Callback-Url", "file:///etc/passwd"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback without a host", queue, []string{"X-Callback-Url", "https:///done"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback to a port alone", queue, []string{"X-Callback-Url", "https://:443/done"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback to port 0", queue, []string{"X-Callback-Url", "https://example.com:0/"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback to no port", queue, []string{"X-Callback-Url", "https://example.com:65536/"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback with a space", queue, []string{"X-Callback-Url", "https://example.com/a b"}, 400, problem.BadParameter, "X-Callback-Url"},
		{"a callback with a fragment", queue, []string{"X-Callback-Url", "https://example.com/#here"}, 400, problem.BadParameter, "fragment"},
		{"a callback with an empty fragment", queue, []string{"X-Callback-Url", "https://example.com/#"}, 400, problem.BadParameter, "fragment"},
		{"a callback with a password", queue, []string{"X-Callback-Url", "https://me:secret@example.com/"}, 400, problem.BadParameter, "signed"},
		{"a callback that is too long", queue, []string{"X-Callback-Url", "https://example.com/" + strings.Repeat("a", 2048)}, 400, problem.BadParameter, "at most 2048"},
		{"a callback to a forbidden host", queue, []string{"X-Callback-Url", "http://10.0.0.1/"}, 400, problem.BadParameter, "private addresses are not called"},
		{"a timeout too long", queue, []string{"X-Timeout", "21s"}, 400, problem.BadParameter, "X-Timeout"},
		{"no key", queue, []string{"Authorization", ""}, 401, problem.Unauthenticated, ""},
		{"out of scope", "/async-function/forbidden", nil, 403, problem.Forbidden, ""},
		{"no such function", "/async-function/nope", nil, 404, problem.NotFound, "nope"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := s.request(t, "POST", test.path, strings.NewReader("body"), test.header...)
			if got.status != test.status || !strings.Contains(got.body, test.names) {
				t.Errorf("got %d %s, want %d and %q", got.status, got.body, test.status, test.names)
			}
			checkDocument(t, got, test.kind)
			if strings.Contains(got.body, "secret") {
				t.Errorf("a password is repeated: %s", got.body)
			}
		})
	}
	for _, twice := range []string{"Idempotency-Key: a\nIdempotency-Key: a\n", "X-Callback-Url: https://a.example\nX-Callback-Url: https://b.example\n"} {
		client := s.dial(t)
		client.say("POST /async-function/echo HTTP/1.1\nKEY\n" + twice + "Content-Length: 0\n\n")
		if got := client.hear(); got.status != 400 {
			t.Errorf("%q: %d %s", twice, got.status, got.body)
		}
	}
	large := s.request(t, "POST", queue, strings.NewReader(strings.Repeat("a", 20<<20+1)))
	if large.status != 413 {
		t.Errorf("a body over the limit: %d", large.status)
	}
	if len(q.accepted) > 0 {
		t.Errorf("the queue got %+v", q.accepted)
	}
}

func TestPreferInSeveralLines(t *testing.T) {
	s, _ := queued(t, nil, nil)
	client := s.dial(t)
	client.say("POST /function/echo HTTP/1.1\nKEY\nPrefer: return=minimal\nprefer: Respond-Async; x=\"y\"\nPREFER: wait=0\nContent-Length: 4\n\nbody")
	checkAccepted(t, client.hear(), "respond-async, wait=0")
}

// TestQueueRefuses: what the queue says of a call is what its client hears.
func TestQueueRefuses(t *testing.T) {
	s, q := queued(t, nil, nil)
	share := problem.New(problem.LimitReached, "The tenant demo has as many calls in the queue as it may.")
	share.Quota, share.RetryAfter = "queued_calls", 7*time.Second
	for _, test := range []struct {
		refusal error
		status  int
		kind    problem.Kind
	}{
		{problem.New(problem.Overloaded, "The queue has no quorum."), 503, problem.Overloaded},
		{share, 429, problem.LimitReached},
		{problem.New(problem.KeyReused, "This Idempotency-Key came with another call."), 422, problem.KeyReused},
		{errors.New("a secret path"), 500, problem.Internal},
	} {
		q.set(func() { q.refusal = test.refusal })
		got := s.request(t, "POST", "/async-function/echo", strings.NewReader("body"), "Prefer", "wait=5")
		checkDocument(t, got, test.kind)
		if got.status != test.status || (got.status == 429 || got.status == 503) != (got.header.Get("Retry-After") != "") || strings.Contains(got.body, "secret") {
			t.Errorf("%v: %d %v %s", test.refusal, got.status, got.header, got.body)
		}
		if got.header.Get("Location")+got.header.Get("Preference-Applied") != "" {
			t.Errorf("%v: a refusal reads like a 202: %v", test.refusal, got.header)
		}
	}
	if counts := counted(t, s.registry, "echo", "key-reused"); counts != 1 {
		t.Errorf("counted %v", counts)
	}
}

func TestNoQueue(t *testing.T) {
	s := serve(t, 1, echo, nil)
	for _, test := range []struct {
		method, path, prefer string
		status               int
	}{
		{"POST", "/async-function/echo", "", 404},
		{"POST", "/function/echo", "respond-async", 400},
		{"POST", "/function/echo", "wait=3", 200},
		{"GET", "/v1/invocations/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", 404},
		{"GET", "/v1/invocations/01ARZ3NDEKTSV4RRFFQ69G5FAV/result", "", 404},
		{"DELETE", "/v1/invocations/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", 404},
	} {
		got := s.request(t, test.method, test.path, nil, "Prefer", test.prefer)
		if got.status != test.status || got.status != 200 && !strings.Contains(got.body, "has no queue") {
			t.Errorf("%s %s: %d %s", test.method, test.path, got.status, got.body)
		}
	}
}

func TestMetricsCountAcceptedCalls(t *testing.T) {
	s, q := queued(t, nil, nil)
	id := s.request(t, "POST", "/async-function/echo", nil).header.Get("X-Call-Id")
	q.end(t, id, lightcone.InvocationSucceeded, &functions.Result{Status: 200})
	s.request(t, "POST", "/function/echo", nil, "Prefer", "respond-async")
	s.request(t, "GET", "/v1/invocations/"+id, nil)
	s.request(t, "GET", "/v1/invocations/"+id+"/result", nil)
	s.request(t, "DELETE", "/v1/invocations/nope", nil)
	if got := counted(t, s.registry, "echo", outcomeAccepted); got != 2 {
		t.Errorf("%v accepted", got)
	}
	if got := counted(t, s.registry, "echo", outcomeOK); got != 0 {
		t.Errorf("%v answered, though none was run here", got)
	}
	for question, outcome := range map[string]string{"status": "ok", "result": "ok", "cancel": "not-found"} {
		if got := gathered(t, s.registry, "lightcone_gateway_invocation_requests_total", map[string]string{"asked": question, "outcome": outcome}); got != 1 {
			t.Errorf("%s: %v with the outcome %s", question, got, outcome)
		}
	}
}

// The queue is what absorbs overload: the line of those who wait does not matter.
func TestAcceptingIgnoresTheLine(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	q := newMemoryQueue()
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		entered <- struct{}{}
		<-leave
		return echo(call, answer)
	}, func(c *Config) { c.Queue, c.Invocations, c.MaxWaitingCalls = q, q, 0 })
	held := make(chan *reply, 1)
	go func() { held <- s.request(t, "POST", "/function/echo", nil) }()
	<-entered
	if got := s.post(t, nil); got.status != 503 {
		t.Errorf("the line is full, and a call that waits is answered %d", got.status)
	}
	checkAccepted(t, s.post(t, nil, "Prefer", "respond-async"), "respond-async")
	s.worker.offer(echoOffer(0)) // not even a worker
	eventually(t, "the gateway has heard that there is no slot", func() bool { return (*s.lanes.Load())["echo"].report().Slots == 0 })
	checkAccepted(t, s.post(t, nil, "Prefer", "respond-async"), "respond-async")
	close(leave)
	if got := <-held; got.status != http.StatusOK {
		t.Errorf("the call that held the slot: %d", got.status)
	}
}

// An input that is known to kill slots is refused when it comes, not when it is run.
func TestDeadlyInputIsNotAccepted(t *testing.T) {
	book, q := withBook(t), newMemoryQueue()
	s := serve(t, 1, func(*functions.Call, *functions.Answer) error {
		return problem.New(problem.FunctionCrashed, "A sentence.")
	}, func(c *Config) { book(c); c.Queue, c.Invocations = q, q })
	for range 2 {
		s.post(t, strings.NewReader("deadly"))
	}
	got := s.post(t, strings.NewReader("deadly"), "Prefer", "respond-async")
	if got.status != 422 || len(q.accepted) > 0 {
		t.Errorf("got %d %s; the queue got %v", got.status, got.body, q.accepted)
	}
	checkDocument(t, got, problem.Quarantined)
	checkAccepted(t, s.post(t, strings.NewReader("another"), "Prefer", "respond-async"), "respond-async")
}
