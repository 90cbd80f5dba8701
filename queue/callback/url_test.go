package callback

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"lightcone/internal/problem"
)

// goodURLs are such as tenants have.
var goodURLs = []string{
	"https://example.com", "http://example.com/", "https://example.com/done?call=1&x=%20", "HTTPS://EXAMPLE.COM/Done",
	"https://example.com:443/", "http://example.com:80/", "https://example.com:8443/", "https://example.com:1024/", "https://example.com:65535/",
	"https://example.com./", "https://a-b_c.example.co.uk/", "https://xn--bcher-kva.example/", "https://1.example.com/", "https://0x7f.example.com/",
	"https://8.8.8.8/", "http://1.1.1.1:8080/", "https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]:8443/", "https://[::ffff:8.8.8.8]/", "https://[64:ff9b::8.8.8.8]/",
	"https://localhost.example.com/", "https://internal.example.com/", "https://mylocalhost.com/", "https://nip.io/127.0.0.1",
}

// badURLs are all kinds of what may not be named, each with a word of the reason.
var badURLs = [][2]string{
	// not an absolute http URL
	{"", "empty"}, {"example.com", "scheme"}, {"//example.com/", "scheme"}, {"/done", "scheme"}, {"ftp://example.com/", "scheme"}, {"file:///etc/passwd", "scheme"},
	{"gopher://example.com:70/", "scheme"}, {"javascript:alert(1)", "scheme"}, {"http:example.com", "no host"}, {"http:/example.com", "no host"}, {"http://", "no host"},
	{"http:///done", "no host"}, {"http://?x", "no host"}, {"http://:8080/", "not a name"}, {"https://" + strings.Repeat("a", 2048), "2056 bytes"},
	{" https://example.com/", "printable"}, {"https://example.com/ x", "printable"}, {"https://example.com/\r\nX-Evil: 1", "printable"}, {"https://exam\tple.com/", "printable"}, {"https://example.com/\x00", "printable"},
	{"https://bücher.example/", "printable"}, {"https://example.com/\xff", "printable"}, {"https://example.com\\@127.0.0.1/", "not a URL"}, {"http://127.0.0.1\\.example.com/", "not a URL"},
	// users and fragments
	{"https://user@example.com/", "user"}, {"https://user:password@example.com/", "user"}, {"https://@example.com/", "user"}, {"https://example.com@127.0.0.1/", "user"}, {"https://example.com/#done", "fragment"}, {"https://example.com/#", "fragment"},
	{"http://127.0.0.1#@example.com/", "fragment"}, {"http://127.0.0.1%23@example.com/", "user"},
	// ports
	{"https://example.com:0/", "port"}, {"https://example.com:65536/", "port"}, {"https://example.com:-1/", "not a URL"}, {"https://example.com:/", "port"}, {"https://example.com:0443/", "port"}, {"https://example.com:8a/", "not a URL"}, {"https://example.com:99999999999999999999/", "port"},
	{"http://example.com:22/", "port"}, {"http://example.com:25/", "port"}, {"http://example.com:53/", "port"}, {"http://example.com:587/", "port"}, {"http://example.com:1023/", "port"}, {"http://example.com:6667/", "port"}, {"http://example.com:2049/", "port"},
	// loopback and others in every encoding
	{"http://127.0.0.1/", "loopback"}, {"http://127.0.0.1./", "unusual"}, {"http://2130706433/", "unusual"}, {"http://017700000001/", "unusual"}, {"http://0x7f000001/", "unusual"}, {"http://0X7F000001/", "unusual"},
	{"http://0177.0.0.1/", "unusual"}, {"http://0x7f.0.0.1/", "unusual"}, {"http://0x7f.1/", "unusual"}, {"http://127.1/", "unusual"}, {"http://127.0.1/", "unusual"}, {"http://127.0.0.01/", "unusual"}, {"http://127.0.0.0x1/", "unusual"},
	{"http://127.0.0.1.1/", "unusual"}, {"http://0/", "unusual"}, {"http://0x/", "unusual"}, {"http://0./", "unusual"}, {"http://256.0.0.1/", "unusual"}, {"http://127.0.0.257/", "unusual"}, {"http://4294967297/", "unusual"}, {"http://example.123/", "unusual"}, {"http://example.0x1/", "unusual"},
	{"http://127.0.0.1%2e/", "not a URL"}, {"http://%31%32%37.0.0.1/", "not a URL"}, {"http://127%2E0%2E0%2E1/", "not a URL"}, {"http://%6c%6f%63%61lhost/", "not a URL"}, {"http://127.0.0.1%00.example.com/", "not a URL"},
	{"http://１２７.0.0.1/", "printable"}, {"http://127。0。0。1/", "printable"}, {"http://①②⑦.0.0.1/", "printable"}, {"http://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1/", "not a name"}, {"http://127%E3%80%820%E3%80%820%E3%80%821/", "not a name"}, {"http://ⓛocalhost/", "printable"},
	{"http://[::1]/", "loopback"}, {"http://[0:0:0:0:0:0:0:1]/", "loopback"}, {"http://[0000:0000:0000:0000:0000:0000:0000:0001]/", "loopback"}, {"http://[::]/", "unspecified"}, {"http://[::127.0.0.1]/", "no longer used"}, {"http://[::ffff:127.0.0.1]/", "loopback"}, {"http://[::ffff:7f00:1]/", "loopback"},
	{"http://[::FFFF:127.0.0.1]:8080/", "loopback"}, {"http://[64:ff9b::7f00:1]/", "not public"}, {"http://[2002:7f00:1::]/", "6to4"}, {"http://[fe80::1]/", "link-local"}, {"http://[fe80::1%25eth0]/", "one machine"}, {"http://[::1%25lo]/", "one machine"}, {"http://[fd00:ec2::254]/", "private"},
	{"http://[127.0.0.1]/", "not a"}, {"http://[example.com]/", "not a"}, {"http://[::1/", "not a"}, {"http://::1/", ""}, {"http://[]/", "not a"}, {"http://[v1.fe80::a]/", "not a"},
	{"http://0.0.0.0/", "this network"}, {"http://10.0.0.1/", "private"}, {"http://172.16.0.1/", "private"}, {"http://192.168.1.1/", "private"}, {"http://100.64.0.1/", "carrier"}, {"http://169.254.169.254/latest/meta-data/", "metadata"}, {"http://168.63.129.16/", "metadata"},
	{"http://224.0.0.1/", "multicast"}, {"http://255.255.255.255/", "broadcast"}, {"http://198.18.0.1/", "benchmarks"}, {"http://192.0.2.1/", "documentation"}, {"http://240.0.0.1/", "reserved"},
	// names that lead inside
	{"http://localhost/", "loopback"}, {"http://LOCALHOST:8080/", "loopback"}, {"http://localhost./", "loopback"}, {"http://a.localhost/", "loopback"}, {"http://a.localhost./", "loopback"}, {"http://localhost.localdomain/", "inside"},
	{"http://metadata.google.internal/", "metadata"}, {"http://METADATA.google.internal./", "metadata"}, {"http://metadata.goog/", "metadata"}, {"http://instance-data.ec2.internal/", "metadata"}, {"http://vault.internal/", "inside"}, {"http://internal/", "inside"},
	{"http://printer.local/", "inside"}, {"http://nas.home.arpa/", "inside"}, {"http://lightcone-gateway.service.consul/", "inside"}, {"http://redis/", "inside"}, {"http://redis.:6379/", "inside"},
	// not names
	{"http://a..example.com/", "not a name"}, {"http://.example.com/", "not a name"}, {"http://example.com../", "not a name"}, {"http://./", "not a name"}, {"http://exa!mple.com/", "not a name"}, {"http://a,b.com/", "not a name"}, {"http://*.example.com/", "not a name"},
	{"http://" + strings.Repeat("a", 64) + ".com/", "not a name"}, {"http://" + strings.Repeat("a.", 127) + "com/", "not a name"},
}

