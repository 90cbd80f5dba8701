package callback

import (
	"fmt"
	"net/netip"
	"slices"
)

// Rules say where callbacks may go: to the public Internet, and to what the operator
// allows beside. The zero Rules allow nothing beside. They never change.
type Rules struct {
	allowed, forbidden []netip.Prefix
	machine            []netip.Addr // this machine's own addresses, where they are known
}

// NewRules are the rules with the operator's networks. What is in an allowed one is
// allowed whatever it is, cloud metadata too if the network is as wide as that; what is in
// a forbidden one is not, whatever else is said: the place for the public addresses of
// the region's own machines, which let each other through their firewalls. The error
// names a network that is none, or that is an IPv4 network written as IPv6.
func NewRules(allowed, forbidden []netip.Prefix) (Rules, error) {
	for _, network := range slices.Concat(allowed, forbidden) {
		if !network.IsValid() || network.Addr().Is4In6() {
			return Rules{}, fmt.Errorf("callbacks: %v is not a network that can be allowed or forbidden: want one such as 10.1.0.0/16 or fd12:3456::/32", network)
		}
	}
	return Rules{allowed: slices.Clone(allowed), forbidden: slices.Clone(forbidden)}, nil
}

// on are the rules on a machine with the given addresses. It reaches itself behind its
// own firewall, also by an address that is public.
func (r Rules) on(machine []netip.Addr) Rules {
	r.machine = machine
	return r
}

// block is a part of the address space that no callback goes to.
type block struct {
	prefix netip.Prefix
	name   string
}

// blocks are the entries of the IANA IPv4 and IPv6 Special-Purpose Address Registries
// (https://www.iana.org/assignments/iana-ipv4-special-registry and
// iana-ipv6-special-registry, as of October 2025), the multicast spaces, and addresses
// of clouds that look public. The few entries that are globally reachable are listed too: they
// are anycast services of the network itself, and nobody receives callbacks there.
var blocks = []block{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private (RFC 1918)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a carrier's NAT (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's metadata and control (Azure)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds have their metadata (RFC 3927)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "for protocols (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.31.196.0/24"), "an AS112 sink (RFC 7535)"},
	{netip.MustParsePrefix("192.52.193.0/24"), "for AMT relays (RFC 7450)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "for 6to4 relays (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private (RFC 1918)"},
	{netip.MustParsePrefix("192.175.48.0/24"), "an AS112 sink (RFC 7534)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation (RFC 5737)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast (RFC 919)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},

	{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)"},
	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
	{netip.MustParsePrefix("::/96"), "an IPv4 address in a form that is no longer used (RFC 4291)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "for translation to a network's own IPv4 (RFC 8215)"},
	{netip.MustParsePrefix("100::/64"), "for discarding (RFC 6666)"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "a dummy (RFC 9780)"},
	{netip.MustParsePrefix("2001::/32"), "Teredo, which tunnels to any IPv4 address (RFC 4380)"},
	{netip.MustParsePrefix("2001::/23"), "for protocols (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation (RFC 3849)"},
	{netip.MustParsePrefix("2002::/16"), "6to4, which tunnels to any IPv4 address (RFC 3056)"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "an AS112 sink (RFC 7534)"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation (RFC 9637)"},
	{netip.MustParsePrefix("5f00::/16"), "for segment routing (RFC 9602)"},
	{netip.MustParsePrefix("fc00::/7"), "private, where clouds have their metadata too (RFC 4193)"},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
	{netip.MustParsePrefix("fec0::/10"), "site-local (RFC 3879)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
}

var (
	// globalUnicast is all of IPv6 that is assigned to anybody (RFC 4291; IANA's
	// "IPv6 Global Unicast Address Assignments").
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// translated addresses stand for the IPv4 address in their last 32 bits (RFC 6052): hosts
	// that have only IPv6 reach IPv4 through them.
	translated = netip.MustParsePrefix("64:ff9b::/96")
)

// refusal is why a callback does not go somewhere, as a sentence without its full stop.
type refusal string

func (r refusal) Error() string { return string(r) }

// allowable is the rest of a refusal of what operators often have reason to allow.
const allowable = "; whoever runs Lightcone can allow its network (--callback-allow)"

// judge is nil for an address that callbacks may go to, and else a refusal.
func (r Rules) judge(address netip.Addr) error {
	address = address.Unmap() // ::ffff:127.0.0.1 is dialled as 127.0.0.1
	if !address.IsValid() || address.Zone() != "" {
		return refusal(fmt.Sprintf("the address %v is of one machine's network only", address))
	}
	holds := func(network netip.Prefix) bool { return network.Contains(address) }
	switch {
	case slices.ContainsFunc(r.forbidden, holds):
		return refusal(fmt.Sprintf("the address %v is in a network that the operator forbids", address))
	case slices.ContainsFunc(r.allowed, holds):
		return nil
	case slices.Contains(r.machine, address):
		return refusal(fmt.Sprintf("the address %v is this machine's own%s", address, allowable))
	}
	if translated.Contains(address) {
		bytes := address.As16()
		if r.judge(netip.AddrFrom4([4]byte(bytes[12:]))) == nil {
			return nil
		}
		return refusal(fmt.Sprintf("the address %v stands for one that is not public", address))
	}
	for _, special := range blocks {
		if special.prefix.Contains(address) {
			why := fmt.Sprintf("the address %v is %s", address, special.name)
			if address.IsLoopback() || address.IsPrivate() {
				why += allowable
			}
			return refusal(why)
		}
	}
	if address.Is6() && !globalUnicast.Contains(address) {
		return refusal(fmt.Sprintf("the address %v is not assigned to anybody", address))
	}
	return nil
}
