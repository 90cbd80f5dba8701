package gateway

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestUnusualButRight(t *testing.T) {
	s := serve(t, 1, echo, nil)
	s.throughBoth(t, checkUnusualButRight)
}

func checkUnusualButRight(t *testing.T, dial func(testing.TB) *raw) {
	t.Run("pipelined", func(t *testing.T) {
		client := dial(t)
		client.say(strings.Repeat("POST /function/echo HTTP/1.1\nKEY\nContent-Length: 5\n\nfirstPOST /function/echo HTTP/1.1\nKEY\nTransfer-Encoding: chunked\n\n6\nsecond\n0\n\nGET /healthz HTTP/1.1\nHost: a\n\n", 10))
		for range 10 {
			for _, want := range []string{"first", "second", "{\"live\":true}\n"} {
				if got := client.hear(); got.status != 200 || got.body != want {
					t.Fatalf("got %d %q, want %q", got.status, got.body, want)
				}
			}
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		client := dial(t)
		client.say("POST /function/echo HTTP/1.0\nAuthorization: Bearer " + testKey + "\nContent-Length: 3\n\nold")
		if got := client.hear(); got.status != 200 || got.body != "old" {
			t.Errorf("got %d %q", got.status, got.body)
		}
		client.hearEnd()
	})
	t.Run("no length at all", func(t *testing.T) {
		client := dial(t)
		client.say("POST /function/echo HTTP/1.1\nKEY\n\n")
		if got := client.hear(); got.status != 200 || got.body != "" {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		client := dial(t)
		for _, c := range "POST /function/echo HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "\nContent-Length: 4\n\nslow" {
			client.say(string(c))
		}
		if got := client.hear(); got.status != 200 || got.body != "slow" {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
	t.Run("absolute form", func(t *testing.T) {
		client := dial(t)
		client.say("POST http://test/function/echo?a=b HTTP/1.1\nKEY\nContent-Length: 1\n\na")
		if got := client.hear(); got.status != 200 || got.body != "a" {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	s := serve(t, 1, echo, nil)
	s.throughBoth(t, checkExpectContinue)
}

func checkExpectContinue(t *testing.T, dial func(testing.TB) *raw) {
	t.Run("accepted", func(t *testing.T) {
		client := dial(t)
		client.say("POST /function/echo HTTP/1.1\nKEY\nExpect: 100-continue\nContent-Length: 4\n\n")
		if got := client.hear(); got.status != 100 {
			t.Fatalf("got %d before the body", got.status)
		}
		client.say("body")
		if got := client.hear(); got.status != 200 || got.body != "body" {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
	for _, test := range []struct {
		name, said string
		status     int
		kind       problem.Kind
	}{
		{"too large", "POST /function/echo HTTP/1.1\nKEY\nExpect: 100-continue\nContent-Length: 22020096\n\n", 413, problem.TooLarge},
		{"no key", "POST /function/echo HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\n", 401, problem.Unauthenticated},
		{"no such path", "POST /nope HTTP/1.1\nKEY\nExpect: 100-continue\nContent-Length: 4\n\n", 404, problem.NotFound},
		{"smuggled", "POST /function/echo HTTP/1.1\nKEY\nExpect: 100-continue\nContent-Length: 4\nTransfer-Encoding: chunked\n\n", 400, problem.BadParameter},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dial(t)
			client.say(test.said)
			got := client.hear()
			if got.status != test.status {
				t.Errorf("got %d %q, want %d", got.status, got.body, test.status)
			}
			checkDocument(t, got, test.kind)
			client.hearEnd()
		})
	}
	t.Run("never sends it", func(t *testing.T) {
		client := dial(t)
		client.say("POST /function/echo HTTP/1.1\nKEY\nExpect: 100-continue\nContent-Length: 4\n\n")
		if got := client.hear(); got.status != 100 {
			t.Fatalf("got %d before the body", got.status)
		}
		_ = client.Close() // nothing may be left of it: see served.stop
	})
}

func TestTooLargeCanBeRead(t *testing.T) {
	s := serve(t, 1, echo, nil)
	door := s.serveTLS(t, io.Discard)
	body := make([]byte, 21<<20)
	for name, send := range map[string]func() *reply{
		"announced":       func() *reply { return s.post(t, bytes.NewReader(body)) },
		"chunked":         func() *reply { return s.post(t, io.MultiReader(bytes.NewReader(body))) },
		"100-continue":    func() *reply { return s.post(t, bytes.NewReader(body), "Expect", "100-continue") },
		"without waiting": func() *reply { return sendAll(t, s.dial, body) },
		"over TLS":        func() *reply { return sendAll(t, door.dial, body) },
	} {
		t.Run(name, func(t *testing.T) {
			got := send()
			if got.status != 413 || !got.closes {
				t.Errorf("got %d, closing: %v", got.status, got.closes)
			}
			checkDocument(t, got, problem.TooLarge)
		})
	}
}

// sendAll sends its whole body before it reads a single byte of the answer.
func sendAll(t *testing.T, dial func(testing.TB) *raw, body []byte) *reply {
	client := dial(t)
	client.say(fmt.Sprintf("POST /function/echo HTTP/1.1\nKEY\nContent-Length: %d\n\n", len(body)))
	if _, err := client.Write(body); err != nil {
		t.Fatalf("the gateway stopped reading: %v", err)
	}
	return client.hear()
}

func TestRefusalKeepsTheConnection(t *testing.T) {
	s := serve(t, 1, echo, nil)
	s.throughBoth(t, checkRefusalKeepsTheConnection)
}

func checkRefusalKeepsTheConnection(t *testing.T, dial func(testing.TB) *raw) {
	client := dial(t)
	for _, size := range []int{0, 1, 265 << 10, 1 << 20} {
		client.say(fmt.Sprintf("POST /function/echo HTTP/1.1\nHost: a\nContent-Length: %d\n\n%s", size, strings.Repeat("a", size)))
		if got := client.hear(); got.status != 401 || got.closes {
			t.Fatalf("%d bytes: got %d, closing: %v", size, got.status, got.closes)
		}
	}
	client.say("POST /function/echo HTTP/1.1\nKEY\nContent-Length: 4\n\nfine")
	if got := client.hear(); got.status != 200 || got.body != "fine" {
		t.Errorf("after the refusals: %d %q", got.status, got.body)
	}
}

func TestStopsHalfWay(t *testing.T) {
	// Long enough for a handshake on a busy machine: it counts as part of the headers.
	s := serve(t, 1, echo, func(c *Config) { c.BodyStallTimeout, c.HeaderTimeout = time.Second, time.Second })
	s.throughBoth(t, checkStopsHalfWay)
}

func checkStopsHalfWay(t *testing.T, dial func(testing.TB) *raw) {
	const start = "POST /function/echo HTTP/1.1\nKEY\n"
	for _, test := range []struct {
		name, said string
		leaves     bool // closes its sending half
		status     int
		kind       problem.Kind
	}{
		{"in the headers", start, false, 408, problem.RequestTimeout},
		{"after the headers", start + "Content-Length: 10\n\n", false, 408, problem.RequestTimeout},
		{"in the body", start + "Content-Length: 10\n\nhalf", false, 408, problem.RequestTimeout},
		{"in a chunk", start + "Transfer-Encoding: chunked\n\nA\nhalf", false, 408, problem.RequestTimeout},
		{"between chunks", start + "Transfer-Encoding: chunked\n\n4\nhalf\n", false, 408, problem.RequestTimeout},
		{"at its deadline", start + "X-Timeout: 300ms\nContent-Length: 10\n\nhalf", false, 504, problem.DeadlineExceeded},
		{"and leaves", start + "Content-Length: 10\n\nhalf", true, 400, problem.LengthMismatch},
		{"and leaves in a chunk", start + "Transfer-Encoding: chunked\n\nA\nhalf", true, 400, problem.LengthMismatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dial(t)
			client.say(test.said)
			if test.leaves {
				client.halfClose()
			}
			got := client.hear()
			if got.status != test.status {
				t.Errorf("got %d %s, want %d", got.status, got.body, test.status)
			}
			checkDocument(t, got, test.kind)
			client.hearEnd()
		})
	}
}

// TestSlowReader has clients that ask for a large answer and read next to
// nothing. Their calls are over, their slots are free, and each is cut off after
// WriteTimeout.
func TestSlowReader(t *testing.T) {
	large := make([]byte, 12<<20)
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		if string(call.Query) == "large" {
			answer.Status, answer.Body = 200, append(answer.Body[:0], large...)
			return nil
		}
		return echo(call, answer)
	}, func(c *Config) { c.WriteTimeout = 1500 * time.Millisecond })
	const slow = 3
	for range slow {
		client := s.dial(t)
		client.say("POST /function/echo?large HTTP/1.1\nKEY\n\n")
		if _, err := client.reader.ReadByte(); err != nil {
			t.Fatal(err)
		}
	}
	if held := s.budget.used.Load(); held < slow*int64(len(large)) {
		t.Errorf("%d bytes are accounted for while %d answers wait to be read", held, slow)
	}
	for range 20 {
		if got := s.post(t, strings.NewReader("quick")); got.status != 200 {
			t.Fatalf("beside slow readers: %d %s", got.status, got.body)
		}
	}
	eventually(t, "the slow readers are cut off and nothing is held for them", func() bool { return s.budget.used.Load() == 0 })
}

func TestConnectionCap(t *testing.T) {
	s := serve(t, 1, echo, func(c *Config) { c.MaxConnections = 2 })
	for range 2 {
		client := s.dial(t)
		client.say("GET /healthz HTTP/1.1\nHost: a\n\n")
		if got := client.hear(); got.status != 200 {
			t.Fatalf("within the cap: %d", got.status)
		}
	}
	client := s.dial(t)
	got := client.hear()
	if got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("over the cap: %d", got.status)
	}
	checkDocument(t, got, problem.Overloaded)
	client.hearEnd()
}
