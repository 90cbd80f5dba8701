package callback_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway"
	"lightcone/internal/problem"
	"lightcone/queue/callback"
)

var regionKey = callback.RegionKey("a region's key of 32 random bytes.")

// senderWith makes a Sender that may go to 127.0.0.1, and to nothing else on this machine.
func senderWith(t *testing.T, change func(*callback.Config)) *callback.Sender {
	t.Helper()
	rules, err := callback.NewRules([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := callback.Config{Rules: rules, Keys: []callback.RegionKey{regionKey}, StatusOf: gateway.StatusOf, Timeout: 5 * time.Second}
	if change != nil {
		change(&config)
	}
	sender, err := callback.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

var ended1 = time.Now().Add(-time.Minute).Truncate(time.Millisecond)

func noticeTo(url string) *callback.Notice {
	return &callback.Notice{
		Invocation: lightcone.Invocation{
			ID: lightcone.CallID{1, 2, 3}, Tenant: "acme", Function: "echo", Status: lightcone.InvocationSucceeded, Attempts: 1, CreatedAt: ended1, FinishedAt: ended1,
		},
		URL:    url,
		Result: functions.Result{Status: 200, ContentType: "text/plain", Body: []byte("hello"), Exec: 1500 * time.Microsecond},
	}
}

// heard is a request as a server had it.
type heard struct {
	method, path, host, server string
	header                     http.Header
	body                       string
}

// listener notes requests and answers them with answer.
type listener struct {
	*httptest.Server
	mu   sync.Mutex
	asks []heard
}

func (l *listener) heard() []heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asks
}

// listen starts a server on an address such as 127.0.0.1:0, with TLS or without.
func listen(t *testing.T, address string, tls bool, answer http.HandlerFunc) *listener {
	t.Helper()
	socket, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	l := new(listener)
	l.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows in the comparison
		got := heard{method: r.Method, path: r.URL.Path, host: r.Host, header: r.Header, body: string(body)}
		if r.TLS != nil {
			got.server = r.TLS.ServerName
		}
		l.mu.Lock()
		l.asks = append(l.asks, got)
		l.mu.Unlock()
		answer(w, r)
	}))
	_ = l.Listener.Close()
	l.Listener = socket
	l.Config.ErrorLog = log.New(io.Discard, "", 0) // a failed handshake is the point of some tests
	if tls {
		l.StartTLS()
	} else {
		l.Start()
	}
	t.Cleanup(l.Close)
	return l
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func redirect(code int, location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(code)
	}
}

func portOf(l *listener) string {
	_, port, _ := net.SplitHostPort(l.Listener.Addr().String())
	return port
}

func TestDelivered(t *testing.T) {
	server := listen(t, "127.0.0.1:0", false, status(204))
	old := callback.RegionKey("the key that the region had before this one")
	sender := senderWith(t, func(c *callback.Config) { c.Keys = append(c.Keys, old) })
	if verdict := sender.Deliver(t.Context(), noticeTo(server.URL+"/done?call=1"), 3); verdict != (callback.Verdict{Outcome: callback.Delivered}) {
		t.Fatalf("%+v", verdict)
	}
	got := server.heard()
	if len(got) != 1 {
		t.Fatalf("%d requests", len(got))
	}
	header := got[0].header
	id := lightcone.CallID{1, 2, 3}.String()
	want := http.Header{
		"User-Agent": {"Lightcone"}, "Content-Length": {"5"}, "Content-Type": {"text/plain"}, "Connection": {"close"},
		"X-Call-Id": {id}, "X-Call-Status": {"succeeded"}, "X-Function-Name": {"echo"}, "X-Function-Status": {"200"}, "X-Duration-Seconds": {"0.001500"}, "X-Retry": {"2"}, "X-Retry-Max": {"11"},
		"Webhook-Id":        {fmt.Sprintf("%s:echo:succeeded:200:%d", id, ended1.UnixMilli())},
		"Webhook-Timestamp": header["Webhook-Timestamp"], "Webhook-Signature": header["Webhook-Signature"],
	}
	if difference := cmp.Diff(want, header); difference != "" {
		t.Error(difference)
	}
	if got[0].method != "POST" || got[0].path != "/done" || got[0].body != "hello" {
		t.Errorf("%+v", got[0])
	}
	for _, key := range []callback.RegionKey{regionKey, old} {
		r := &receiver{secret: callback.SecretOf(key, "acme").Text(), now: time.Now}
		call, err := r.verify(header, []byte("hello"))
		if want := (ended{call: id, function: "echo", status: "succeeded", functionStatus: 200}); err != nil || call != want {
			t.Errorf("%+v, %v", call, err)
		}
		if _, err := r.verify(header, []byte("hellO")); err == nil {
			t.Error("another body verifies")
		}
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp"} {
			changed := header.Clone()
			changed.Set(name, header.Get(name)+"0")
			if _, err := r.verify(changed, []byte("hello")); err == nil {
				t.Errorf("another %s verifies", name)
			}
		}
	}
	if _, err := (&receiver{secret: callback.SecretOf(regionKey, "other").Text(), now: time.Now}).verify(header, []byte("hello")); err == nil {
		t.Error("another tenant's secret verifies it")
	}
	later := func() time.Time { return time.Now().Add(time.Hour) }
	if _, err := (&receiver{secret: callback.SecretOf(regionKey, "acme").Text(), now: later}).verify(header, []byte("hello")); err == nil {
		t.Error("an old one verifies")
	}
}

