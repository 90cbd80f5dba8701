package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/internal/problem"
)

// fixedUsage is a fake that stands in for the ledgers: it answers what a test says. The
// real sum is tried in cmd/lightcone.
type fixedUsage struct {
	harvest float64
	err     error
	asked   lightcone.TenantID
}

func (f *fixedUsage) Total(_ context.Context, tenant lightcone.TenantID, from, to time.Time) (lightcone.UsageTotal, error) {
	f.asked = tenant
	return lightcone.UsageTotal{From: from, To: to, Harvest: f.harvest, Functions: []lightcone.FunctionUsage{
		{Function: "echo", Calls: 2, Used: lightcone.Usage{CPU: 30, BytesIn: 4, BytesOut: 5}},
		{Function: "resize", Calls: 3, Used: lightcone.Usage{CPU: 70, BytesIn: 6, BytesOut: 7}},
	}}, f.err
}

func serveUsage(t *testing.T, used Usage) *served {
	t.Helper()
	w := &worker{run: echo}
	w.offer(echoOffer(1))
	return serveWorker(t, w, prometheus.NewRegistry(), func(c *Config) { c.Usage = used })
}

func TestUsageIsToldToItsTenant(t *testing.T) {
	used := &fixedUsage{harvest: 2.0 / 3}
	s := serveUsage(t, used)
	got := s.request(t, "GET", "/v1/usage?from=2026-03-01&to=2026-03-02T10:20:30%2B01:00", nil)
	const want = `{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T10:00:00Z","harvest":0.67,` +
		`"totals":{"calls":5,"cpu_ns":100,"bytes_in":10,"bytes_out":12},` +
		`"functions":[{"function":"echo","calls":2,"cpu_ns":30,"bytes_in":4,"bytes_out":5},{"function":"resize","calls":3,"cpu_ns":70,"bytes_in":6,"bytes_out":7}]}` + "\n"
	if time.Now().Year() < 2026 {
		t.Fatal("this machine's clock is behind the period that is asked for")
	}
	if got.status != 200 || got.body != want || used.asked != "demo" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %q %s of %s, want %s", got.status, got.header.Get("Cache-Control"), got.body, used.asked, want)
	}
	for name, test := range map[string]struct {
		status int
		says   string
		header []string
		method string
		path   string
	}{
		"strict":        {status: 503, says: "66 %", header: []string{"Prefer", "handling=strict"}},
		"lenient":       {status: 200, header: []string{"Prefer", "handling=lenient, handling=strict"}},
		"no key":        {status: 401, header: []string{"Authorization", "Bearer wrong"}},
		"post":          {status: 405, method: "POST"},
		"from":          {status: 400, says: "parameter from", path: "?from=yesterday"},
		"to":            {status: 400, says: "parameter to", path: "?to=2026-13-01"},
		"a far year":    {status: 400, says: "parameter from", path: "?from=9999-01-01"},
		"backwards":     {status: 400, says: "parameter from", path: "?from=2026-02-02&to=2026-02-01"},
		"nothing":       {status: 400, says: "parameter from", path: "?from=2026-02-02&to=2026-02-02"},
		"the future":    {status: 400, says: "parameter from", path: "?from=2199-01-01"},
		"too long":      {status: 400, says: "at most 100", path: "?from=2025-01-01&to=2025-12-01"},
		"another":       {status: 400, says: "tenant", path: "?tenant=other"},
		"other Prefer":  {status: 400, says: "Prefer", header: []string{"Prefer", "handling=="}},
		"another route": {status: 404, path: "/of/others"},
	} {
		method := "GET"
		if test.method != "" {
			method = test.method
		}
		got := s.request(t, method, "/v1/usage"+test.path, nil, test.header...)
		if got.status != test.status || !strings.Contains(got.body, test.says) || (got.header.Get("Retry-After") != "") != (test.status == 503) {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
	}
	used.harvest = 1
	got = s.request(t, "GET", "/v1/usage", nil, "Prefer", "handling=strict")
	var document struct {
		From, To time.Time
		Harvest  float64
	}
	if err := json.Unmarshal([]byte(got.body), &document); err != nil || got.status != 200 || document.Harvest != 1 || got.header.Get("Preference-Applied") != "handling=strict" {
		t.Errorf("got %d %v %s, %v", got.status, got.header, got.body, err)
	}
	if now := time.Now(); document.From.Day() != 1 || document.To.Before(now) || document.To.Sub(now) > time.Hour {
		t.Errorf("without from and to: %s", got.body)
	}
	used.harvest = 0.9999
	if got := s.request(t, "GET", "/v1/usage", nil); !strings.Contains(got.body, `"harvest":0.99,`) {
		t.Errorf("a harvest that is nearly whole is %s", got.body)
	}
	used.err = problem.New(problem.Overloaded, "Not now.")
	if got := s.request(t, "GET", "/v1/usage", nil); got.status != 503 || !strings.Contains(got.body, "Not now.") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestWithoutALedgerNoUsageIsTold(t *testing.T) {
	s := serve(t, 1, echo, nil)
	if got := s.request(t, http.MethodGet, "/v1/usage", nil); got.status != 404 || !strings.Contains(got.body, "write down") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// TestPeriodsAreWholeHours asks for random times: what is added up is whole hours, holds
// what was asked for and has begun, and is no more than an hour longer at each end.
func TestPeriodsAreWholeHours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		draw := func(name string) time.Time {
			return base.Add(time.Duration(rapid.Int64Range(0, int64(150*24*time.Hour/time.Second)).Draw(t, name)) * time.Second)
		}
		now, asked := draw("now"), fasthttp.Args{}
		var from, to time.Time
		if rapid.Bool().Draw(t, "has from") {
			from = draw("from")
			asked.Set("from", from.Format(time.RFC3339))
		}
		if rapid.Bool().Draw(t, "has to") {
			to = draw("to")
			asked.Set("to", to.Format(time.RFC3339))
		}
		gotFrom, gotTo, err := periodOf(&asked, now)
		if err != nil {
			if problem.Of(err).Kind != problem.BadParameter {
				t.Fatal(err)
			}
			return
		}
		end := now
		if !to.IsZero() && to.Before(now) {
			end = to
		}
		if !gotFrom.Equal(gotFrom.Truncate(time.Hour)) || !gotTo.Equal(gotTo.Truncate(time.Hour)) || gotTo.Before(end) || gotTo.Sub(end) >= time.Hour {
			t.Fatalf("%s: %s to %s", url.QueryEscape(asked.String()), gotFrom, gotTo)
		}
		if !from.IsZero() && (gotFrom.After(from) || from.Sub(gotFrom) >= time.Hour) || from.IsZero() && gotFrom.Day() != 1 {
			t.Fatalf("%s: from %s", asked.String(), gotFrom)
		}
	})
}
