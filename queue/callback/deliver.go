package callback

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

// Config says how callbacks are delivered. Only Keys and StatusOf are required.
type Config struct {
	Rules    Rules
	Keys     []RegionKey                                   // the current one first; one before it, for as long as receivers may know only that
	StatusOf func(problem.Kind) (status int, title string) // the rule by which kinds of problems are told in HTTP; pure
	RootCAs  *x509.CertPool                                // whom https servers are certified by; nil means the system's
	Resolver *net.Resolver                                 // nil means the system's
	Timeout  time.Duration                                 // bounds an attempt, redirects included; 0 means 10 s
	AtOnce   int                                           // most attempts at once; 0 means 64
	Share    int                                           // most of them for one tenant; 0 means a quarter of AtOnce
}

const (
	defaultTimeout = 10 * time.Second
	defaultAtOnce  = 64
	dialTimeout    = 3 * time.Second // for resolving, and again for each connection
	mostDialled    = 4               // addresses of a host that are tried
	mostRedirects  = 3
	mostAnswer     = 32 << 10        // bytes of an answer that are read, all in all
	longestFailure = 300             // characters of a reason: it may repeat what a server said
	uncountedWait  = 2 * time.Second // at most, after an attempt that was not made
)

// Sender delivers notices. Any number of goroutines may use it.
type Sender struct {
	config Config
	dialer net.Dialer

	mu      sync.Mutex
	running map[lightcone.TenantID]int // attempts that are being made; a tenant without any is not in it
	total   int
}

// New makes a Sender.
func New(config Config) (*Sender, error) {
	if len(config.Keys) == 0 {
		return nil, errors.New("callbacks: there is no key of the region to sign with")
	}
	for _, key := range config.Keys {
		if err := key.Validate(); err != nil {
			return nil, err
		}
	}
	if config.StatusOf == nil {
		return nil, errors.New("callbacks: there is no rule for the statuses of problems")
	}
	if config.Timeout < 0 || config.AtOnce < 0 || config.Share < 0 {
		return nil, fmt.Errorf("callbacks: the timeout %v, %d at once or a tenant's share of %d is below 0", config.Timeout, config.AtOnce, config.Share)
	}
	config.Timeout = cmp.Or(config.Timeout, defaultTimeout)
	config.AtOnce = cmp.Or(config.AtOnce, defaultAtOnce)
	config.Share = cmp.Or(config.Share, (config.AtOnce+3)/4)
	if config.Resolver == nil {
		config.Resolver = net.DefaultResolver
	}
	return &Sender{config: config, dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: -1}, running: make(map[lightcone.TenantID]int)}, nil
}

// Deliver makes an attempt at a notice, the first of which is 1, and says what is to
// follow. It never waits for a place: where as many attempts as there may be are being
// made, by all tenants or by this one, it makes none and says so (Verdict.Uncounted); likewise
// where ctx ends before there was an answer. It returns within Config.Timeout, and
// leaves nothing running.
func (s *Sender) Deliver(ctx context.Context, notice *Notice, attempt int) Verdict {
	if !s.begin(notice.Invocation.Tenant) {
		return uncounted("as many callbacks as there may be at once are being made")
	}
	defer s.end(notice.Invocation.Tenant)
	attemptCtx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	now := time.Now()
	header, body := notice.request(&s.config, attempt, now)
	reply := s.send(attemptCtx, notice.URL, header, body)
	if reply.Status == 0 && ctx.Err() != nil {
		return uncounted("this node is stopping")
	}
	return Decide(reply, attempt, now.Sub(notice.Invocation.FinishedAt), rand.Float64())
}

func uncounted(reason string) Verdict {
	return Verdict{Outcome: Again, After: uncountedWait/2 + rand.N(uncountedWait/2), Reason: reason + ".", Uncounted: true}
}

// begin takes a place for an attempt, if there is one for the tenant.
func (s *Sender) begin(tenant lightcone.TenantID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.config.AtOnce || s.running[tenant] >= s.config.Share {
		return false
	}
	s.total++
	s.running[tenant]++
	return true
}

func (s *Sender) end(tenant lightcone.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.running[tenant]--; s.running[tenant] == 0 {
		delete(s.running, tenant)
	}
}