// TestWhatIsSent: a call that ended badly, or whose result is too large, is told of as well.
func TestWhatIsSent(t *testing.T) {
	server := listen(t, "127.0.0.1:0", false, status(200))
	sender, id := senderWith(t, nil), lightcone.CallID{1, 2, 3}.String()
	for name, test := range map[string]struct {
		change             func(*callback.Notice)
		status, function   string
		kind, body, result string
	}{
		"the function refused": {
			func(n *callback.Notice) {
				n.Invocation.Status, n.Result = lightcone.InvocationFailed, functions.Result{Status: 500, Problem: problem.CorruptInput, Body: []byte("The JPEG ends early.")}
			}, "failed", "422", "application/problem+json", `{"type":"urn:lightcone:problem:corrupt-input","title":"Corrupt input","status":422,"detail":"The JPEG ends early.","instance":"urn:lightcone:call:` + id + `"}`, "",
		},
		"the function named what is not its to name": {
			func(n *callback.Notice) {
				n.Invocation.Status, n.Result = lightcone.InvocationFailed, functions.Result{Status: 500, Problem: problem.Forbidden, Body: []byte("No.")}
			}, "failed", "502", "application/problem+json", `{"type":"urn:lightcone:problem:function-failed","title":"Function failed","status":502,"detail":"The function named the problem \"forbidden\", which is not for functions to name.","instance":"urn:lightcone:call:` + id + `"}`, "",
		},
		"no function answered": {
			func(n *callback.Notice) {
				n.Invocation.Status, n.Result = lightcone.InvocationFailed, functions.Result{Problem: problem.TooLarge, Body: []byte("It is over 3 MiB.")}
			}, "failed", "413", "application/problem+json", `{"type":"urn:lightcone:problem:too-large","title":"Too large","status":413,"detail":"It is over 3 MiB.","instance":"urn:lightcone:call:` + id + `"}`, "",
		},
		"the function's own 404": {
			func(n *callback.Notice) { n.Invocation.Status, n.Result.Status = lightcone.InvocationFailed, 404 }, "failed", "404", "text/plain", "hello", "",
		},
		"dead": {
			func(n *callback.Notice) {
				n.Invocation.Status, n.Invocation.Error, n.Result = lightcone.InvocationDead, "It crashed 4 times.", functions.Result{}
			}, "dead", "409", "application/problem+json", `{"type":"urn:lightcone:problem:not-finished","title":"No result","status":409,"detail":"It crashed 4 times.","instance":"urn:lightcone:call:` + id + `"}`, "",
		},
		"cancelled": {
			func(n *callback.Notice) {
				n.Invocation.Status, n.Result = lightcone.InvocationCancelled, functions.Result{}
			}, "cancelled", "409", "application/problem+json", `{"type":"urn:lightcone:problem:cancelled","title":"Cancelled","status":409,"detail":"The call was cancelled.","instance":"urn:lightcone:call:` + id + `"}`, "",
		},
		"too large": {
			func(n *callback.Notice) { n.Elsewhere, n.Result.Body = true, nil },
			"succeeded", "200", "", "", "/v1/invocations/" + id + "/result",
		},
		"empty": {
			func(n *callback.Notice) { n.Result.ContentType, n.Result.Body = "", nil }, "succeeded", "200", "application/octet-stream", "", "",
		},
		"a content type that no header holds": {
			func(n *callback.Notice) { n.Result.ContentType = "text/plain\r\nX-Evil: 1" }, "succeeded", "200", "application/octet-stream", "hello", "",
		},
		"a mebibyte": {
			func(n *callback.Notice) { n.Result.Body = bytes.Repeat([]byte("x"), 1<<20) }, "succeeded", "200", "text/plain", strings.Repeat("x", 1<<20), "",
		},
	} {
		notice := noticeTo(server.URL)
		test.change(notice)
		if verdict := sender.Deliver(t.Context(), notice, 1); verdict.Outcome != callback.Delivered {
			t.Fatalf("%s: %+v", name, verdict)
		}
		all := server.heard()
		got := all[len(all)-1]
		for header, want := range map[string]string{"X-Call-Status": test.status, "X-Function-Status": test.function, "Content-Type": test.kind, "X-Result-Location": test.result, "X-Evil": ""} {
			if got.header.Get(header) != want {
				t.Errorf("%s: %s: %q, want %q", name, header, got.header.Get(header), want)
			}
		}
		if got.body != test.body {
			t.Errorf("%s: the body is %.300q", name, got.body)
		}
		r := &receiver{secret: callback.SecretOf(regionKey, "acme").Text(), now: time.Now}
		if _, err := r.verify(got.header, []byte(got.body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerdicts: what a server does, and what follows.
func TestVerdicts(t *testing.T) {
	closed := listen(t, "127.0.0.1:0", false, status(200))
	closed.Close()
	_, resolver := startNameserver(t, nil)
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		url     string // in place of the server's
		outcome callback.Outcome
		reason  string
		atLeast time.Duration
	}{
		"delivered":          {answer: status(201), outcome: callback.Delivered},
		"gone":               {answer: status(410), outcome: callback.GivenUp, reason: "410"},
		"not found":          {answer: status(404), outcome: callback.Again, reason: "404"},
		"failed":             {answer: status(500), outcome: callback.Again, reason: "500"},
		"found":              {answer: redirect(302, "/elsewhere"), outcome: callback.Again, reason: "302"},
		"307 to nowhere":     {answer: status(307), outcome: callback.Again, reason: "307"},
		"early hints":        {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(200) }, outcome: callback.Delivered},
		"hangs up":           {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, outcome: callback.Again, reason: "no answer"},
		"busy":               {answer: retryIn("600"), outcome: callback.Again, reason: "503", atLeast: 10 * time.Minute},
		"nobody listens":     {url: closed.URL, outcome: callback.Again, reason: "no connection"},
		"no such host":       {url: "http://gone.example/", outcome: callback.Again, reason: "resolved"},
		"a forbidden host":   {url: "http://127.0.0.2/", outcome: callback.GivenUp, reason: "loopback"},
		"a URL that is none": {url: "gopher://example.com", outcome: callback.GivenUp, reason: "scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			url := test.url
			if url == "" {
				url = listen(t, "127.0.0.1:0", false, test.answer).URL
			}
			sender := senderWith(t, func(c *callback.Config) { c.Resolver = resolver })
			verdict := sender.Deliver(t.Context(), noticeTo(url), 1)
			if verdict.Outcome != test.outcome || !strings.Contains(verdict.Reason, test.reason) || verdict.After < test.atLeast || verdict.Uncounted {
				t.Errorf("%+v", verdict)
			}
		})
	}
}

func retryIn(seconds string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", seconds)
		w.WriteHeader(503)
	}
}

