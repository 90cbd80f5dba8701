package consul

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// DefaultTimeout bounds each request that does not wait for a change.
const DefaultTimeout = 10 * time.Second

// Config says which agent to talk to, and as whom.
type Config struct {
	// Address is host:port, http(s)://host:port or unix:///path. Empty means
	// $CONSUL_HTTP_ADDR, and 127.0.0.1:8500 without it.
	Address string
	// Token is the ACL token's secret. Empty means the content of TokenFile, then
	// $CONSUL_HTTP_TOKEN, then the content of $CONSUL_HTTP_TOKEN_FILE.
	Token string
	// TokenFile is read once, by Connect.
	TokenFile string
	// Timeout bounds each request; a blocking query has the time it may block on
	// top. 0 means DefaultTimeout.
	Timeout time.Duration
	// Logger hears of outages and of leadership; nil means slog.Default().
	Logger *slog.Logger
}

// Client talks to one agent. Its methods may be called from any goroutine.
type Client struct {
	api       *api.Client
	transport *http.Transport
	config    Config // with every default and the token filled in
}

// Connect prepares a client; it asks nothing of the agent yet, so it works while
// Consul is away. It fails for an address or a token file that cannot be used.
// Close it.
func Connect(config Config) (*Client, error) {
	config.Address = cmp.Or(config.Address, os.Getenv(api.HTTPAddrEnvName), "127.0.0.1:8500")
	config.Timeout = cmp.Or(config.Timeout, DefaultTimeout)
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	token, err := tokenOf(config)
	if err != nil {
		return nil, err
	}
	config.Token = token
	return connect(config)
}

// connect makes a client with connections of its own from a complete Config.
func connect(config Config) (*Client, error) {
	transport := newTransport()
	address := config.Address
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		address = "localhost" // a Host header is required; the dialler does not look at it
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	client, err := api.NewClient(&api.Config{Address: address, Token: config.Token, Transport: transport})
	if err != nil {
		return nil, fmt.Errorf("connect to Consul at %q: %w; want host:port, http(s)://host:port or unix:///path", config.Address, err)
	}
	return &Client{api: client, transport: transport, config: config}, nil
}

// newTransport notices a host that vanished within half a minute, also in the
// middle of a blocking query.
func newTransport() *http.Transport {
	dialer := net.Dialer{
		Timeout:         5 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     time.Minute,
	}
}

func tokenOf(config Config) (string, error) {
	if config.Token != "" {
		return config.Token, nil
	}
	file := config.TokenFile
	if file == "" {
		if token := os.Getenv(api.HTTPTokenEnvName); token != "" {
			return token, nil
		}
		file = os.Getenv(api.HTTPTokenFileEnvName)
	}
	if file == "" {
		return "", nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the Consul token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", fmt.Errorf("the Consul token file %s is empty: write the token's secret into it", file)
	}
	return token, nil
}

// Close drops idle connections. Requests under way end with their contexts.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Token is the ACL token that the client found, empty when it has none.
func (c *Client) Token() string { return c.config.Token }

// reading is options for a query that ends with ctx or after the timeout.
func (c *Client) reading(ctx context.Context) (*api.QueryOptions, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	return new(api.QueryOptions).WithContext(ctx), cancel
}

// writing is options for a write that ends with ctx or after the timeout.
func (c *Client) writing(ctx context.Context) (*api.WriteOptions, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	return new(api.WriteOptions).WithContext(ctx), cancel
}

// longestWait is how long a blocking query may block: under the minute after
// which many proxies and firewalls forget a silent connection.
const longestWait = 55 * time.Second

// blocking is options for a query that waits, at most so long and up to a tenth
// less, for something newer than index. The
// agent adds up to a sixteenth to the wait, so the deadline allows for that:
// https://developer.hashicorp.com/consul/api-docs/features/blocking
func (c *Client) blocking(ctx context.Context, index uint64, most time.Duration) (*api.QueryOptions, context.CancelFunc) {
	wait := most - rand.N(most/10)
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+c.config.Timeout)
	options := &api.QueryOptions{WaitIndex: index, WaitTime: wait}
	return options.WithContext(ctx), cancel
}
