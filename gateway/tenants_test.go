package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// customers is a test's Callers: tenants by name, which are their keys, with quotas.
type customers map[lightcone.TenantID]lightcone.Quota

func (c customers) Authorize(presented []byte, function lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error) {
	tenant := lightcone.TenantID(presented)
	quota, known := c[tenant]
	switch {
	case !known:
		return "", lightcone.Quota{}, problem.New(problem.Unauthenticated, "No key.")
	case function == "forbidden":
		return "", lightcone.Quota{}, problem.New(problem.Forbidden, "Not the function %q.", function)
	}
	return tenant, quota, nil
}

func (c customers) Identify(presented []byte) (lightcone.TenantID, error) {
	tenant, _, err := c.Authorize(presented, "")
	return tenant, err
}

// lateCallers are customers about whom it may take long to tell who calls.
type lateCallers struct {
	customers
	pause func()
}

func (c *lateCallers) Authorize(presented []byte, function lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error) {
	c.pause()
	return c.customers.Authorize(presented, function)
}

// TestLimitsCountFromWhenTheCallerIsKnown: a call whose caller took long to tell finds
// the tokens that have come meanwhile.
func TestLimitsCountFromWhenTheCallerIsKnown(t *testing.T) {
	slow := unlimitedBut(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 5, 1 })
	var late atomic.Bool
	known := time.NewTimer(time.Hour)
	callers := &lateCallers{customers{"acme": slow}, func() {
		if late.Load() {
			<-known.C
		}
	}}
	w := &worker{run: echo}
	w.offer(echoOffer(1))
	s := serveCallers(t, w, callers, prometheus.NewRegistry(), nil)
	if got := s.ask(t, "acme", "", ""); got.status != http.StatusOK {
		t.Fatalf("the first call: %d %s", got.status, got.body)
	}
	known.Reset(250 * time.Millisecond) // a token comes in 200 ms
	late.Store(true)
	if got := s.ask(t, "acme", "", ""); got.status != http.StatusOK {
		t.Errorf("after the next token has come: %d %s", got.status, got.body)
	}
}

// TestAskingFirstTakesTokensOfAFullQueue: a client that asks before it sends a body
// knocks on a full queue as often as its tenant has tokens, and no more often does the
// scheduler hear of it.
func TestAskingFirstTakesTokensOfAFullQueue(t *testing.T) {
	slow := unlimitedBut(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 0.01, 2 })
	s, gate := shop(t, 1, customers{"asks": slow, "other": lightcone.Unlimited}, func(c *Config) { c.MaxWaitingCalls = 0 })
	var held sync.WaitGroup
	defer held.Wait()
	defer close(gate)
	held.Go(func() { s.ask(t, "other", "wait", "") })
	lane := (*s.lanes.Load())["echo"]
	eventually(t, "the slot is taken", func() bool { return lane.report().Running == 1 })
	for i := range 50 {
		client := s.dial(t)
		client.say("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer asks\nExpect: 100-continue\nContent-Length: 4\n\n")
		got := client.hear()
		_ = client.Close()
		switch {
		case i >= 2:
			wantRefused(t, got, admission.CallsPerSecond, 100)
			wantLeft(t, got, `"calls_per_second";r=0`, 100)
		case got.status != http.StatusServiceUnavailable || got.header.Get("RateLimit") == "":
			t.Errorf("knock %d: %d, %v", i, got.status, got.header)
		}
	}
	if refused := lane.demand().Refused; refused > 2 {
		t.Errorf("the scheduler hears of %d refusals", refused)
	}
}
