package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"lightcone"
	"lightcone/internal/problem"
)

// TestATenantLeavesRoomForOthers: without any quota, one tenant takes what it can
// get. Another, and a third, still find room; and each is told why it has no more.
func TestATenantLeavesRoomForOthers(t *testing.T) {
	const most = 16
	tenants := customers{"greedy": lightcone.Unlimited, "second": lightcone.Unlimited, "third": lightcone.Unlimited}
	s, gate := shop(t, 2*most, tenants, func(c *Config) { c.MaxCallsInFlight = most })
	running := func() int { return (*s.lanes.Load())["echo"].report().Running }
	var held sync.WaitGroup
	hold := func(tenant lightcone.TenantID, calls int) {
		t.Helper()
		want := running() + calls
		for range calls {
			held.Go(func() {
				if got := s.ask(t, tenant, "wait", "body"); got.status != http.StatusOK {
					t.Errorf("a call that %s was let in with: %d %s", tenant, got.status, got.body)
				}
			})
		}
		eventually(t, fmt.Sprintf("%d calls run", want), func() bool { return running() == want })
	}
	full := func(tenant lightcone.TenantID) {
		t.Helper()
		got := s.ask(t, tenant, "", "body")
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "left for all others") || got.header.Get("RateLimit") != "" {
			t.Errorf("%s, with as many calls as are left: %d %v %s", tenant, got.status, got.header, got.body)
		}
		checkDocument(t, got, problem.Overloaded)
		asks := s.dial(t)
		asks.say("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer " + string(tenant) + "\nExpect: 100-continue\nContent-Length: 4\n\n")
		if got := asks.hear(); got.status != http.StatusServiceUnavailable {
			t.Errorf("%s, asking first: %d", tenant, got.status)
		}
	}
	hold("greedy", most/2)
	full("greedy")
	hold("second", most/4)
	full("second")
	full("greedy")
	if got := s.ask(t, "third", "", "body"); got.status != http.StatusOK {
		t.Errorf("the third tenant: %d %s", got.status, got.body)
	}
	close(gate)
	held.Wait()
	if got := s.ask(t, "greedy", "", "body"); got.status != http.StatusOK {
		t.Errorf("with room again: %d", got.status)
	}
}

// TestATenantLeavesMemoryForOthers has a tenant that announces large bodies and does
// not send them, and one that does not read its answers.
func TestATenantLeavesMemoryForOthers(t *testing.T) {
	const body, fit = 256 << 10, 8
	tenants := customers{"greedy": lightcone.Unlimited, "other": lightcone.Unlimited}
	s, _ := shop(t, 2, tenants, func(c *Config) { c.MaxBytesInFlight = fit * body })
	announce := func() *raw {
		w := s.dial(t)
		w.say(fmt.Sprintf("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer greedy\nContent-Length: %d\n\nx", body))
		return w
	}
	held := func() int64 { return s.budget.used.Load() }
	var slow []*raw
	for i := range fit / 2 {
		slow = append(slow, announce())
		eventually(t, "the body's memory is reserved", func() bool { return held() == int64(i+1)*body })
	}
	got := announce().hear()
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "as many bytes here as are left") {
		t.Errorf("one body more: %d %s", got.status, got.body)
	}
	for range 3 {
		if got := s.ask(t, "other", "", strings.Repeat("b", body)); got.status != http.StatusOK || len(got.body) != body {
			t.Errorf("the other tenant: %d with %d bytes", got.status, len(got.body))
		}
	}
	for _, w := range slow {
		_ = w.Close()
	}
	eventually(t, "what the slow bodies held is free", func() bool { return held() == 0 })
	if got := s.ask(t, "greedy", "", strings.Repeat("b", (fit-2)*body)); got.status != http.StatusOK {
		t.Errorf("a tenant's only body may take all that is free: %d %s", got.status, got.body)
	}
}
