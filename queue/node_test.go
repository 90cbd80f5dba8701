package queue

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone/internal/testbed"
)

func TestThreeNodesOutliveOne(t *testing.T) {
	c := startCluster(t, 3)
	js := c.connect()
	eventuallyEnsure(t, js)
	whole(t, js, callsStream, 3)
	publish(t, js, 0, 100)

	began := time.Now()
	c.leader(js, callsStream).Kill()
	publish(t, js, 100, 1)
	t.Logf("after its leader was killed, the stream took messages again within %v", time.Since(began).Round(time.Millisecond))
	publish(t, js, 101, 99)
	if got := kept(t, js, callsStream); got != 200 {
		t.Errorf("with one of three nodes killed, the stream holds %d messages of 200", got)
	}

	// Without a quorum nothing is acknowledged.
	c.leader(js, callsStream).Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if ack, err := js.Publish(ctx, "call.acme.refused", []byte("x")); err == nil {
		t.Errorf("one node of three acknowledged a message alone: %+v", ack)
	}

	for _, node := range c.nodes {
		if node.process == nil {
			node.Start()
		}
	}
	whole(t, js, callsStream, 3)
	publish(t, js, 200, 1)
	// The message that was not acknowledged may be there, or not.
	if got := kept(t, js, callsStream); got != 201 && got != 202 {
		t.Errorf("after two restarts, the stream holds %d messages of 201", got)
	}

	// All at once, as in a power cut.
	before := kept(t, js, callsStream)
	for _, node := range c.nodes {
		node.Kill()
	}
	for _, node := range c.nodes {
		node.Start()
	}
	whole(t, js, callsStream, 3)
	if got := kept(t, js, callsStream); got != before {
		t.Errorf("after a power cut, the stream holds %d messages of %d", got, before)
	}
}

func TestNodesInTheirTurnLoseNoCall(t *testing.T) {
	c := startCluster(t, 3)
	js := c.connect()
	eventuallyEnsure(t, js)
	for i, node := range c.nodes {
		whole(t, js, callsStream, 3)
		publish(t, js, 10*i, 10)
		node.Stop()
		publish(t, js, 10*i+5, 10)
		node.Start()
	}
	whole(t, js, callsStream, 3)
	if got := kept(t, js, callsStream); got != 35 {
		t.Errorf("the stream holds %d messages of 35", got)
	}
}

func TestStreamsAreMadeOnceAndChanged(t *testing.T) {
	node := startAlone(t, t.TempDir())
	js := inProcess(t, node)
	l := small(1)
	for range 2 {
		if err := ensure(t.Context(), js, l); err != nil {
			t.Fatal(err)
		}
	}
	l.maxCalls = 7
	if err := ensure(t.Context(), js, l); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), workStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().Config; got.MaxMsgs != 7 || got.Discard != jetstream.DiscardNew || got.Storage != jetstream.FileStorage {
		t.Errorf("the stream is %+v", got)
	}
	if err := node.Ready(); err != nil {
		t.Errorf("a node alone is not ready: %v", err)
	}
}

func TestANodeAloneKeepsWhatItHas(t *testing.T) {
	dir := t.TempDir()
	node := startAlone(t, dir)
	js := inProcess(t, node)
	if err := ensure(t.Context(), js, small(1)); err != nil {
		t.Fatal(err)
	}
	publish(t, js, 0, 10)
	name := node.Name()
	stop(t, node)

	node = startAlone(t, dir)
	if node.Name() != name {
		t.Errorf("after a restart the node is %q, and was %q", node.Name(), name)
	}
	if got := kept(t, inProcess(t, node), callsStream); got != 10 {
		t.Errorf("after a restart the stream holds %d messages of 10", got)
	}
}

