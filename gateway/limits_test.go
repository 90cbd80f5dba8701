package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// unlimitedBut is a quota with some limits.
func unlimitedBut(change func(*lightcone.Quota)) lightcone.Quota {
	q := lightcone.Unlimited
	change(&q)
	return q
}

// shop is a gateway with customers. Their calls say what becomes of them: see ask.
func shop(t *testing.T, slots int, tenants customers, change func(*Config)) (s *served, gate chan struct{}) {
	t.Helper()
	gate = make(chan struct{})
	w := &worker{run: func(call *functions.Call, answer *functions.Answer) error {
		switch string(call.Query) {
		case "crash":
			return problem.New(problem.FunctionCrashed, "It crashed.")
		case "memory":
			return problem.New(problem.OutOfMemory, "It outgrew its memory.")
		case "broken":
			return problem.New(problem.FunctionFailed, "Its process was replaced.")
		case "late": // it ran, and was stopped
			answer.CPU, answer.Exec = 1500*time.Microsecond, time.Second
			return problem.New(problem.DeadlineExceeded, "It was stopped.")
		case "panic":
			panic("a bug")
		case "wait":
			<-gate
		}
		return echo(call, answer)
	}}
	w.offer(echoOffer(slots))
	s = serveCallers(t, w, tenants, prometheus.NewRegistry(), change)
	s.worker = w
	return s, gate
}

// ask calls as the tenant; what is the query.
func (s *served) ask(t testing.TB, tenant lightcone.TenantID, what, body string) *reply {
	t.Helper()
	got, err := s.send("POST", "/function/echo?"+what, strings.NewReader(body), "Authorization", "Bearer "+string(tenant))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantRefused checks the whole answer to a call over a limit, whose Retry-After is
// about so many seconds: a tenth less when the test was slow, half as many again and
// two when it was spread.
func wantRefused(t *testing.T, got *reply, limit admission.Limit, least int) {
	t.Helper()
	if got.status != http.StatusTooManyRequests {
		t.Fatalf("answered %d %s, want a 429 for %s", got.status, got.body, limit)
	}
	checkDocument(t, got, problem.LimitReached)
	var document document
	if err := json.Unmarshal([]byte(got.body), &document); err != nil {
		t.Fatal(err)
	}
	if document.Quota != string(limit) || !strings.Contains(document.Detail, string(limit)) {
		t.Errorf("the document names %q, and says %q; want %s", document.Quota, document.Detail, limit)
	}
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	if err != nil || seconds < least-least/10 || seconds > least+least/2+2 {
		t.Errorf("Retry-After is %q: want about %d", got.header.Get("Retry-After"), least)
	}
	if got.header.Get("X-Lightcone-Error") != string(platform) || got.header.Get("Server-Timing") != "" {
		t.Errorf("headers: %v", got.header)
	}
}

// wantLeft checks the field RateLimit: what is left, and a window of about so many
// seconds that does not end after Retry-After.
func wantLeft(t *testing.T, got *reply, want string, seconds int) {
	t.Helper()
	left, text, _ := strings.Cut(got.header.Get("RateLimit"), ";t=")
	window, err := strconv.Atoi(text)
	if left != want || err != nil || window > seconds || window < seconds-seconds/10 {
		t.Errorf("RateLimit is %q: want %s, and about %d s", got.header.Get("RateLimit"), want, seconds)
	}
	if after, err := strconv.Atoi(got.header.Get("Retry-After")); err == nil && after < window {
		t.Errorf("Retry-After is %d, and RateLimit %q", after, got.header.Get("RateLimit"))
	}
}

func (s *served) limited(t testing.TB, limit admission.Limit) float64 {
	return gathered(t, s.registry, "lightcone_gateway_limited_total", map[string]string{"quota": string(limit)})
}

func TestCallsPerSecond(t *testing.T) {
	s, _ := shop(t, 1, customers{"acme": unlimitedBut(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 0.01, 2 })}, nil)
	for left := 1; left >= 0; left-- {
		got := s.ask(t, "acme", "", "a")
		if got.status != 200 {
			t.Errorf("answered %d", got.status)
		}
		wantLeft(t, got, fmt.Sprintf(`"calls_per_second";r=%d`, left), 100)
		if want := `"calls_per_second";q=2;w=200`; got.header.Get("RateLimit-Policy") != want {
			t.Errorf("RateLimit-Policy is %q, want %q", got.header.Get("RateLimit-Policy"), want)
		}
	}
	for range 2 { // the connection is kept, and the refused body is out of the way
		got := s.ask(t, "acme", "", strings.Repeat("a", 100<<10))
		wantRefused(t, got, admission.CallsPerSecond, 100)
		wantLeft(t, got, `"calls_per_second";r=0`, 100)
		if got.closes || got.header.Get("RateLimit-Policy") == "" {
			t.Errorf("closing: %v, headers %v", got.closes, got.header)
		}
	}
	if n := s.limited(t, admission.CallsPerSecond); n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
	if n := counted(t, s.registry, "echo", "limit-reached"); n != 2 {
		t.Errorf("%v outcomes are counted", n)
	}
}