// send posts to a URL, and to where a 307 or 308 redirects, which alone have a POST stay one.
func (s *Sender) send(ctx context.Context, rawURL string, header http.Header, body []byte) Reply {
	to, err := s.config.Rules.read(rawURL)
	for redirects := 0; err == nil; redirects++ {
		var answer answer
		if answer, err = s.post(ctx, to, header, body); err != nil {
			break
		}
		if answer.location == "" {
			return Reply{Status: answer.status, RetryAfter: answer.retryAfter}
		}
		if redirects == mostRedirects {
			err = fmt.Errorf("it redirects more than %d times", mostRedirects)
			break
		}
		to, err = s.config.Rules.redirected(to, answer.location)
	}
	var refused refusal
	if ctx.Err() != nil && !errors.As(err, &refused) {
		return Reply{Failure: fmt.Sprintf("there was no answer within %v", s.config.Timeout)}
	}
	return Reply{Failure: fmt.Sprintf("%.*s", longestFailure, err), Refused: errors.As(err, &refused)}
}

// answer is what one server said.
type answer struct {
	status     int
	retryAfter time.Duration
	location   string // of a 307 or 308
}

// post makes one request, on a connection of its own. It does so without http.Transport,
// which would write to the log what a server sends unasked.
func (s *Sender) post(ctx context.Context, to target, header http.Header, body []byte) (answer, error) {
	connection, err := s.connect(ctx, to)
	if err != nil {
		return answer{}, err
	}
	defer connection.Close()
	defer context.AfterFunc(ctx, func() { _ = connection.Close() })() // ends what waits for the server
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url.String(), bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("it cannot be asked: %w", err)
	}
	request.Header, request.Close = header, true
	writing := request.Write(connection) // a server may have answered before it has read all
	response, err := readResponse(connection, request)
	if err != nil {
		return answer{}, fmt.Errorf("there was no answer: %w", cmp.Or(writing, err))
	}
	heard := answer{
		status:     response.StatusCode,
		retryAfter: retryAfter(response.StatusCode, response.Header.Get("Retry-After"), time.Now()),
	}
	if heard.status == http.StatusTemporaryRedirect || heard.status == http.StatusPermanentRedirect {
		heard.location = response.Header.Get("Location")
	}
	return heard, nil
}

// readResponse reads the final answer, of which the header is what counts; a short body is
// read too, so that the server does not see itself cut off.
func readResponse(connection net.Conn, request *http.Request) (*http.Response, error) {
	reader := bufio.NewReader(io.LimitReader(connection, mostAnswer))
	for {
		response, err := http.ReadResponse(reader, request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= http.StatusOK { // the others are on the way to it
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			return response, nil
		}
	}
}

// connect dials a target, and begins TLS if it is https.
func (s *Sender) connect(ctx context.Context, to target) (net.Conn, error) {
	connection, err := s.dial(ctx, to)
	if err != nil || to.url.Scheme != "https" {
		return connection, err
	}
	secured := tls.Client(connection, &tls.Config{ServerName: strings.TrimSuffix(to.host, "."), MinVersion: tls.VersionTLS12, RootCAs: s.config.RootCAs})
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = connection.Close()
		return nil, fmt.Errorf("there is no secure connection to its host: %w", err)
	}
	return secured, nil
}

// dial resolves a target's host, judges every address, and connects to the first that
// answers. Nothing is resolved again behind it: an answer of the DNS that
// changes meanwhile changes nothing.
func (s *Sender) dial(ctx context.Context, to target) (net.Conn, error) {
	addresses := []netip.Addr{to.literal}
	if !to.literal.IsValid() {
		lookup, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		var err error
		if addresses, err = s.config.Resolver.LookupNetIP(lookup, "ip", to.lookupName()); err != nil {
			return nil, fmt.Errorf("its host cannot be resolved: %w", err)
		}
	}
	machine, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	rules := s.config.Rules.on(machine)
	for _, address := range addresses {
		// A host that has a public and a private address is a mistake or an attack.
		if err := rules.judge(address); err != nil {
			return nil, fmt.Errorf("its host is where no callback goes: %w", err)
		}
	}
	failure := errors.New("it has no address")
	for _, address := range addresses[:min(len(addresses), mostDialled)] {
		connection, err := s.dialer.DialContext(ctx, "tcp", to.address(address.Unmap()))
		if err == nil {
			return connection, nil
		}
		failure = err
	}
	return nil, fmt.Errorf("no connection to its host: %w", failure)
}

// ownAddresses are the addresses that this machine has now.
func ownAddresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("this machine does not tell its own addresses: %w", err)
	}
	own := make([]netip.Addr, 0, len(found))
	for _, each := range found {
		if network, ok := each.(*net.IPNet); ok {
			if address, ok := netip.AddrFromSlice(network.IP); ok {
				own = append(own, address.Unmap())
			}
		}
	}
	return own, nil
}