func TestANodeThatKeepsNothingAnyMoreIsNoticed(t *testing.T) {
	node := startAlone(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := node.server.DisableJetStream(); err != nil { // as the server does to itself when it cannot write
		t.Fatal(err)
	}
	if err := node.Watch(ctx); err == nil {
		t.Error("nobody noticed")
	}
	if err := node.Ready(); err == nil {
		t.Error("it says that it is ready")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := node.Watch(ended); err != nil {
		t.Errorf("the watch was ended, and says %v", err)
	}
}

func TestNobodyIsLetInWithoutPasswordAndTLS(t *testing.T) {
	c := newCluster(t, 3)
	config := c.nodes[0].config
	config.Logger = slog.New(slog.DiscardHandler)
	node, err := StartNode(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, node) })
	secured, err := ClientTLS(config.CA)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ClientTLS(testSecrets(t).CA)
	if err != nil {
		t.Fatal(err)
	}
	right := nats.UserInfo(config.User, config.Password)
	for name, options := range map[string][]nats.Option{
		"a wrong password":          {nats.UserInfo(config.User, "guessed"), nats.Secure(secured)},
		"no password":               {nats.Secure(secured)},
		"the system's name":         {nats.UserInfo(systemUser, config.Password), nats.Secure(secured)},
		"no TLS":                    {right},
		"another authority's nodes": {right, nats.Secure(stranger)},
	} {
		if connection, err := nats.Connect(config.Listen, options...); err == nil {
			connection.Close()
			t.Errorf("%s: the node let the client in", name)
		}
	}
	connection, err := nats.Connect(config.Listen, right, nats.Secure(secured))
	if err != nil {
		t.Fatalf("the right password and TLS: %v", err)
	}
	connection.Close()
}

func TestOnlyNodesAreNodes(t *testing.T) {
	c := newCluster(t, 3)
	config := c.nodes[0].config
	log := &testbed.Log{}
	config.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	// It asks nobody: whoever it asked, at an address that it was told, is judged by the
	// certificate alone.
	routes := *config.Routes
	routes.Peers = nil
	config.Routes = &routes
	node, err := StartNode(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, node) })
	others := testSecrets(t)
	for name, change := range map[string]func(*server.Options){
		"a wrong password": func(o *server.Options) { o.Routes[0].User = nil },
		"no TLS":           func(o *server.Options) { o.Cluster.TLSConfig = nil },
		"another authority's certificate": func(o *server.Options) {
			pair, _, err := others.certificates()
			if err != nil {
				t.Fatal(err)
			}
			o.Cluster.TLSConfig = o.Cluster.TLSConfig.Clone()
			o.Cluster.TLSConfig.Certificates[0] = pair
		},
		"no certificate": func(o *server.Options) {
			o.Cluster.TLSConfig = o.Cluster.TLSConfig.Clone()
			o.Cluster.TLSConfig.Certificates = nil
		},
	} {
		intruder := &Node{config: c.nodes[1].config, name: "intruder", secret: "x"}
		options, err := intruder.options([]string{config.Routes.Listen})
		if err != nil {
			t.Fatal(err)
		}
		options.JetStream, options.StoreDir = false, ""
		options.Routes = []*url.URL{routes.route(routes.Listen)}
		change(options)
		heard := len(log.String())
		s, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		eventually(t, name+": the refusal", func(context.Context) error {
			if node.server.NumRoutes() > 0 { // the intruder counts a route that it has only asked for
				t.Fatalf("%s: the node took another for one of its own", name)
			}
			if said := log.String()[heard:]; !strings.Contains(said, "Authorization") && !strings.Contains(said, "authentication") && !strings.Contains(said, "TLS") {
				return errors.New("nothing was refused yet")
			}
			return nil
		})
		s.Shutdown()
		s.WaitForShutdown()
	}
	if strings.Contains(log.String(), config.Routes.Password) {
		t.Error("the log has the nodes' password")
	}
}

func TestPeersAreFollowed(t *testing.T) {
	c := newCluster(t, 3)
	for _, node := range c.nodes {
		node.config.Routes.Peers = nil // nobody knows anybody
		node.Start()
	}
	js := c.connect()
	for i, node := range c.nodes {
		if i > 0 {
			node.Follow([]string{c.nodes[0].config.Routes.Listen})
		}
	}
	eventuallyEnsure(t, js)
	whole(t, js, callsStream, 3)
	publish(t, js, 0, 10)
	// To follow others, or nobody, ends no client's work.
	c.nodes[0].Follow(nil)
	c.nodes[1].Follow([]string{c.nodes[0].config.Routes.Listen, c.nodes[2].config.Routes.Listen})
	publish(t, js, 10, 10)
	whole(t, js, callsStream, 3)
}

