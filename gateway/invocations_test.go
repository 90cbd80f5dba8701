package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestInvocationIsWatched(t *testing.T) {
	s, q := queued(t, nil, nil)
	id := s.request(t, "POST", "/async-function/echo", strings.NewReader("body")).header.Get("X-Call-Id")
	path := "/v1/invocations/" + id
	parsed, err := lightcone.ParseCallID(id)
	if err != nil {
		t.Fatal(err)
	}
	document := func(status, attempts, finished, why string) string {
		return `{"id":"` + id + `","function":"echo","status":"` + status + `","attempts":` + attempts +
			`,"created_at":"` + parsed.Time().UTC().Format(time.RFC3339Nano) + `","finished_at":` + finished + `,"error":` + why + "}\n"
	}
	check := func(method, want string) {
		t.Helper()
		got := s.request(t, method, path, nil)
		if method == "HEAD" {
			want = ""
		}
		if got.status != 200 || got.body != want || got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Call-Id") != id || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %s, want %s", method, got.status, got.header, got.body, want)
		}
	}
	check("GET", document("queued", "0", "null", "null"))
	check("HEAD", "")
	if got := s.request(t, "GET", path+"/result", nil); got.status != 409 {
		t.Errorf("a result before there is one: %d", got.status)
	} else {
		checkDocument(t, got, problem.NotFinished)
	}
	q.set(func() {
		running := q.calls[parsed]
		running.invocation.Status, running.invocation.Attempts, running.invocation.Error = lightcone.InvocationRunning, 2, "The function crashed."
	})
	check("GET", document("running", "2", "null", `"The function crashed."`))
	finished := `"` + parsed.Time().Add(time.Second).UTC().Format(time.RFC3339Nano) + `"`
	check("DELETE", document("cancelled", "2", finished, `"The function crashed."`))
	check("DELETE", document("cancelled", "2", finished, `"The function crashed."`))
	check("GET", document("cancelled", "2", finished, `"The function crashed."`))
	if got := s.request(t, "GET", path+"/result", nil); got.status != 409 {
		t.Errorf("the result of a cancelled call: %d", got.status)
	}
}

// TestResultIsReplayed: a result is answered as the call itself would have been.
func TestResultIsReplayed(t *testing.T) {
	s, q := queued(t, nil, nil)
	timing := "queue;dur=1500.000, exec;dur=20.000, cpu;dur=10.000"
	ran := functions.Result{CPU: 10 * time.Millisecond, Exec: 20 * time.Millisecond, Waited: 1500 * time.Millisecond}
	with := func(change func(*functions.Result)) functions.Result {
		result := ran
		change(&result)
		return result
	}
	for _, test := range []struct {
		name   string
		result functions.Result
		status int
		kind   problem.Kind
		blame  blame
		timing string
	}{
		{"good", with(func(r *functions.Result) {
			r.Status, r.ContentType, r.Vary, r.Body = 200, "image/webp", "Accept", []byte("pixels")
		}), 200, "", "", timing},
		{"created", with(func(r *functions.Result) { r.Status, r.ContentType, r.Body = 201, "image/webp", []byte("pixels") }), 201, "", "", timing},
		{"the function's own 404", with(func(r *functions.Result) { r.Status, r.ContentType, r.Body = 404, "image/webp", []byte("pixels") }), 404, "", function, timing},
		{"named corrupt-input", with(func(r *functions.Result) {
			r.Status, r.Problem, r.Body = 500, problem.CorruptInput, []byte("A sentence.")
		}), 422, problem.CorruptInput, function, timing},
		{"crashed", with(func(r *functions.Result) { r.Problem, r.Body = problem.FunctionCrashed, []byte("A sentence.") }), 502, problem.FunctionCrashed, function, timing},
		{"quarantined meanwhile", functions.Result{Problem: problem.Quarantined, Body: []byte("A sentence.")}, 422, problem.Quarantined, platform, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := s.request(t, "POST", "/async-function/echo", nil).header.Get("X-Call-Id")
			q.end(t, id, lightcone.InvocationSucceeded, &test.result)
			for _, method := range []string{"GET", "HEAD"} {
				got := s.request(t, method, "/v1/invocations/"+id+"/result", nil)
				checkReplay(t, got, id, test.status, test.blame, test.timing)
				switch {
				case method == "HEAD" && got.body != "":
					t.Errorf("HEAD: %q", got.body)
				case method == "HEAD":
				case test.kind != "":
					checkDocument(t, got, test.kind)
				case got.body != "pixels" || got.header.Get("Content-Type") != "image/webp" || got.header.Get("Vary") != test.result.Vary:
					t.Errorf("%v %q", got.header, got.body)
				}
			}
			// And so when its client has waited for it.
			waiting := make(chan *reply, 1)
			go func() { waiting <- s.request(t, "POST", "/function/echo", nil, "Prefer", "respond-async, wait=10") }()
			eventually(t, "the client waits", func() bool { return q.waiters() == 1 })
			id = q.last(t).Call.ID.String()
			q.end(t, id, lightcone.InvocationSucceeded, &test.result)
			got := <-waiting
			checkReplay(t, got, id, test.status, test.blame, test.timing)
			if got.header.Get("Preference-Applied") != "respond-async, wait=10" {
				t.Errorf("Preference-Applied is %q", got.header.Get("Preference-Applied"))
			}
			eventually(t, "nobody waits", func() bool { return q.waiters() == 0 })
		})
	}
}

