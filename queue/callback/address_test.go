package callback

import (
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func rulesOf(t testing.TB, networks ...string) Rules {
	t.Helper()
	var allowed []netip.Prefix
	for _, network := range networks {
		allowed = append(allowed, netip.MustParsePrefix(network))
	}
	rules, err := NewRules(allowed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// forbiddenAddresses has both ends of each forbidden block, and each way to write an
// IPv4 address into an IPv6 one.
var forbiddenAddresses = []string{
	"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255",
	"127.0.0.0", "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255",
	"172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255", "192.31.196.1",
	"192.52.193.1", "192.88.99.1", "192.168.0.0", "192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255",
	"198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0", "239.255.255.255", "240.0.0.0",
	"255.255.255.254", "255.255.255.255",
	"::", "::1", "::7f00:1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
	"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::100.64.0.1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
	"100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::1", "2001::", "2001:0:7f00:1::80ff:fffe", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
	"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2002:808:808::1", "2620:4f:8000::1",
	"3fff::1", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::1", "5f00::1", "8000::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254",
	"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::1", "fe80::1%eth0", "2606:4700::1111%eth0", "febf:ffff::1", "fec0::1", "ff00::1", "ff02::1", "ff0e::1",
}

// publicAddresses has the neighbours of the forbidden blocks.
var publicAddresses = []string{
	"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
	"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
	"192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
	"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::1", "2003::1",
	"2606:4700:4700::1111", "2620:4f:7fff::1", "2a00:1450::1", "3ffe::1", "3fff:1000::1",
}

func TestAddresses(t *testing.T) {
	for _, text := range forbiddenAddresses {
		if rulesOf(t).judge(netip.MustParseAddr(text)) == nil {
			t.Errorf("%s is allowed", text)
		}
	}
	for _, text := range publicAddresses {
		if err := rulesOf(t).judge(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if rulesOf(t).judge(netip.Addr{}) == nil {
		t.Error("no address is allowed")
	}
}

func TestAllowedNetworks(t *testing.T) {
	rules := rulesOf(t, "10.1.2.3/16", "fd12::/16", "127.0.0.0/8")
	for text, want := range map[string]bool{
		"10.1.0.0": true, "10.1.255.255": true, "::ffff:10.1.0.1": true, "64:ff9b::10.1.0.1": true, "fd12::1": true, "127.0.0.1": true, "8.8.8.8": true,
		"10.0.255.255": false, "10.2.0.0": false, "fd13::1": false, "fd12::1%eth0": false, "::1": false, "169.254.169.254": false, "2002:a01:1::1": false,
	} {
		if err := rules.judge(netip.MustParseAddr(text)); (err == nil) != want {
			t.Errorf("%s: %v, want allowed: %v", text, err, want)
		}
	}
	for _, network := range []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		for _, networks := range [][2][]netip.Prefix{{{network}, nil}, {nil, {network}}} {
			if _, err := NewRules(networks[0], networks[1]); err == nil || !strings.Contains(err.Error(), network.String()) {
				t.Errorf("%v: %v", network, err)
			}
		}
	}
}

// TestForbiddenNetworks: what the operator forbids, and the machine itself, is not
// public; and of two networks the forbidden one counts.
func TestForbiddenNetworks(t *testing.T) {
	rules, err := NewRules(
		[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("9.9.9.9/32")},
		[]netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("8.8.8.0/24"), netip.MustParsePrefix("2a00::/16")})
	if err != nil {
		t.Fatal(err)
	}
	rules = rules.on([]netip.Addr{netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("2b00::1"), netip.MustParseAddr("9.9.9.9")})
	for text, want := range map[string]bool{
		"10.8.0.1": true, "1.2.3.5": true, "2b00::2": true, "8.8.9.1": true, "9.9.9.9": true,
		"10.9.0.1": false, "8.8.8.8": false, "::ffff:8.8.8.8": false, "64:ff9b::8.8.8.8": false, "2a00::1": false, "1.2.3.4": false, "64:ff9b::1.2.3.4": false, "2b00::1": false,
	} {
		if err := rules.judge(netip.MustParseAddr(text)); (err == nil) != want {
			t.Errorf("%s: %v, want allowed: %v", text, err, want)
		}
	}
}

// TestAddressProperties: what the standard library knows to be special is never allowed, and an
// IPv4 address is judged the same however it is written.
func TestAddressProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var raw [16]byte
		copy(raw[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		copy(raw[:], rapid.SampledFrom([]string{"", "\xfd", "\xfe\x80", "\x20\x02", "\x00\x64\xff\x9b", "\x20\x01"}).Draw(t, "start"))
		four := netip.AddrFrom4([4]byte(raw[12:]))
		for _, address := range []netip.Addr{netip.AddrFrom16(raw), four} {
			special := address.IsLoopback() || address.IsPrivate() || address.IsMulticast() || address.IsUnspecified() || address.IsLinkLocalUnicast() || !address.IsGlobalUnicast()
			if special && (Rules{}).judge(address) == nil {
				t.Fatalf("%v is allowed", address)
			}
		}
		plain := (Rules{}).judge(four) == nil
		bytes := four.As16()
		for form, start := range map[string]string{"mapped": "", "translated": "\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00"} {
			written := bytes
			copy(written[:], start)
			if got := (Rules{}).judge(netip.AddrFrom16(written)) == nil; got != plain {
				t.Fatalf("%v %s is allowed: %v, and by itself: %v", four, form, got, plain)
			}
		}
	})
}
