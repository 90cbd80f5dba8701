package gateway

import (
	"regexp"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/gateway/admission"
)

func TestRateLimitFields(t *testing.T) {
	quota := func(change func(*lightcone.Quota)) lightcone.Quota {
		q := lightcone.Unlimited
		change(&q)
		return q
	}
	rate := func(perSecond float64, burst int) lightcone.Quota {
		return quota(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = perSecond, burst })
	}
	left := admission.Standing{Tokens: 7, NextToken: 1500 * time.Millisecond, Free: 3, Bytes: 1000, MonthEnds: 49 * time.Hour}
	for _, test := range []struct {
		name         string
		quota        lightcone.Quota
		patience     time.Duration
		policy, left string
	}{
		{"unlimited", lightcone.Unlimited, time.Hour, "", ""},
		{"only CPU, for which there is no unit", quota(func(q *lightcone.Quota) { q.CPUPerMonth = 1 }), time.Hour, "", ""},
		{"ten a second, twenty at once", rate(10, 20), time.Hour, `"calls_per_second";q=20;w=2`, `"calls_per_second";r=7;t=2`},
		{"a hundred a second, ten at once", rate(100, 10), time.Hour, `"calls_per_second";q=100;w=1`, `"calls_per_second";r=7;t=2`},
		{"three a second, ten at once", rate(3, 10), time.Hour, `"calls_per_second";q=12;w=4`, `"calls_per_second";r=7;t=2`},
		{"one in ten seconds", rate(0.1, 1), time.Hour, `"calls_per_second";q=1;w=10`, `"calls_per_second";r=7;t=2`},
		{"no burst is that of a second", rate(2.5, lightcone.NoLimit), time.Hour, `"calls_per_second";q=5;w=2`, `"calls_per_second";r=7;t=2`},
		{"none", rate(0, 5), time.Hour, `"calls_per_second";q=0;w=1`, `"calls_per_second";r=7;t=2`},
		{"not later than Retry-After", rate(1, 1), time.Second, `"calls_per_second";q=1;w=1`, `"calls_per_second";r=7;t=1`},
		{"all", lightcone.Quota{CallsPerSecond: 1, Burst: 2, ConcurrentCalls: 4, CPUPerMonth: 5, BytesPerMonth: 5000}, time.Hour,
			`"calls_per_second";q=2;w=2, "concurrent_calls";q=4;qu="concurrent-requests", "bytes_per_month";q=5000;qu="content-bytes";w=2678400`,
			`"calls_per_second";r=7;t=2, "concurrent_calls";r=3, "bytes_per_month";r=1000;t=3600`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var response fasthttp.Response
			new(limitFields).set(&response, &test.quota, left, test.patience)
			fields := map[string]string{}
			for name, value := range response.Header.All() {
				fields[string(name)] = string(value)
			}
			if got := fields["RateLimit-Policy"]; got != test.policy {
				t.Errorf("policy:\n got %s\nwant %s", got, test.policy)
			}
			if got := fields["RateLimit"]; got != test.left {
				t.Errorf("left:\n got %s\nwant %s", got, test.left)
			}
		})
	}
}

// fieldList is what RFC 9651 makes of the fields' lists: strings with parameters
// that are integers of up to 15 digits, or strings.
var fieldList = regexp.MustCompile(`^"[a-z_]+"(;[a-z]+=(\d{1,15}|"[a-z-]+"))+(, "[a-z_]+"(;[a-z]+=(\d{1,15}|"[a-z-]+"))+)*$`)

func TestRateLimitFieldsAreStructured(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := lightcone.Quota{
			CallsPerSecond: rapid.Float64Range(0, 1e300).Draw(t, "rate"), Burst: rapid.Int().Draw(t, "burst"),
			ConcurrentCalls: rapid.Int().Draw(t, "concurrent"), BytesPerMonth: rapid.Int64().Draw(t, "bytes"),
		}
		s := admission.Standing{
			Tokens: rapid.Int64().Draw(t, "tokens"), NextToken: time.Duration(rapid.Int64().Draw(t, "next")),
			Free: rapid.Int64().Draw(t, "free"), Bytes: rapid.Int64().Draw(t, "left"), MonthEnds: time.Duration(rapid.Int64().Draw(t, "ends")),
		}
		for _, field := range [][]byte{appendPolicy(nil, &q), appendLeft(nil, &q, s, time.Hour)} {
			if !fieldList.Match(field) {
				t.Fatalf("%s", field)
			}
		}
	})
}

func TestRateLimitFieldsAllocateNothing(t *testing.T) {
	q := lightcone.Quota{CallsPerSecond: 10, Burst: 20, ConcurrentCalls: 4, CPUPerMonth: 5, BytesPerMonth: 5000}
	var fields limitFields
	var response fasthttp.Response
	if n := testing.AllocsPerRun(100, func() { fields.set(&response, &q, admission.Standing{Tokens: 7}, time.Hour) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