// TestStrictRules: without an allowed network, a server on this machine hears nothing.
func TestStrictRules(t *testing.T) {
	server := listen(t, "127.0.0.1:0", false, status(200))
	_, resolver := startNameserver(t, always(map[string][]string{"public.example.": {"127.0.0.1"}}))
	sender := senderWith(t, func(c *callback.Config) { c.Rules, c.Resolver = callback.Rules{}, resolver })
	for _, url := range []string{server.URL, "http://localhost:" + portOf(server), "http://[::ffff:127.0.0.1]:" + portOf(server), "http://public.example:" + portOf(server)} {
		if verdict := sender.Deliver(t.Context(), noticeTo(url), 1); verdict.Outcome != callback.GivenUp {
			t.Errorf("%s: %+v", url, verdict)
		}
	}
	if got := server.heard(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestConfig(t *testing.T) {
	for _, config := range []callback.Config{
		{StatusOf: gateway.StatusOf}, {StatusOf: gateway.StatusOf, Keys: []callback.RegionKey{callback.RegionKey("short")}}, {Keys: []callback.RegionKey{regionKey}},
		{StatusOf: gateway.StatusOf, Keys: []callback.RegionKey{regionKey}, AtOnce: -1}, {StatusOf: gateway.StatusOf, Keys: []callback.RegionKey{regionKey}, Timeout: -1},
	} {
		if _, err := callback.New(config); err == nil {
			t.Errorf("%+v is taken", config)
		}
	}
}

// TestStopping: an attempt that a stop ends is not counted.
func TestStopping(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	server := listen(t, "127.0.0.1:0", false, func(_ http.ResponseWriter, r *http.Request) {
		stop()
		<-r.Context().Done()
	})
	if verdict := senderWith(t, nil).Deliver(ctx, noticeTo(server.URL), callback.MostAttempts); verdict.Outcome != callback.Again || !verdict.Uncounted || verdict.After <= 0 {
		t.Errorf("%+v", verdict)
	}
}