func checkReplay(t *testing.T, got *reply, id string, status int, whose blame, timing string) {
	t.Helper()
	if got.status != status || got.header.Get("X-Call-Id") != id || got.header.Get("X-Lightcone-Error") != string(whose) || got.header.Get("Server-Timing") != timing {
		t.Errorf("got %d %v of %s, want %d blamed on %q in %q", got.status, got.header, id, status, whose, timing)
	}
}

func TestWaitEnds(t *testing.T) {
	s, q := queued(t, nil, nil)
	began := time.Now()
	checkAccepted(t, s.request(t, "POST", "/async-function/echo", nil, "Prefer", "wait=1"), "respond-async, wait=1")
	if took := time.Since(began); took < time.Second {
		t.Errorf("it waited %v of a second", took)
	}
	// A call that ends without a result, or about which nothing can be told any more.
	for _, end := range []func(id string){
		func(id string) { q.end(t, id, lightcone.InvocationDead, nil) },
		func(id string) {
			q.set(func() { q.silent = problem.New(problem.Overloaded, "No quorum.") })
			q.end(t, id, lightcone.InvocationSucceeded, nil)
		},
	} {
		waiting := make(chan *reply, 1)
		go func() { waiting <- s.request(t, "POST", "/async-function/echo", nil, "Prefer", "wait=10") }()
		eventually(t, "the client waits", func() bool { return q.waiters() == 1 })
		end(q.last(t).Call.ID.String())
		if got := <-waiting; got.status != 202 || got.header.Get("Location") == "" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

// A shutdown lets those who wait go, and who comes meanwhile does not wait.
func TestShutdownEndsWaits(t *testing.T) {
	s, q := queued(t, nil, func(c *Config) { c.DrainDelay = patience })
	waiting := make(chan *reply, 1)
	go func() { waiting <- s.request(t, "POST", "/async-function/echo", nil, "Prefer", "wait=60") }()
	eventually(t, "the client waits", func() bool { return q.waiters() == 1 })
	ctx, stopWaiting := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(ctx) }()
	got := <-waiting
	if checkAccepted(t, got, "respond-async, wait=60"); !got.closes {
		t.Error("the connection stays open")
	}
	got = s.request(t, "POST", "/async-function/echo", nil, "Prefer", "wait=60")
	if checkAccepted(t, got, "respond-async, wait=60"); !got.closes {
		t.Error("the connection stays open")
	}
	s.client.CloseIdleConnections()
	stopWaiting() // for load balancers to notice
	if err := <-stopped; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.once.Do(func() {}) // it has been stopped here
}

// Whose call it is, is as unknown to others as whether there is one.
func TestOthersCallsAreNotFound(t *testing.T) {
	s, q := queued(t, customers{"acme": lightcone.Unlimited, "other": lightcone.Unlimited}, nil)
	acme, other := []string{"Authorization", "Bearer acme"}, []string{"Authorization", "Bearer other"}
	id := s.request(t, "POST", "/async-function/echo", nil, acme...).header.Get("X-Call-Id")
	q.end(t, id, lightcone.InvocationSucceeded, &functions.Result{Status: 200, Body: []byte("of acme")})
	unknown := "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
	for _, suffix := range []string{"", "/result"} {
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			if method == "DELETE" && suffix != "" {
				continue
			}
			for _, asked := range []string{id, unknown, strings.ToLower(id), id[1:], id + "0", "8" + id[1:], "%30" + id[1:], "..", "x"} {
				got := s.request(t, method, "/v1/invocations/"+asked+suffix, nil, other...)
				if got.status != 404 || strings.Contains(got.body, "of acme") {
					t.Errorf("%s %s%s: %d %s", method, asked, suffix, got.status, got.body)
				}
				if method != "HEAD" {
					checkDocument(t, got, problem.NotFound)
				}
			}
		}
		if got := s.request(t, "GET", "/v1/invocations/"+id+suffix, nil, acme...); got.status != 200 {
			t.Errorf("its own tenant: %d %s", got.status, got.body)
		}
		if got := s.request(t, "GET", "/v1/invocations/"+id+suffix, nil, "Authorization", "Bearer nobody"); got.status != 401 {
			t.Errorf("nobody: %d", got.status)
		}
		if got := s.request(t, "GET", "/v1/invocations/x"+suffix, nil, "Authorization", ""); got.status != 401 {
			t.Errorf("nobody, and no id: %d", got.status)
		}
		if got := s.request(t, "PUT", "/v1/invocations/"+id+suffix, nil, acme...); got.status != 405 || !strings.HasPrefix(got.header.Get("Allow"), "GET, HEAD") {
			t.Errorf("PUT: %d, allowing %q", got.status, got.header.Get("Allow"))
		}
		if got := s.request(t, "GET", "/v1/invocations/"+id+suffix, strings.NewReader("body"), acme...); got.status != 400 {
			t.Errorf("with a body: %d", got.status)
		}
	}
	if got := s.request(t, "DELETE", "/v1/invocations/"+id+"/result", nil, acme...); got.status != 405 {
		t.Errorf("DELETE of a result: %d", got.status)
	}
}

