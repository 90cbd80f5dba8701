package callback_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"lightcone"
	"lightcone/queue/callback"
)

// twoListeners are servers at two loopback addresses, on a port that is free at both.
func twoListeners(t *testing.T, first, second string) (*listener, *listener) {
	t.Helper()
	for range 20 {
		probe, err := net.Listen("tcp", second+":0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(probe.Addr().String())
		_ = probe.Close()
		if other, err := net.Listen("tcp", first+":"+port); err == nil {
			_ = other.Close()
			return listen(t, first+":"+port, false, status(200)), listen(t, second+":"+port, false, status(200))
		}
	}
	t.Fatalf("no port is free at both %s and %s", first, second)
	return nil, nil
}

// TestRebinding: a name whose answer is good when it is judged and bad right after leads to the
// good one, for nobody asks again; and where the bad one is the answer, nowhere.
func TestRebinding(t *testing.T) {
	good, bad := twoListeners(t, "127.0.0.1", "127.0.0.2")
	nameserver, resolver := startNameserver(t, map[string][][]netip.Addr{
		"rebinding.example.":  {addressesOf("127.0.0.1"), addressesOf("127.0.0.2")},
		"mixed.example.":      {addressesOf("127.0.0.1", "127.0.0.2")},
		"six.example.":        {addressesOf("127.0.0.1", "::1")},
		"mapped.example.":     {addressesOf("::ffff:127.0.0.2")},
		"metadata.example.":   {addressesOf("169.254.169.254")},
		"translated.example.": {addressesOf("64:ff9b::a9fe:a9fe")},
	})
	sender := senderWith(t, func(c *callback.Config) { c.Resolver = resolver })
	if verdict := sender.Deliver(t.Context(), noticeTo("http://rebinding.example:"+portOf(good)), 1); verdict.Outcome != callback.Delivered {
		t.Fatalf("%+v", verdict)
	}
	if asked := nameserver.questions("rebinding.example."); asked != 1 {
		t.Errorf("resolved %d times for one attempt", asked)
	}
	if got := good.heard(); len(got) != 1 || got[0].host != "rebinding.example:"+portOf(good) {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"rebinding", "mixed", "six", "mapped", "metadata", "translated"} {
		verdict := sender.Deliver(t.Context(), noticeTo(fmt.Sprintf("http://%s.example:%s", name, portOf(good))), 1)
		if verdict.Outcome != callback.GivenUp || !strings.Contains(verdict.Reason, "where no callback goes") {
			t.Errorf("%s: %+v", name, verdict)
		}
	}
	if got := bad.heard(); len(got) != 0 {
		t.Errorf("the forbidden address heard %+v", got)
	}
	if got := good.heard(); len(got) != 1 {
		t.Errorf("the allowed address heard %d requests", len(got))
	}
}

func TestRedirects(t *testing.T) {
	forbidden := listen(t, "127.0.0.2:0", false, status(200))
	end := listen(t, "127.0.0.1:0", false, status(204))
	_, resolver := startNameserver(t, always(map[string][]string{"inside.example.": {"127.0.0.2"}, "end.example.": {"127.0.0.1"}}))
	sender := senderWith(t, func(c *callback.Config) { c.Resolver = resolver })
	for _, code := range []int{307, 308} {
		for location, want := range map[string]callback.Outcome{
			end.URL + "/moved":                            callback.Delivered,
			"http://end.example:" + portOf(end) + "/x":    callback.Delivered,
			forbidden.URL:                                 callback.GivenUp,
			"http://inside.example:" + portOf(forbidden):  callback.GivenUp,
			"http://169.254.169.254/latest/meta-data/":    callback.GivenUp,
			"http://2130706433/":                          callback.GivenUp,
			"http://[::1]:80/":                            callback.GivenUp,
			"http://user@" + end.Listener.Addr().String(): callback.GivenUp,
			"file:///etc/passwd":                          callback.GivenUp,
			"http://exa mple/":                            callback.Again,
		} {
			before := len(end.heard())
			first := listen(t, "127.0.0.1:0", false, redirect(code, location))
			verdict := sender.Deliver(t.Context(), noticeTo(first.URL), 1)
			if verdict.Outcome != want {
				t.Errorf("%d to %s: %+v", code, location, verdict)
			}
			if want != callback.Delivered {
				continue
			}
			got := end.heard()
			if len(got) != before+1 || got[before].method != "POST" || got[before].body != "hello" || got[before].header.Get("Webhook-Signature") != first.heard()[0].header.Get("Webhook-Signature") {
				t.Errorf("%d to %s: it heard %+v", code, location, got[before:])
			}
		}
	}
	for _, code := range []int{301, 302, 303} {
		before := len(end.heard())
		first := listen(t, "127.0.0.1:0", false, redirect(code, end.URL))
		if verdict := sender.Deliver(t.Context(), noticeTo(first.URL), 1); verdict.Outcome != callback.Again || len(end.heard()) != before {
			t.Errorf("%d: %+v", code, verdict)
		}
	}
	if got := forbidden.heard(); len(got) != 0 {
		t.Errorf("the forbidden address heard %+v", got)
	}
}

func TestRedirectsEnd(t *testing.T) {
	for hops, want := range map[int]callback.Outcome{3: callback.Delivered, 4: callback.Again} {
		server := listen(t, "127.0.0.1:0", false, func(w http.ResponseWriter, r *http.Request) {
			if at := len(r.URL.Path) - 1; at < hops {
				redirect(307, r.URL.Path+"x")(w, r)
			}
		})
		verdict := senderWith(t, nil).Deliver(t.Context(), noticeTo(server.URL+"/"), 1)
		if verdict.Outcome != want || len(server.heard()) != 4 {
			t.Errorf("%d redirects: %+v after %d requests", hops, verdict, len(server.heard()))
		}
	}
}

// TestTLS: the certificate is asked for by the host's name and must be its own, and
// what began in secret does not end in the open.
func TestTLS(t *testing.T) {
	plain := listen(t, "127.0.0.1:0", false, status(200))
	secure := listen(t, "127.0.0.1:0", true, status(200)) // its certificate is example.com's
	downgrade := listen(t, "127.0.0.1:0", true, redirect(307, plain.URL))
	upgrade := listen(t, "127.0.0.1:0", false, redirect(307, "https://example.com:"+portOf(secure)))
	_, resolver := startNameserver(t, always(map[string][]string{"example.com.": {"127.0.0.1"}, "other.example.": {"127.0.0.1"}}))
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	for name, test := range map[string]struct {
		url     string
		roots   *x509.CertPool
		outcome callback.Outcome
		reason  string
	}{
		"its own":      {"https://example.com:" + portOf(secure), trusted, callback.Delivered, ""},
		"with a dot":   {"https://example.com.:" + portOf(secure), trusted, callback.Delivered, ""},
		"an address's": {"https://127.0.0.1:" + portOf(secure), trusted, callback.Delivered, ""},
		"another's":    {"https://other.example:" + portOf(secure), trusted, callback.Again, "certificate"},
		"nobody's":     {"https://example.com:" + portOf(secure), nil, callback.Again, "certificate"},
		"plain HTTP":   {"https://example.com:" + portOf(plain), trusted, callback.Again, "no secure connection"},
		"downgraded":   {"https://example.com:" + portOf(downgrade), trusted, callback.Again, "from https to http"},
		"upgraded":     {upgrade.URL, trusted, callback.Delivered, ""},
	} {
		sender := senderWith(t, func(c *callback.Config) { c.Resolver, c.RootCAs = resolver, test.roots })
		if verdict := sender.Deliver(t.Context(), noticeTo(test.url), 1); verdict.Outcome != test.outcome || !strings.Contains(verdict.Reason, test.reason) {
			t.Errorf("%s: %+v", name, verdict)
		}
	}
	if got := plain.heard(); len(got) != 0 {
		t.Errorf("the plain server heard %+v", got)
	}
	for _, got := range secure.heard() {
		if got.server != "example.com" && got.server != "" {
			t.Errorf("TLS asked for %q", got.server)
		}
	}
}

// TestNoProxy: a proxy that the environment names would connect to what is forbidden.
func TestNoProxy(t *testing.T) {
	proxy := listen(t, "127.0.0.1:0", false, status(200))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	_, resolver := startNameserver(t, always(map[string][]string{"example.com.": {"127.0.0.1"}}))
	server := listen(t, "127.0.0.1:0", false, status(200))
	sender := senderWith(t, func(c *callback.Config) { c.Resolver = resolver })
	if verdict := sender.Deliver(t.Context(), noticeTo("http://example.com:"+portOf(server)), 1); verdict.Outcome != callback.Delivered || len(server.heard()) != 1 || len(proxy.heard()) != 0 {
		t.Errorf("%+v; the proxy heard %d requests", verdict, len(proxy.heard()))
	}
}

// TestSlowAndEndless: a server can hold an attempt no longer than its time, and can not fill memory.
func TestSlowAndEndless(t *testing.T) {
	for name, test := range map[string]struct {
		answer  func(net.Conn)
		outcome callback.Outcome
		reason  string
	}{
		"silent":        {func(net.Conn) {}, callback.Again, "within 300ms"},
		"half a header": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: ") }, callback.Again, "within 300ms"},
		"endless header": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			writeUntilClosed(c, "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
		}, callback.Again, "no answer: "},
		"endless early answers": {func(c net.Conn) { writeUntilClosed(c, "HTTP/1.1 103 Early Hints\r\nX-A: a\r\n\r\n") }, callback.Again, "no answer: "},
		"endless body": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			writeUntilClosed(c, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
		}, callback.Delivered, ""},
		"half a body":          {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc") }, callback.Delivered, ""},
		"an endless line":      {func(c net.Conn) { writeUntilClosed(c, "220 mail.example ESMTP ") }, callback.Again, "no answer: "},
		"a switch of protocol": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n") }, callback.Again, "within 300ms"},
		"status nought":        {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n") }, callback.Again, "within 300ms"},
		"what is no HTTP":      {func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example ESMTP\r\n") }, callback.Again, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			socket, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() {
				connection, err := socket.Accept()
				if err != nil {
					return
				}
				defer connection.Close()
				test.answer(connection)
				_, _ = io.Copy(io.Discard, connection) // until the other side has enough
			})
			sender := senderWith(t, func(c *callback.Config) { c.Timeout = 300 * time.Millisecond })
			if verdict := sender.Deliver(t.Context(), noticeTo("http://"+socket.Addr().String()), 1); verdict.Outcome != test.outcome || verdict.Uncounted || !strings.Contains(verdict.Reason, test.reason) || len(verdict.Reason) > 400 {
				t.Errorf("%+v", verdict)
			}
			_ = socket.Close()
			serving.Wait() // ends only because the sender hung up
		})
	}
}