func TestConcurrentCalls(t *testing.T) {
	s, gate := shop(t, 4, customers{"acme": unlimitedBut(func(q *lightcone.Quota) { q.ConcurrentCalls = 2 }), "other": lightcone.Unlimited}, nil)
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			if got := s.ask(t, "acme", "wait", ""); got.status != 200 {
				t.Errorf("a held call: %d", got.status)
			}
		})
	}
	eventually(t, "two calls run", func() bool { return (*s.lanes.Load())["echo"].report().Running == 2 })
	got := s.ask(t, "acme", "", "")
	wantRefused(t, got, admission.ConcurrentCalls, 1)
	if want := `"concurrent_calls";r=0`; got.header.Get("RateLimit") != want {
		t.Errorf("RateLimit is %q, want %q", got.header.Get("RateLimit"), want)
	}
	if got := s.ask(t, "other", "", ""); got.status != 200 {
		t.Errorf("another tenant: %d", got.status)
	}
	close(gate)
	held.Wait()
	// Whatever ends a call gives its place back.
	for range 3 {
		for what, status := range map[string]int{"panic": 500, "crash": 502, "": 200} {
			if got := s.ask(t, "acme", what, "a"); got.status != status {
				t.Errorf("%q: %d %s", what, got.status, got.body)
			}
		}
		cut := s.dial(t)
		cut.say("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer acme\nContent-Length: 9\n\nshort")
		_ = cut.Close()
	}
	eventually(t, "the calls cut short have given theirs back", func() bool {
		return s.ask(t, "acme", "", "").header.Get("RateLimit") == `"concurrent_calls";r=2`
	})
}

func TestMonthlyQuotas(t *testing.T) {
	s, _ := shop(t, 1, customers{
		"cpu":   unlimitedBut(func(q *lightcone.Quota) { q.CPUPerMonth = 4 * time.Millisecond }), // echo takes 1.5 ms
		"bytes": unlimitedBut(func(q *lightcone.Quota) { q.BytesPerMonth = 250 }),
	}, nil)
	for i, what := range []string{"", "late", "late"} { // what a call used that was stopped counts, too
		if got := s.ask(t, "cpu", what, "a"); got.status != []int{200, 504, 504}[i] || got.header.Get("RateLimit") != "" {
			t.Errorf("%q: %d with %v", what, got.status, got.header)
		}
	}
	least := int(math.Ceil(min(time.Until(nextMonthOf(time.Now())), time.Hour).Seconds()))
	wantRefused(t, s.ask(t, "cpu", "", "a"), admission.CPUPerMonth, least)

	for _, left := range []int{150, 50, 0} { // 50 bytes in, and 50 out
		got := s.ask(t, "bytes", "", strings.Repeat("a", 50))
		if want := fmt.Sprintf(`"bytes_per_month";r=%d;t=`, left); got.status != 200 || !strings.HasPrefix(got.header.Get("RateLimit"), want) {
			t.Errorf("%d with RateLimit %q, want %s", got.status, got.header.Get("RateLimit"), want)
		}
	}
	got := s.ask(t, "bytes", "", "a")
	wantRefused(t, got, admission.BytesPerMonth, least)
	wantLeft(t, got, `"bytes_per_month";r=0`, least)
}

func nextMonthOf(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

func TestQuotaOfZero(t *testing.T) {
	tenants := customers{}
	limits := map[lightcone.TenantID]admission.Limit{
		"rate": admission.CallsPerSecond, "burst": admission.CallsPerSecond, "calls": admission.ConcurrentCalls, "cpu": admission.CPUPerMonth, "bytes": admission.BytesPerMonth,
	}
	for tenant, set := range map[lightcone.TenantID]func(*lightcone.Quota){
		"rate":  func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 0, 10 },
		"burst": func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 10, 0 },
		"calls": func(q *lightcone.Quota) { q.ConcurrentCalls = 0 },
		"cpu":   func(q *lightcone.Quota) { q.CPUPerMonth = 0 },
		"bytes": func(q *lightcone.Quota) { q.BytesPerMonth = 0 },
	} {
		tenants[tenant] = unlimitedBut(set)
	}
	s, _ := shop(t, 1, tenants, nil)
	for tenant, limit := range limits {
		got := s.ask(t, tenant, "", "a")
		wantRefused(t, got, limit, 3600)
		if !strings.Contains(got.body, "is 0") {
			t.Errorf("%s: %s", tenant, got.body)
		}
	}
}

