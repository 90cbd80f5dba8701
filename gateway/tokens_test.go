package gateway

import (
	"sync"
	"testing"

	"lightcone"
	"lightcone/gateway/admission"
)

func TestRefusalsOfOtherKindsTakeNoToken(t *testing.T) {
	s, _ := shop(t, 1, customers{"acme": unlimitedBut(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 0.01, 1 })}, nil)
	for path, want := range map[string]int{"/function/nope": 404, "/function/forbidden": 403} {
		if got, err := s.send("POST", path, nil, "Authorization", "Bearer acme"); err != nil || got.status != want {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	if got, err := s.send("POST", "/function/echo", nil, "Authorization", "Bearer acme", "X-Timeout", "1y"); err != nil || got.status != 400 {
		t.Errorf("a bad timeout: %v, %v", got, err)
	}
	if got := s.ask(t, "nobody", "", ""); got.status != 401 || got.header.Get("RateLimit") != "" {
		t.Errorf("nobody: %d, %v", got.status, got.header)
	}
	if got := s.ask(t, "acme", "", ""); got.status != 200 {
		t.Errorf("the first good call: %d %s", got.status, got.body)
	}
	wantRefused(t, s.ask(t, "acme", "", ""), admission.CallsPerSecond, 100)
}

// TestTokensAreTakenOnce: by a call whose client asks before it sends the body,
// too, and by one that the queue has no place for.
func TestTokensAreTakenOnce(t *testing.T) {
	slow := unlimitedBut(func(q *lightcone.Quota) { q.CallsPerSecond, q.Burst = 0.01, 2 })
	s, gate := shop(t, 1, customers{"acme": slow, "asks": slow, "other": lightcone.Unlimited}, func(c *Config) { c.MaxWaitingCalls = 0 })
	client := s.dial(t)
	for range 2 {
		client.say("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer asks\nExpect: 100-continue\nContent-Length: 4\n\n")
		if got := client.hear(); got.status != 100 {
			t.Fatalf("got %d before the body", got.status)
		}
		client.say("body")
		if got := client.hear(); got.status != 200 {
			t.Fatalf("got %d", got.status)
		}
	}
	client.say("POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer asks\nExpect: 100-continue\nContent-Length: 4\n\n")
	wantRefused(t, client.hear(), admission.CallsPerSecond, 100)

	var held sync.WaitGroup
	held.Go(func() { s.ask(t, "other", "wait", "") })
	eventually(t, "the slot is taken", func() bool { return (*s.lanes.Load())["echo"].report().Running == 1 })
	for range 2 {
		got := s.ask(t, "acme", "", "")
		if got.status != 503 || got.header.Get("RateLimit") == "" {
			t.Errorf("without a place: %d, %v", got.status, got.header)
		}
	}
	wantRefused(t, s.ask(t, "acme", "", ""), admission.CallsPerSecond, 100)
	close(gate)
	held.Wait()
}
