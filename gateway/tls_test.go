package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestCallsOverTLS(t *testing.T) {
	s := serve(t, 2, echo, nil)
	door := s.serveTLS(t, io.Discard)
	client := door.newClient(t)
	for _, size := range []int{0, 1, 4096, 256 << 10, 5 << 20} {
		body := bytes.Repeat([]byte("light"), size/5+1)[:size]
		for name, send := range map[string]io.Reader{"announced": bytes.NewReader(body), "chunked": io.MultiReader(bytes.NewReader(body))} {
			if got := door.post(t, client, send); got.status != 200 || got.body != string(body) {
				t.Errorf("%d bytes %s: %d with %d bytes", size, name, got.status, len(got.body))
			}
		}
	}
	if got := s.post(t, strings.NewReader("plain")); got.status != 200 || got.body != "plain" {
		t.Errorf("beside it, plain: %d %q", got.status, got.body)
	}
	if got := s.handshakes(t, "done"); got == 0 {
		t.Error("handshakes are not counted")
	}
}

func (s *served) handshakes(t testing.TB, outcome string) float64 {
	t.Helper()
	return gathered(t, s.registry, "lightcone_gateway_handshakes_total", map[string]string{"outcome": outcome})
}

// TestHandshakes: what is offered to clients of all kinds.
func TestHandshakes(t *testing.T) {
	s := serve(t, 1, echo, nil)
	door := s.serveTLS(t, io.Discard)
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		good   bool
	}{
		{"as usual", func(*tls.Config) {}, true},
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"TLS 1.2 without forward secrecy", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}, false},
		{"TLS 1.2 in CBC mode", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
		{"HTTP/2 or 1.1", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, true},
		{"HTTP/2 alone", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
		{"another name", func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "elsewhere.test", true }, true},
		{"no name", func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "", true }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := door.client.Clone()
			test.change(config)
			dialer := &tls.Dialer{Config: config}
			conn, err := dialer.DialContext(t.Context(), "tcp", door.address)
			if (err == nil) != test.good {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			state := conn.(*tls.Conn).ConnectionState()
			if proto := state.NegotiatedProtocol; proto != "" && proto != "http/1.1" {
				t.Errorf("the protocol is %q", proto)
			}
			client := &raw{conn, t, bufio.NewReader(conn)}
			client.say("POST /function/echo HTTP/1.1\nKEY\nContent-Length: 2\n\nhi")
			if got := client.hear(); got.status != 200 || got.body != "hi" {
				t.Errorf("got %d %q", got.status, got.body)
			}
		})
	}
}

// TestStalledHandshake: a client that does not finish its handshake costs its own
// connection, for as long as headers may take.
func TestStalledHandshake(t *testing.T) {
	s := serve(t, 1, echo, func(c *Config) { c.HeaderTimeout = 2 * time.Second }) // enough for the good clients, too
	door := s.serveTLS(t, io.Discard)
	for name, said := range map[string]string{
		"silent": "", "half a record": "\x16\x03\x01\x02\x00\x01", "nonsense": "\x00\x01\x02\x03\x04\x05",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", door.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, said); err != nil {
				t.Fatal(err)
			}
			if got := door.post(t, door.newClient(t), strings.NewReader("beside it")); got.status != 200 {
				t.Errorf("beside it: %d", got.status)
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("before the gateway closed: %v", err)
			}
		})
	}
	t.Run("byte by byte", func(t *testing.T) {
		conn, err := net.Dial("tcp", door.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		_, _ = io.WriteString(conn, "\x16\x03\x01\x02\x00")
		for err == nil && time.Since(began) < patience {
			_, err = conn.Write([]byte{1})
			time.Sleep(10 * time.Millisecond) // the attack is to be slow
		}
		if err == nil {
			t.Error("a handshake of single bytes goes on for ever")
		}
	})
	eventually(t, "all are counted", func() bool { return s.handshakes(t, "timeout") >= 3 && s.handshakes(t, "failed") >= 1 })
	eventually(t, "none is open", func() bool { return s.openConnections() <= 3 }) // the clients' beside them, kept alive
}

// TestWrongProtocol: who speaks the other one is told, or at least not kept waiting.
func TestWrongProtocol(t *testing.T) {
	s := serve(t, 1, echo, nil)
	door := s.serveTLS(t, io.Discard)
	t.Run("HTTP to the TLS port", func(t *testing.T) {
		conn, err := net.Dial("tcp", door.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		client := &raw{conn, t, bufio.NewReader(conn)}
		client.say("POST /function/echo HTTP/1.1\nKEY\nContent-Length: 5\n\nfirst")
		got := client.hear()
		if got.status != 400 || !strings.Contains(got.body, "https://") {
			t.Errorf("got %d %s", got.status, got.body)
		}
		checkDocument(t, got, problem.BadParameter)
		client.hearEnd()
		eventually(t, "it is counted", func() bool { return s.handshakes(t, "http") == 1 })
	})
	t.Run("TLS to the plain port", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		err = tls.Client(conn, door.client).HandshakeContext(t.Context())
		var record tls.RecordHeaderError
		if !errors.As(err, &record) || string(record.RecordHeader[:4]) != "HTTP" {
			t.Errorf("the handshake ends with %v", err)
		}
		if took := time.Since(began); took > patience/2 {
			t.Errorf("it took %v", took)
		}
		if got := counted(t, s.registry, "", string(problem.BadParameter)); got != 1 {
			t.Errorf("counted %v times", got)
		}
	})
}