func TestCheck(t *testing.T) {
	for _, good := range goodURLs {
		if err := (Rules{}).Check(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range badURLs {
		err := (Rules{}).Check(bad[0])
		if err == nil || problem.Of(err).Kind != problem.BadParameter || !strings.Contains(err.Error(), bad[1]) {
			t.Errorf("%q: %v, want one that says %q", bad[0], err, bad[1])
		}
		if err != nil && (strings.Contains(err.Error(), "password@") || len(err.Error()) > 400) {
			t.Errorf("%q: the error repeats it: %v", bad[0], err)
		}
	}
}

// TestARefusalSaysWhoCanAllowIt where operators often have reason to.
func TestARefusalSaysWhoCanAllowIt(t *testing.T) {
	for url, want := range map[string]bool{
		"http://127.0.0.1:9000/": true, "http://localhost:9000/": true, "http://10.1.2.3/": true, "http://[fd12::1]/": true, "http://redis/": true, "http://vault.internal/": true,
		"http://169.254.169.254/": false, "http://metadata.goog/": false, "http://224.0.0.1/": false, "http://example.com:25/": false, "gopher://example.com/": false,
	} {
		if err := (Rules{}).Check(url); err == nil || strings.Contains(err.Error(), "--callback-allow") != want {
			t.Errorf("%s: %v", url, err)
		}
	}
	rules, err := NewRules(nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Check("http://10.1.2.3/"); err == nil || strings.Contains(err.Error(), "--callback-allow") {
		t.Errorf("what the operator forbids: %v", err)
	}
}

func TestCheckWithAllowedNetworks(t *testing.T) {
	rules := rulesOf(t, "127.0.0.0/8", "10.1.0.0/16")
	for text, want := range map[string]bool{
		"http://127.0.0.1:9000/": true, "http://localhost:9000/": true, "http://10.1.2.3/": true, "http://[::ffff:10.1.2.3]/": true, "http://hooks.corp.internal/": true, "http://hooks/": true, "https://example.com/": true,
		"http://[::1]:9000/": false, "http://10.2.0.1/": false, "http://169.254.169.254/": false, "http://metadata.google.internal/": false, "http://127.1/": false, "http://user@127.0.0.1:9000/": false, "http://127.0.0.1:22/": false,
	} {
		if err := rules.Check(text); (err == nil) != want {
			t.Errorf("%s: %v, want allowed: %v", text, err, want)
		}
	}
	if rulesOf(t, "10.0.0.0/8").Check("http://localhost/") == nil {
		t.Error("another network is allowed, and localhost with it")
	}
}

// FuzzCheck: what passes is what it seems, to this reader and to a plain one.
func FuzzCheck(f *testing.F) {
	for _, good := range goodURLs {
		f.Add(good)
	}
	for _, bad := range badURLs {
		f.Add(bad[0])
	}
	f.Fuzz(func(t *testing.T, text string) {
		to, err := Rules{}.read(text)
		if err != nil {
			if err.Error() == "" || len(err.Error()) > 400 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := url.Parse(text)
		if err != nil || len(text) > longestURL || again.User != nil || strings.ContainsAny(text, " #\\\r\n") || to.port == 0 {
			t.Fatalf("%q passes", text)
		}
		if host := strings.ToLower(again.Hostname()); host != to.host {
			t.Fatalf("%q: the host is %q, not %q", text, to.host, host)
		}
		if address, err := netip.ParseAddr(to.host); err == nil && (address.Unmap() != to.literal.Unmap() || Rules{}.judge(address) != nil) {
			t.Fatalf("%q: the literal is %v and allowed", text, to.literal)
		}
		if name := strings.TrimSuffix(to.host, "."); name == "localhost" || strings.HasSuffix(name, ".localhost") || strings.Trim(name, "0123456789.") == "" && !to.literal.IsValid() {
			t.Fatalf("%q passes as a name", text)
		}
		if _, err := (Rules{}).read(to.url.String()); err != nil {
			t.Fatalf("%q passes, and %q does not: %v", text, to.url, err)
		}
	})
}
