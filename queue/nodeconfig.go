package queue

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// seatName is what a seat may be called: part of a name in JetStream.
var seatName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Validate says what is wrong with the configuration, as far as that can be said
// without the machine.
func (c NodeConfig) Validate() error {
	switch {
	case !seatName.MatchString(c.Seat):
		return fmt.Errorf("seat %q: want 1 to 32 lower-case letters, digits and dashes", c.Seat)
	case c.Dir == "" || strings.ContainsRune(c.Dir, 0):
		return fmt.Errorf("folder %q: want one for what it keeps", c.Dir)
	case c.MaxStoreBytes <= 0:
		return fmt.Errorf("a store of %d bytes: want more", c.MaxStoreBytes)
	case c.Logger == nil:
		return errors.New("there is no logger")
	case c.User == tenderUser || c.User == systemUser:
		return fmt.Errorf("clients may not be called %q: the node itself is", c.User)
	case c.Listen != "" && (c.User == "" || c.Password == ""):
		return errors.New("it listens, and its clients have no user or no password")
	case c.Routes != nil && c.Routes.Password == "":
		return errors.New("the nodes have no password for each other")
	case c.Routes != nil && (c.Routes.Size < 3 || c.Routes.Size%2 == 0):
		return fmt.Errorf("a cluster of %d nodes: want 3 or 5, of which a majority survives the loss of one", c.Routes.Size)
	}
	n := Node{config: c}
	_, err := n.options(nil)
	return err
}

const (
	clusterName = "lightcone"
	routeUser   = "node"
	tenderUser  = "tender"    // this process, when it looks at its streams
	systemUser  = "system"    // this process, when it administrates the node
	systemSpace = "$SYS"      // the server's account in which JetStream itself is administrated
	clientSpace = "LIGHTCONE" // the account of clients and their streams

	routePing        = 2 * time.Second // between nodes; routeMisses unanswered, and the connection is closed
	routeMisses      = 3
	clientPing       = 10 * time.Second
	clientMisses     = 2
	handOver         = time.Second // for clients to leave, when a node stops
	handOverNotice   = 100 * time.Millisecond
	handshakeSeconds = 5
)

// options are the server's, with routes to peers. All that is not said here and could
// make it lose what it acknowledged is off, and has no setting.
func (n *Node) options(peers []string) (*server.Options, error) {
	c := n.config
	accounts, err := n.accounts()
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:          n.name,
		NoSigs:              true,
		NoLog:               true,
		MaxPayload:          maxPayload,
		DontListen:          c.Listen == "",
		JetStream:           true,
		StoreDir:            c.Dir,
		SyncAlways:          true, // an answer means fsync
		JetStreamMaxStore:   c.MaxStoreBytes,
		JetStreamMaxMemory:  1 << 20, // nothing is kept in memory alone
		PingInterval:        clientPing,
		MaxPingsOut:         clientMisses,
		LameDuckDuration:    handOver,
		LameDuckGracePeriod: handOverNotice,

		DisableJetStreamBanner: true,
	}
	if err := o.ProcessConfigString(accounts); err != nil {
		return nil, fmt.Errorf("the node's accounts: %w", err)
	}
	slices.SortFunc(o.Users, func(a, b *server.User) int { return strings.Compare(a.Username, b.Username) })
	slices.SortFunc(o.Accounts, func(a, b *server.Account) int { return strings.Compare(a.Name, b.Name) })
	if c.Listen == "" && c.Routes == nil {
		return o, nil
	}
	pair, trusted, err := c.certificates()
	if err != nil {
		return nil, err
	}
	if c.Listen != "" {
		if o.Host, o.Port, err = splitAddress(c.Listen); err != nil {
			return nil, err
		}
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
		o.TLSTimeout = handshakeSeconds
	}
	if c.Routes != nil {
		err = c.Routes.apply(o, peers, &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{pair},
			ServerName:   NodeName,
			RootCAs:      trusted,
			ClientCAs:    trusted,
			ClientAuth:   tls.RequireAndVerifyClientCert,
		})
	}
	return o, err
}

// accounts are the clients' and the system's, as the server's configuration has them.
// The clients' is one of its own: with no other than the server's default account,
// whoever shows no password is let into that.
func (n *Node) accounts() (string, error) {
	type user struct {
		Name     string `json:"user"`
		Password string `json:"password"`
	}
	type account struct {
		JetStream bool   `json:"jetstream,omitempty"`
		Users     []user `json:"users"`
	}
	clients := account{JetStream: true, Users: []user{{tenderUser, n.secret}}}
	if n.config.Password != "" {
		clients.Users = append(clients.Users, user{n.config.User, n.config.Password})
	}
	text, err := json.Marshal(map[string]any{
		"accounts": map[string]account{
			clientSpace: clients,
			systemSpace: {Users: []user{{systemUser, n.secret}}},
		},
		"system_account": systemSpace,
	})
	return string(text), err // JSON is such a configuration, too
}

// apply makes o those of one node of several.
func (r *RouteConfig) apply(o *server.Options, peers []string, secured *tls.Config) error {
	host, port, err := splitAddress(r.Listen)
	if err != nil {
		return err
	}
	o.Cluster = server.ClusterOpts{
		Name: clusterName,
		Host: host, Port: port,
		Username: routeUser, Password: r.Password,
		TLSConfig:    secured,
		TLSTimeout:   handshakeSeconds,
		PingInterval: routePing,
		MaxPingsOut:  routeMisses,
	}
	for _, peer := range peers {
		if peer == r.Listen {
			continue
		}
		if _, _, err := splitAddress(peer); err != nil {
			return err
		}
		o.Routes = append(o.Routes, r.route(peer))
	}
	// A node without state takes the number of its routes for the cluster's size. A
	// new cluster must have all its nodes to begin, and so a few that have lost their
	// disks never begin another one. Routes to itself are closed again by a node.
	for len(o.Routes) < r.Size {
		o.Routes = append(o.Routes, r.route(r.Listen))
	}
	// A reload sorts the routes in place, while others read them: with nothing to be
	// moved, it writes nothing.
	slices.SortFunc(o.Routes, func(a, b *url.URL) int { return strings.Compare(a.String(), b.String()) })
	return nil
}

func (r *RouteConfig) route(address string) *url.URL {
	return &url.URL{Scheme: "nats", User: url.UserPassword(routeUser, r.Password), Host: address}
}

// certificates reads the node's own, and those of whom it trusts.
func (c NodeConfig) certificates() (tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("the node's certificate and key: %w", err)
	}
	if err := pair.Leaf.VerifyHostname(NodeName); err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("the node's certificate is for somebody else: %w", err)
	}
	trusted, err := trustedBy(c.CA)
	return pair, trusted, err
}

// ClientTLS is how a client of nodes verifies them: ca is the PEM of who signs their
// certificates.
func ClientTLS(ca []byte) (*tls.Config, error) {
	trusted, err := trustedBy(ca)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: NodeName, RootCAs: trusted}, nil
}

func trustedBy(ca []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the nodes' certificate authority: there is no certificate in its PEM")
	}
	return pool, nil
}

// splitAddress reads host:port.
func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want HOST:PORT: %w", address, err)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 || host == "" {
		return "", 0, fmt.Errorf("address %q: want HOST:PORT with a port of 1 to 65535", address)
	}
	return host, port, nil
}