// TestCrashingTenantIsHeldBack: most of its calls crash, so they are not run; one
// is let through after the cool-down, and its answer lets all through again.
func TestCrashingTenantIsHeldBack(t *testing.T) {
	config := admission.DefaultConfig()
	config.Breaker.CoolDown, config.Breaker.MaxCoolDown = time.Minute, time.Minute
	table, err := admission.NewTable(config, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, _ := shop(t, 1, customers{"greedy": lightcone.Unlimited, "modest": lightcone.Unlimited}, func(c *Config) { c.Tenants = table })
	for i, what := range []string{"crash", "memory", "crash", "broken", "crash"} {
		if table.Confined("greedy") != (i > 0) {
			t.Errorf("before call %d the tenant is confined: %v", i, i == 0)
		}
		if got := s.ask(t, "greedy", what, ""); got.status != 502 {
			t.Fatalf("call %d: %d %s", i, got.status, got.body)
		}
	}
	wantRefused(t, s.ask(t, "greedy", "", ""), admission.Crashes, 60)
	if got := s.ask(t, "modest", "", ""); got.status != 200 || table.Confined("modest") {
		t.Errorf("another tenant: %d", got.status)
	}
	// A minute later one is let through, and answered. Nobody waits for it here.
	quota, later := lightcone.Unlimited, time.Now().Add(config.Breaker.CoolDown)
	grant, refused := table.Admit("greedy", &quota, later)
	if refused.Limit != "" {
		t.Fatalf("after the cool-down: %+v", refused)
	}
	table.Settle(grant, admission.Answered, lightcone.Usage{}, &quota, later)
	for range 3 {
		if got := s.ask(t, "greedy", "", ""); got.status != 200 {
			t.Errorf("after an answer: %d %s", got.status, got.body)
		}
	}
	if n := s.limited(t, admission.Crashes); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
}

func TestCallsInFlightAreBounded(t *testing.T) {
	s, gate := shop(t, 4, customers{"acme": lightcone.Unlimited, "other": lightcone.Unlimited}, func(c *Config) { c.MaxCallsInFlight = 2 })
	var held sync.WaitGroup
	for _, tenant := range []lightcone.TenantID{"acme", "other"} {
		held.Go(func() { s.ask(t, tenant, "wait", "") })
	}
	eventually(t, "two calls run", func() bool { return (*s.lanes.Load())["echo"].report().Running == 2 })
	for range 3 {
		got := s.ask(t, "acme", "", "body")
		if got.status != 503 || got.header.Get("Retry-After") == "" || got.header.Get("RateLimit") != "" {
			t.Errorf("a third: %d, %v", got.status, got.header)
		}
		checkDocument(t, got, problem.Overloaded)
	}
	asks := s.dial(t)
	asks.say("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer acme\nExpect: 100-continue\nContent-Length: 4\n\n")
	if got := asks.hear(); got.status != 503 {
		t.Errorf("a third that asks first: %d", got.status)
	}
	close(gate)
	held.Wait()
	if got := s.ask(t, "acme", "", ""); got.status != 200 {
		t.Errorf("with room again: %d", got.status)
	}
}

// TestGreedyTenantDoesNotHurtAnother: one tenant sends as fast as it can, with
// bodies, and gets what it may; another's calls are all answered.
func TestGreedyTenantDoesNotHurtAnother(t *testing.T) {
	s, _ := shop(t, 2, customers{
		"greedy": {CallsPerSecond: 20, Burst: 5, ConcurrentCalls: 1, CPUPerMonth: lightcone.NoLimit, BytesPerMonth: lightcone.NoLimit},
		"modest": lightcone.Unlimited,
	}, nil)
	began := time.Now()
	stop := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := s.send("POST", "/function/echo", io.MultiReader(strings.NewReader(strings.Repeat("a", 20<<10))), "Authorization", "Bearer greedy")
				mu.Lock()
				if err == nil {
					statuses[got.status]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range 200 {
		if got := s.ask(t, "modest", "", "body"); got.status != 200 {
			t.Errorf("call %d of the modest tenant: %d %s", i, got.status, got.body)
		}
	}
	close(stop)
	all.Wait()
	most := 5 + 20*time.Since(began).Seconds()
	if n := statuses[200]; float64(n) > most || n < 3 || statuses[429] < n || len(statuses) > 2 {
		t.Errorf("the greedy tenant's answers: %v; at most %v of them may be 200", statuses, most)
	}
}