func writeUntilClosed(c net.Conn, text string) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// TestBounds: attempts at once are bounded in all and for each tenant, and places come free.
func TestBounds(t *testing.T) {
	arrived, leave := make(chan struct{}, 3), make(chan struct{})
	server := listen(t, "127.0.0.1:0", false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			arrived <- struct{}{}
			<-leave
		}
	})
	sender := senderWith(t, func(c *callback.Config) { c.AtOnce, c.Share, c.Timeout = 3, 2, time.Minute })
	deliver := func(tenant lightcone.TenantID, path string) callback.Verdict {
		notice := noticeTo(server.URL + path)
		notice.Invocation.Tenant = tenant
		return sender.Deliver(t.Context(), notice, callback.MostAttempts)
	}
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			if verdict := deliver("acme", "/held"); verdict.Outcome != callback.Delivered {
				t.Errorf("%+v", verdict)
			}
		})
		await(t, arrived)
	}
	full := func(tenant lightcone.TenantID) {
		t.Helper()
		if verdict := deliver(tenant, "/"); verdict.Outcome != callback.Again || !verdict.Uncounted || verdict.After <= 0 {
			t.Errorf("%s: %+v", tenant, verdict)
		}
	}
	full("acme")
	if verdict := deliver("other", "/"); verdict.Outcome != callback.Delivered {
		t.Errorf("a tenant's share stands in another's way: %+v", verdict)
	}
	held.Go(func() { deliver("other", "/held") })
	await(t, arrived)
	full("third")
	close(leave)
	held.Wait()
	for _, tenant := range []lightcone.TenantID{"acme", "other", "third"} {
		if verdict := deliver(tenant, "/"); verdict.Outcome != callback.Delivered {
			t.Errorf("%s: %+v", tenant, verdict)
		}
	}
}

// await waits until something has happened, for a time that nothing here takes.
func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(30 * time.Second):
		t.Error("it has not happened within 30 s")
	}
}