// The tenant's limits are those of any call, and questions take nothing of them.
func TestAcceptingTakesOfTheTenantsLimits(t *testing.T) {
	slow := unlimitedBut(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 0.001, 2 })
	spent := unlimitedBut(func(q *lightcone.Quota) { q.CPUPerMonth = 0 })
	single := unlimitedBut(func(q *lightcone.Quota) { q.ConcurrentCalls = 1 })
	s, q := queued(t, customers{"slow": slow, "spent": spent, "single": single}, nil)
	accept := func(tenant string, header ...string) *reply {
		t.Helper()
		return s.request(t, "POST", "/async-function/echo", nil, append(header, "Authorization", "Bearer "+tenant)...)
	}
	first := accept("slow")
	accept("slow")
	for range 5 {
		if got := s.request(t, "GET", "/v1/invocations/"+first.header.Get("X-Call-Id"), nil, "Authorization", "Bearer slow"); got.status != 200 {
			t.Fatalf("a question: %d %s", got.status, got.body)
		}
	}
	if got := accept("slow"); got.status != 429 || !strings.Contains(got.body, `"quota":"calls_per_second"`) || first.header.Get("RateLimit") == "" {
		t.Errorf("the third call of a burst of two: %d %s", got.status, got.body)
	}
	if got := accept("spent"); got.status != 429 || !strings.Contains(got.body, `"quota":"cpu_seconds_per_month"`) {
		t.Errorf("no CPU time left: %d %s", got.status, got.body)
	}
	for range 3 { // each gives its place back with its 202
		if got := accept("single"); got.status != 202 {
			t.Errorf("one after another: %d %s", got.status, got.body)
		}
	}
	waiting := make(chan *reply, 1)
	go func() { waiting <- accept("single", "Prefer", "wait=10") }()
	eventually(t, "a client waits", func() bool { return q.waiters() == 1 })
	if got := accept("single"); got.status != 429 || !strings.Contains(got.body, `"quota":"concurrent_calls"`) {
		t.Errorf("beside one that waits: %d %s", got.status, got.body)
	}
	q.end(t, q.last(t).Call.ID.String(), lightcone.InvocationSucceeded, &functions.Result{Status: 200})
	if got := <-waiting; got.status != 200 {
		t.Errorf("the one that waited: %d", got.status)
	}
}

// What is asked for is the tenant's memory until it has been read.
func TestResultsAreBoundedInBytes(t *testing.T) {
	s, q := queued(t, nil, func(c *Config) { c.MaxBytesInFlight = 2 << 20 })
	id := s.request(t, "POST", "/async-function/echo", nil).header.Get("X-Call-Id")
	q.end(t, id, lightcone.InvocationSucceeded, &functions.Result{Status: 200, Body: make([]byte, 12<<20)})
	slow := s.dial(t)
	slow.say("GET /v1/invocations/" + id + "/result HTTP/1.1\nKEY\n\n")
	if _, err := slow.reader.ReadByte(); err != nil {
		t.Fatal(err)
	}
	if got := s.request(t, "GET", "/v1/invocations/"+id+"/result", nil); got.status != http.StatusServiceUnavailable {
		t.Errorf("beside one that is not read: %d", got.status)
	}
	_ = slow.Close()
	eventually(t, "nothing is held for who has gone", func() bool { return s.budget.used.Load() == 0 })
}

func TestQuestionsOfATenantAreBounded(t *testing.T) {
	s, _ := queued(t, nil, nil)
	for range mostQuestions {
		grant, free := s.config.Tenants.Look("demo", mostQuestions, time.Now())
		if !free {
			t.Fatal("there is no room for as many as there may be")
		}
		defer s.config.Tenants.Looked(grant)
	}
	got := s.request(t, "GET", "/v1/invocations/7ZZZZZZZZZZZZZZZZZZZZZZZZZ", nil)
	if got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", got.status, got.body)
	}
	if got := s.request(t, "POST", "/async-function/echo", nil); got.status != 202 {
		t.Errorf("a call beside them: %d", got.status)
	}
}
