package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
)

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
	callers := &lateCallers{customers{"acme": slow}, func() {}}
	w := &worker{run: echo}
	w.offer(echoOffer(1))
	s := serveCallers(t, w, callers, prometheus.NewRegistry(), nil)
	if got := s.ask(t, "acme", "", ""); got.status != http.StatusOK {
		t.Fatalf("the first call: %d %s", got.status, got.body)
	}
	known := time.NewTimer(250 * time.Millisecond) // a token comes in 200 ms
	callers.pause = func() { <-known.C }
	if got := s.ask(t, "acme", "", ""); got.status != http.StatusOK {
		t.Errorf("after the next token has come: %d %s", got.status, got.body)
	}
}