// TestConnectionCapOverTLS: a connection over the cap costs no handshake.
func TestConnectionCapOverTLS(t *testing.T) {
	s := serve(t, 1, echo, func(c *Config) { c.MaxConnections = 1 })
	door := s.serveTLS(t, io.Discard)
	first := door.dial(t)
	if conn, err := tls.Dial("tcp", door.address, door.client); err == nil {
		t.Error("a connection over the cap")
		_ = conn.Close()
	}
	first.say("GET /healthz HTTP/1.1\nHost: a\n\n")
	if got := first.hear(); got.status != 200 {
		t.Errorf("within the cap: %d", got.status)
	}
}

// TestShutdownOverTLS: a call that runs is answered, what is idle is closed, and a
// client in the middle of its handshake is still served.
func TestShutdownOverTLS(t *testing.T) {
	gate := make(chan struct{})
	s := serve(t, 2, func(call *functions.Call, answer *functions.Answer) error {
		if string(call.Query) == "wait" {
			<-gate
		}
		return echo(call, answer)
	}, func(c *Config) { c.IdleTimeout = time.Minute })
	door := s.serveTLS(t, io.Discard)
	kept, fresh, busy := door.dial(t), door.dial(t), door.dial(t)
	kept.say("GET /healthz HTTP/1.1\nHost: a\n\n")
	kept.hear()
	busy.say("POST /function/echo?wait HTTP/1.1\nKEY\nContent-Length: 4\n\nbusy")
	eventually(t, "the call runs", func() bool { return (*s.lanes.Load())["echo"].report().Running == 1 })
	greeting, err := net.Dial("tcp", door.address)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are open", func() bool { return s.openConnections() == 4 && s.handshakes(t, "done") == 3 })

	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(t.Context()) }()
	for _, client := range []*raw{kept, fresh} {
		if rest, err := io.ReadAll(client.reader); len(rest) > 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("an idle connection: %q, %v", rest, err)
		}
	}
	late := tls.Client(greeting, door.client)
	defer late.Close()
	client := &raw{late, t, bufio.NewReader(late)}
	client.say("POST /function/echo HTTP/1.1\nKEY\nContent-Length: 4\n\nlate")
	if got := client.hear(); got.status != 200 || got.body != "late" || !got.closes {
		t.Errorf("the call behind a handshake: %d %q", got.status, got.body)
	}
	close(gate)
	if got := busy.hear(); got.status != 200 || got.body != "busy" || !got.closes {
		t.Errorf("the call that ran: %d %q", got.status, got.body)
	}
	busy.hearEnd() // with a proper farewell
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestSlowReaderOverTLS is cut off after WriteTimeout, and nothing waits for its farewell.
func TestSlowReaderOverTLS(t *testing.T) {
	large := make([]byte, 12<<20)
	s := serve(t, 1, func(_ *functions.Call, answer *functions.Answer) error {
		answer.Status, answer.Body = 200, append(answer.Body[:0], large...)
		return nil
	}, func(c *Config) { c.WriteTimeout = time.Second })
	client := s.serveTLS(t, io.Discard).dial(t)
	client.say("POST /function/echo HTTP/1.1\nKEY\n\n")
	began := time.Now()
	if _, err := client.reader.ReadByte(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slow reader is cut off and nothing is held for it", func() bool { return s.budget.used.Load() == 0 })
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v; the timeout is 1s", took)
	}
}

// TestShutdownCutsOffOverTLS: at its end, a shutdown waits for no farewell.
func TestShutdownCutsOffOverTLS(t *testing.T) {
	large := make([]byte, 12<<20)
	s := serve(t, 1, func(_ *functions.Call, answer *functions.Answer) error {
		answer.Status, answer.Body = 200, append(answer.Body[:0], large...)
		return nil
	}, nil)
	client := s.serveTLS(t, io.Discard).dial(t)
	client.say("POST /function/echo HTTP/1.1\nKEY\n\n")
	if _, err := client.reader.ReadByte(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 4*time.Second { // crypto/tls waits 5 s for a farewell
		t.Errorf("it took %v", took)
	}
}

// TestManyAtOnceOverBoth has clients of both kinds on one gateway.
func TestManyAtOnceOverBoth(t *testing.T) {
	s := serve(t, 4, echo, func(c *Config) { c.MaxWait = time.Minute })
	door := s.serveTLS(t, io.Discard)
	client := door.newClient(t)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 20 {
				if got := door.post(t, client, strings.NewReader("secret")); got.status != http.StatusOK || got.body != "secret" {
					t.Errorf("TLS: %d %q", got.status, got.body)
				}
				if got := s.post(t, strings.NewReader("open")); got.status != http.StatusOK || got.body != "open" {
					t.Errorf("plain: %d %q", got.status, got.body)
				}
			}
		})
	}
	calls.Wait()
}