func TestAFolderIsOfOneSeat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	first, err := identify(dir, "0")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := identify(dir, "0"); err != nil || again != first {
		t.Errorf("the same folder is %q, and then %q (%v)", first, again, err)
	}
	if name, err := identify(dir, "1"); err == nil {
		t.Errorf("the folder of seat 0 became %q of seat 1", name)
	}
	if err := os.Mkdir(filepath.Join(dir, "jetstream"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "node")); err != nil {
		t.Fatal(err)
	}
	if name, err := identify(dir, "0"); err == nil {
		t.Errorf("data without a name became that of %q", name)
	}
}

func TestBadNodeConfigs(t *testing.T) {
	good := newCluster(t, 3).nodes[0].config
	good.Logger = slog.New(slog.DiscardHandler)
	for name, change := range map[string]func(*NodeConfig){
		"no seat":                   func(c *NodeConfig) { c.Seat = "" },
		"a seat with a space":       func(c *NodeConfig) { c.Seat = "a b" },
		"no folder":                 func(c *NodeConfig) { c.Dir = "" },
		"no bytes":                  func(c *NodeConfig) { c.MaxStoreBytes = 0 },
		"no logger":                 func(c *NodeConfig) { c.Logger = nil },
		"no password for clients":   func(c *NodeConfig) { c.Password = "" },
		"no password for nodes":     func(c *NodeConfig) { c.Routes.Password = "" },
		"two nodes":                 func(c *NodeConfig) { c.Routes.Size = 2 },
		"four nodes":                func(c *NodeConfig) { c.Routes.Size = 4 },
		"an address without a port": func(c *NodeConfig) { c.Listen = "127.0.0.1" },
		"a port of 0":               func(c *NodeConfig) { c.Listen = "127.0.0.1:0" },
		"a peer without a port":     func(c *NodeConfig) { c.Routes.Peers = []string{"127.0.0.1"} },
		"no certificate":            func(c *NodeConfig) { c.Certificate = nil },
		"no authority":              func(c *NodeConfig) { c.CA = nil },
		"the authority's own certificate": func(c *NodeConfig) {
			var err error
			if c.Certificate, c.Key, err = NewAuthority(time.Now()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		config, routes := good, *good.Routes
		config.Routes, config.Dir = &routes, filepath.Join(t.TempDir(), "node")
		change(&config)
		if node, err := StartNode(config); err == nil {
			stop(t, node)
			t.Errorf("%s: the node started", name)
		}
	}
}

// startAlone is a node without listeners, as `lightcone dev` has one.
func startAlone(t *testing.T, dir string) *Node {
	t.Helper()
	node, err := StartNode(NodeConfig{Seat: "0", Dir: dir, MaxStoreBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler), User: "dev", Password: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, node) })
	return node
}

func stop(t *testing.T, node *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := node.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func inProcess(t *testing.T, node *Node) jetstream.JetStream {
	t.Helper()
	connection, err := nats.Connect("", nats.InProcessServer(node), nats.UserInfo("dev", "dev"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestReadyIsAFullMember(t *testing.T) {
	c := newCluster(t, 3)
	nodes := make([]*Node, 3)
	for i := range nodes {
		config := c.nodes[i].config
		config.Logger = slog.New(slog.DiscardHandler)
		node, err := StartNode(config)
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = node
		if i < 2 && node.Ready() == nil {
			t.Errorf("node %d is ready, and only %d of three are there", i, i+1)
		}
		defer stop(t, node)
	}
	ready := func(context.Context) error {
		return errors.Join(nodes[0].Ready(), nodes[1].Ready(), nodes[2].Ready())
	}
	eventually(t, "three nodes to be ready", ready)
	js := c.connect()
	eventuallyEnsure(t, js)
	publish(t, js, 0, 10)
	eventually(t, "three nodes to be ready with streams", ready)
	stop(t, nodes[0])
	stop(t, nodes[1])
	eventually(t, "the node without a quorum to say so", func(context.Context) error {
		if nodes[2].Ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
}
