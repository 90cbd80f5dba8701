package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NodeName is the name in every node's certificate: nodes move, so it is this that
// clients and nodes verify, not an address.
const NodeName = "queue.lightcone"

// NodeConfig says what a node keeps, where it listens and whom it lets in.
type NodeConfig struct {
	Seat   string // the node's place in the cluster, such as "0"; whoever follows it on another disk takes it over
	Dir    string // what the node keeps; made when missing, of one seat for ever
	Listen string // host:port for clients; "" = only in this process
	Routes *RouteConfig

	User, Password string // what clients show; not needed without Listen
	CA             []byte // PEM: who signs nodes' certificates; needed with Listen or Routes
	Certificate    []byte // PEM, for NodeName, to be a server and a client
	Key            []byte // PEM

	MaxStoreBytes int64        // most bytes on disk
	Logger        *slog.Logger `json:"-"`
}

// RouteConfig makes a node one of several.
type RouteConfig struct {
	Listen   string   // host:port for the other nodes, which they reach it by
	Peers    []string // host:port of the others that are known now; see Follow
	Size     int      // how many nodes the cluster has, 3 or more and odd
	Password string   // what nodes show each other, beside their certificates
}

// Node is one node of the queue.
type Node struct {
	config NodeConfig
	name   string // JetStream's: the seat and what tells it apart from those before it
	secret string // the password of this process, as administrator and as its own client
	logger *nodeLogger
	server *server.Server

	following sync.Mutex
	tender    *tender // nil when the node is alone
}

const (
	startPatience = 10 * time.Second // for listeners, once what is on disk has been read
	maxPayload    = 2 << 20          // of a message, in bytes: an input of 1 MiB and what is said about it
)

// StartNode starts a node on what its folder holds, and returns when it listens. It
// may not have found the others by then: see Ready. Its errors are of the NodeConfig
// and of the machine.
func StartNode(config NodeConfig) (*Node, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("start a queue node: %w", err)
	}
	name, err := identify(config.Dir, config.Seat)
	if err != nil {
		return nil, fmt.Errorf("start a queue node: %w", err)
	}
	n := &Node{config: config, name: name, secret: randomText(), logger: newNodeLogger(config.Logger.With("node", name))}
	var peers []string
	if config.Routes != nil {
		n.logger.secret = config.Routes.Password
		peers = config.Routes.Peers
		// A new node takes the number of its routes for the size of the cluster.
		if most := config.Routes.Size - 1; len(peers) > most {
			peers = peers[:most]
		}
	}
	options, err := n.options(peers)
	if err != nil {
		return nil, fmt.Errorf("start a queue node: %w", err)
	}
	if n.server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("start a queue node: %w", err)
	}
	n.server.SetLoggerV2(n.logger, false, false, false)
	n.server.Start()
	if err := n.started(); err != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		return nil, fmt.Errorf("start the queue node %s on %s: %w", name, config.Dir, err)
	}
	if config.Routes != nil {
		if err := n.Follow(config.Routes.Peers); err != nil {
			return nil, errors.Join(err, n.Stop(context.Background()))
		}
		if n.tender, err = tend(n); err != nil {
			return nil, errors.Join(fmt.Errorf("start a queue node: %w", err), n.Stop(context.Background()))
		}
	}
	return n, nil
}

// started waits for the listeners, or says why there are none.
func (n *Node) started() error {
	if err := n.logger.fatal(); err != nil {
		return err
	}
	if n.server.ReadyForConnections(startPatience) {
		return nil
	}
	return errors.Join(fmt.Errorf("it did not listen within %v", startPatience), n.logger.fatal())
}

// Name is how JetStream knows the node: unique and stable, made of its seat.
func (n *Node) Name() string { return n.name }

// InProcessConn is a connection to the node without a socket.
func (n *Node) InProcessConn() (net.Conn, error) { return n.server.InProcessConn() }

// Follow makes peers, host:port each, the nodes that this one tries to reach. Those
// that are gone from it stay members of the cluster; a node alone in its cluster has
// no peers.
func (n *Node) Follow(peers []string) error {
	if n.config.Routes == nil {
		return errors.New("follow other queue nodes: this one is alone, by its configuration")
	}
	n.following.Lock()
	defer n.following.Unlock()
	options, err := n.options(peers)
	if err != nil {
		return fmt.Errorf("follow other queue nodes: %w", err)
	}
	if err := n.server.ReloadOptions(options); err != nil {
		return fmt.Errorf("follow the queue nodes %v: %w", peers, err)
	}
	return nil
}

// Ready says why the node is not a full member now, or nil: it knows who leads and is
// up to date with it, in everything that it keeps.
func (n *Node) Ready() error {
	if health := n.server.Healthz(&server.HealthzOptions{}); health.Error != "" {
		return fmt.Errorf("queue node %s: %s", n.name, health.Error)
	}
	if n.tender == nil {
		return nil
	}
	if err := n.tender.ready(); err != nil {
		return fmt.Errorf("queue node %s: %w", n.name, err)
	}
	return nil
}

// Watch returns nil when ctx ends, or else why the node does nothing any more and must
// be started again: its disk was full or failed, or the others have removed it because
// its seat was taken while it was away. It has said so in its log.
func (n *Node) Watch(ctx context.Context) error {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if !n.server.JetStreamEnabled() {
				return fmt.Errorf("the queue node %s has stopped to keep anything: its disk is full or has failed, or its seat was taken", n.name)
			}
		}
	}
}

// Leads says whether the node leads the others in what waits to be run, as it sees
// it: one that was just cut off may not know yet that it does not.
func (n *Node) Leads() bool { return n.server.JetStreamIsStreamLeader(clientSpace, workStream) }

// Stop gives what the node leads to others, and ends it. When ctx ends before, the
// node is ended at once, which loses nothing that was accepted.
func (n *Node) Stop(ctx context.Context) error {
	if n.tender != nil {
		n.tender.close()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.server.LameDuckShutdown() // nothing without a listener, and else ends in a Shutdown
		n.server.Shutdown()
		n.server.WaitForShutdown()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	n.server.Shutdown()
	<-ended
	return fmt.Errorf("stop the queue node %s: it had no time to hand over: %w", n.name, ctx.Err())
}
