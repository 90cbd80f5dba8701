package consul

import (
	"flag"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/internal/testbed"
)

// TestMain is also the candidate process of TestAFrozenLeaderIsFenced.
func TestMain(m *testing.M) {
	if os.Getenv(candidateKey) != "" {
		standAsProcess()
		return
	}
	// These tests wait for Consul much more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// management is the token that may do everything on a test's agent.
const management = testbed.ManagementToken

// agent is a real Consul server of the test's own, whose ACLs deny by default.
type agent struct {
	*testbed.Consul
	t *testing.T
}

// newAgent starts an agent that can be managed with the management token.
func newAgent(t *testing.T) *agent {
	t.Helper()
	return &agent{testbed.StartConsul(t, testbed.ConsulConfig{ACL: true}), t}
}

// client is closed with the test.
func (a *agent) client(token string) *Client { return clientAt(a.t, a.Address, token) }

// scheduler is a client that may do what the scheduler's policy allows.
func (a *agent) scheduler() *Client {
	a.t.Helper()
	c := a.client(management)
	if err := c.PutPolicy(a.t.Context(), "scheduler", Policies()["scheduler"]); err != nil {
		a.t.Fatal(err)
	}
	token, err := c.PutToken(a.t.Context(), "scheduler", "scheduler")
	if err != nil {
		a.t.Fatal(err)
	}
	return a.client(token)
}

func clientAt(t *testing.T, address, token string) *Client {
	t.Helper()
	c, err := Connect(Config{Address: address, Token: token, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// eventually waits for a condition, within a bound.
func eventually(t *testing.T, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", bound, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
