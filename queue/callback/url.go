package callback

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lightcone/internal/problem"
)

const (
	longestURL   = 2048 // bytes
	longestName  = 253  // characters of a host's name (RFC 1035), without a dot behind it
	longestLabel = 63
)

// target is a URL that a callback may go to, as far as can be told without resolving.
type target struct {
	url     *url.URL
	host    string     // in lower case, without brackets; a name may have a dot behind it
	literal netip.Addr // what host means if it is an address; else not valid
	port    uint16
}

// Check says whether a callback may go to a URL, as far as can be told without resolving
// its host: an absolute http or https URL of at most 2048 printable ASCII characters,
// without user, password and fragment, with a port that HTTP may use, and with a host
// that is not inside. Nothing is said of what the host resolves to; Deliver
// judges that. The error is a *problem.Error, BadParameter.
func (r Rules) Check(rawURL string) error {
	if _, err := r.read(rawURL); err != nil {
		return problem.New(problem.BadParameter, "X-Callback-Url: %v.", err)
	}
	return nil
}

// read is Check, and what was read. Its errors are refusals, and do not repeat the
// URL: it may hold a password.
func (r Rules) read(rawURL string) (target, error) {
	switch {
	case rawURL == "":
		return target{}, refusal("the URL is empty")
	case len(rawURL) > longestURL:
		return target{}, refusal(fmt.Sprintf("the URL has %d bytes; want at most %d", len(rawURL), longestURL))
	case strings.ContainsFunc(rawURL, func(c rune) bool { return c <= ' ' || c > '~' }):
		// A host of full-width digits or dots is an address to some resolvers.
		return target{}, refusal("the URL has characters that are not printable ASCII; write the host's name in Punycode and percent-encode the rest")
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return target{}, refusal("this is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, refusal(fmt.Sprintf("the scheme %.20q is neither https nor http", u.Scheme))
	case u.User != nil:
		return target{}, refusal("the URL has a user or password, which are not sent; verify the signature instead")
	case strings.Contains(rawURL, "#"):
		return target{}, refusal("the URL has a fragment, which is never sent")
	case u.Host == "":
		return target{}, refusal("the URL names no host; want one such as https://example.com/done")
	}
	to := target{url: u, host: strings.ToLower(u.Hostname())}
	if to.port, err = portOf(u); err != nil {
		return target{}, err
	}
	if to.literal, err = r.readHost(to.host, strings.HasPrefix(u.Host, "[")); err != nil {
		return target{}, err
	}
	return to, nil
}

// unsafePorts are the ports from 1024 on at which the Fetch Standard
// (https://fetch.spec.whatwg.org/#port-blocking) keeps browsers from speaking HTTP.
var unsafePorts = []uint16{
	1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
}

// portOf is the URL's port: 80, 443, or one from 1024 on. Below that, and at the
// unsafe ones, are services such as mail that take the lines of a body for commands,
// and the body is the tenant's to choose.
func portOf(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" && !strings.HasSuffix(u.Host, ":") {
		if u.Scheme == "https" {
			return 443, nil
		}
		return 80, nil
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(number, 10) != text || number == 0 {
		return 0, refusal(fmt.Sprintf("the port %.20q is not a number from 1 to 65535", text))
	}
	port := uint16(number)
	if port < 1024 && port != 80 && port != 443 || slices.Contains(unsafePorts, port) {
		return 0, refusal(fmt.Sprintf("the port %d is another protocol's; want 80, 443, or one from 1024 on", port))
	}
	return port, nil
}

// readHost is the address that a host is, if it is one, and whether callbacks may go
// there.
func (r Rules) readHost(host string, brackets bool) (netip.Addr, error) {
	if brackets {
		address, err := netip.ParseAddr(host)
		if err != nil || !address.Is6() {
			return netip.Addr{}, refusal(fmt.Sprintf("the host [%.60q] is not an IPv6 address", host))
		}
		return address.Unmap(), r.judge(address)
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	if err := checkLabels(name, labels); err != nil {
		return netip.Addr{}, err
	}
	if isNumber(labels[len(labels)-1]) {
		// To inet_aton, 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 are all 127.0.0.1.
		address, err := netip.ParseAddr(host)
		if err != nil {
			return netip.Addr{}, refusal(fmt.Sprintf("the host %.60q is an address in an unusual form; write IPv4 as four decimal numbers, such as 198.51.100.7", host))
		}
		return address, r.judge(address)
	}
	return netip.Addr{}, r.judgeName(name, labels)
}

// checkLabels says whether a name is of the letters, digits, hyphens and underscores
// that names in the DNS are of, and of their lengths.
func checkLabels(name string, labels []string) error {
	bad := len(name) > longestName
	for _, label := range labels {
		bad = bad || label == "" || len(label) > longestLabel || strings.ContainsFunc(label, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
		})
	}
	if bad {
		return refusal(fmt.Sprintf("the host %.60q is not a name in the DNS; want one such as example.com", name))
	}
	return nil
}

// isNumber says whether a label is a number as the URL Standard has it
// (https://url.spec.whatwg.org/#ends-in-a-number-checker): a host that ends in one is an
// IPv4 address or an error.
func isNumber(label string) bool {
	if hexadecimal, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hexadecimal, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// insideSuffixes are ends of names that mean something only inside a network: RFC 6762
// and 8375, the private-use top level that ICANN reserved in 2024, and the cluster's own.
var insideSuffixes = []string{"internal", "local", "localdomain", "lan", "home.arpa", "consul", "nomad"}

// metadataNames are those of the clouds' metadata services.
var metadataNames = []string{"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"}

// judgeName refuses names that lead inside. Where the operator allows a network, names
// of that network are left to be judged by what they resolve to.
func (r Rules) judgeName(name string, labels []string) error {
	under := func(suffix string) bool { return name == suffix || strings.HasSuffix(name, "."+suffix) }
	switch {
	case slices.ContainsFunc(metadataNames, under):
		return refusal(fmt.Sprintf("the host %.60q is a cloud's metadata service", name))
	case under("localhost"): // RFC 6761: always this machine
		if r.judge(netip.AddrFrom4([4]byte{127, 0, 0, 1})) != nil {
			return refusal(fmt.Sprintf("the host %.60q is loopback%s", name, allowable))
		}
	case len(r.allowed) == 0 && (len(labels) == 1 || slices.ContainsFunc(insideSuffixes, under)):
		return refusal(fmt.Sprintf("the host %.60q is a name inside a network; want a public one such as example.com%s", name, allowable))
	}
	return nil
}

// lookupName is what to ask the resolver for. The dot behind keeps it from trying
// the name below the machine's own search domains.
func (t target) lookupName() string {
	if strings.Contains(t.host, ".") && !strings.HasSuffix(t.host, ".") {
		return t.host + "."
	}
	return t.host
}

// redirected is where an answer with status 307 or 308 and a Location leads.
func (r Rules) redirected(from target, location string) (target, error) {
	to, err := from.url.Parse(location)
	if err != nil {
		return target{}, errors.New("it redirects to what is not a URL")
	}
	if from.url.Scheme == "https" && to.Scheme == "http" {
		return target{}, errors.New("it redirects from https to http, where anybody on the way could read the result")
	}
	next, err := r.read(to.String())
	if err != nil {
		return target{}, fmt.Errorf("it redirects where no callback goes: %w", err)
	}
	return next, nil
}

// address is an address of the target's as Dial has it.
func (t target) address(of netip.Addr) string {
	return net.JoinHostPort(of.String(), strconv.Itoa(int(t.port)))
}
