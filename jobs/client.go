package jobs

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/hashicorp/nomad/api"
)

// What a Config left at zero means.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultPatience = 30 * time.Second
)

const (
	dialTimeout = 5 * time.Second
	// Nomad holds a blocking query for its wait plus up to a sixteenth of it.
	watchWait = 20 * time.Second
)

// Config says where Nomad is and how long to wait for it. What it leaves empty is
// taken from the environment variables that Nomad's own command heeds
// (NOMAD_TOKEN, NOMAD_NAMESPACE, NOMAD_REGION, NOMAD_CACERT and their like).
type Config struct {
	// Address is http://host:port, https://host:port, or unix:///path of the Task
	// API's socket, which is in every task's NOMAD_UNIX_ADDR. Empty means
	// $NOMAD_ADDR or, without it, http://127.0.0.1:4646.
	Address   string
	Token     string // the ACL token's secret
	Region    string
	Namespace string

	Timeout  time.Duration // for each request; 0 = DefaultTimeout
	Patience time.Duration // how long Follow goes on while Nomad is away; 0 = DefaultPatience
}

// Client talks to one Nomad. Its methods may be called from any goroutine.
type Client struct {
	nomad     *api.Client
	transport *http.Transport
	address   string
	timeout   time.Duration
	patience  time.Duration
}

// Connect makes a client. It sends nothing: a Nomad that is away shows in the
// first call. The caller closes the client.
func Connect(config Config) (*Client, error) {
	settings := api.DefaultConfig()
	settings.Address = cmp.Or(config.Address, os.Getenv("NOMAD_ADDR"), settings.Address)
	settings.SecretID = cmp.Or(config.Token, settings.SecretID)
	settings.Region = cmp.Or(config.Region, settings.Region)
	settings.Namespace = cmp.Or(config.Namespace, settings.Namespace)
	transport, err := transportTo(settings.Address)
	if err != nil {
		return nil, err
	}
	settings.HttpClient = &http.Client{Transport: transport}
	if err := api.ConfigureTLS(settings.HttpClient, settings.TLSConfig); err != nil {
		return nil, fmt.Errorf("the TLS settings in the NOMAD_ environment variables: %w", err)
	}
	nomad, err := api.NewClient(settings)
	if err != nil {
		return nil, fmt.Errorf("connect to Nomad at %s: %w", settings.Address, err)
	}
	return &Client{
		nomad:     nomad,
		transport: transport,
		address:   settings.Address,
		timeout:   cmp.Or(config.Timeout, DefaultTimeout),
		patience:  cmp.Or(config.Patience, DefaultPatience),
	}, nil
}

// transportTo checks the address and makes the connections to it. The library's
// own would dial a Unix socket without a deadline.
func transportTo(address string) (*http.Transport, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("the Nomad address %q: %w", address, err)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	dial := dialer.DialContext
	switch {
	case parsed.Scheme == "unix" && parsed.Path != "":
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", parsed.Path)
		}
	case (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Host != "":
	default:
		return nil, fmt.Errorf("the Nomad address %q: want http://host:port, https://host:port or unix:///path", address)
	}
	return &http.Transport{
		DialContext:         dial,
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: dialTimeout,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		IdleConnTimeout:     time.Minute,
	}, nil
}

// Close lets go of idle connections. Calls under way are not its business: they
// end with their contexts.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Address is where the client looks for Nomad.
func (c *Client) Address() string { return c.address }

// read is the options of one query, bounded by the client's timeout.
func (c *Client) read(ctx context.Context) (*api.QueryOptions, context.CancelFunc) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	return (&api.QueryOptions{}).WithContext(bounded), cancel
}

// write is the options of one change, bounded by the client's timeout.
func (c *Client) write(ctx context.Context) (*api.WriteOptions, context.CancelFunc) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	return (&api.WriteOptions{}).WithContext(bounded), cancel
}

// watch is the options of a query that Nomad answers when something is newer than
// index, or after wait at the latest.
func (c *Client) watch(ctx context.Context, index uint64, wait time.Duration) (*api.QueryOptions, context.CancelFunc) {
	bounded, cancel := context.WithTimeout(ctx, wait+wait/16+c.timeout)
	return (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(bounded), cancel
}
