package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone/internal/testbed"
)

// testCluster is nodes on loopback, each a process of its own: they can be killed.
type testCluster struct {
	t     *testing.T
	nodes []*testNode
}

type testNode struct {
	t       *testing.T
	config  NodeConfig
	log     testbed.Log
	process *exec.Cmd
	stdin   io.WriteCloser
}

// patience is for what a cluster does by itself: elections, catching up.
const patience = 60 * time.Second

// testSecrets are the certificates and passwords of a test's nodes.
func testSecrets(t testing.TB) NodeConfig {
	t.Helper()
	ca, caKey, err := NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := NewCertificate(time.Now(), ca, caKey)
	if err != nil {
		t.Fatal(err)
	}
	return NodeConfig{
		User: "lightcone", Password: "the clients' password",
		CA: ca, Certificate: certificate, Key: key, MaxStoreBytes: 1 << 30,
	}
}

// newCluster configures a cluster whose nodes are not started yet.
func newCluster(t *testing.T, size int) *testCluster {
	t.Helper()
	ports := testbed.Ports(t, 2*size)
	address := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])) }
	secrets := testSecrets(t)
	c := &testCluster{t: t}
	for i := range size {
		config := secrets
		config.Seat, config.Dir = strconv.Itoa(i), filepath.Join(t.TempDir(), "node")
		config.Listen = address(i)
		config.Routes = &RouteConfig{Listen: address(size + i), Size: size, Password: "the nodes' password"}
		for j := range size {
			config.Routes.Peers = append(config.Routes.Peers, address(size+j))
		}
		node := &testNode{t: t, config: config}
		c.nodes = append(c.nodes, node)
		t.Cleanup(func() {
			node.Kill()
			if t.Failed() {
				t.Logf("node %s:\n%s", config.Seat, node.log.String())
			}
		})
	}
	return c
}

// startCluster is a cluster that is ready.
func startCluster(t *testing.T, size int) *testCluster {
	t.Helper()
	c := newCluster(t, size)
	for _, node := range c.nodes {
		node.Start()
	}
	return c
}

// Start runs the node on what its folder holds.
func (n *testNode) Start() {
	n.t.Helper()
	text, err := json.Marshal(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	n.process = exec.Command(os.Args[0], "-test.run=^$")
	n.process.Env = append(os.Environ(), nodeVariable+"="+string(text))
	n.process.Stdout, n.process.Stderr = &n.log, &n.log
	if n.stdin, err = n.process.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
}

// Kill ends the node as a power cut does.
func (n *testNode) Kill() { _ = n.end(syscall.SIGKILL) }

// Stop ends the node in order.
func (n *testNode) Stop() {
	n.t.Helper()
	if err := n.end(syscall.SIGTERM); err != nil {
		n.t.Errorf("node %s: stop: %v", n.config.Seat, err)
	}
}

func (n *testNode) end(signal os.Signal) error {
	if n.process == nil {
		return nil
	}
	_ = n.process.Process.Signal(signal)
	err := n.process.Wait()
	n.process = nil
	return err
}

// Follow tells the node its peers.
func (n *testNode) Follow(peers []string) {
	n.t.Helper()
	if err := json.NewEncoder(n.stdin).Encode(peers); err != nil {
		n.t.Fatal(err)
	}
}

// servers are the addresses of those nodes, of all when none is named.
func (c *testCluster) servers(nodes ...int) string {
	text := ""
	for i, node := range c.nodes {
		if len(nodes) == 0 || slices.Contains(nodes, i) {
			text += "," + node.config.Listen
		}
	}
	return text[1:]
}

// connect is a client of those nodes, of all when none is named, closed with the test.
func (c *testCluster) connect(nodes ...int) jetstream.JetStream {
	c.t.Helper()
	secured, err := ClientTLS(c.nodes[0].config.CA)
	if err != nil {
		c.t.Fatal(err)
	}
	connection, err := nats.Connect(c.servers(nodes...), nats.UserInfo(c.nodes[0].config.User, c.nodes[0].config.Password),
		nats.Secure(secured), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.IgnoreDiscoveredServers())
	if err != nil {
		c.t.Fatal(err)
	}
	closed := make(chan struct{})
	connection.SetClosedHandler(func(*nats.Conn) { close(closed) })
	c.t.Cleanup(func() {
		connection.Close()
		<-closed
	})
	js, err := jetstream.New(connection)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// eventually repeats attempt until it has no error.
func eventually(t *testing.T, what string, attempt func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := attempt(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// whole waits until a stream has a leader and its other copies are up to date.
func whole(t *testing.T, js jetstream.JetStream, stream string, copies int) {
	t.Helper()
	eventually(t, "every copy of "+stream, func(ctx context.Context) error {
		handle, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		cluster := handle.CachedInfo().Cluster
		if cluster == nil || cluster.Leader == "" {
			return fmt.Errorf("it has no leader")
		}
		current := 1
		for _, replica := range cluster.Replicas {
			if replica.Current && !replica.Offline {
				current++
			}
		}
		if current != copies || len(cluster.Replicas) != copies-1 {
			return fmt.Errorf("%d of %d copies are current: leader %s, %+v", current, len(cluster.Replicas)+1, cluster.Leader, cluster.Replicas)
		}
		return nil
	})
}

// publish sends count messages to one tenant's calls, each until it is acknowledged.
func publish(t *testing.T, js jetstream.JetStream, from, count int) {
	t.Helper()
	for i := from; i < from+count; i++ {
		eventually(t, "an acknowledgement", func(ctx context.Context) error {
			_, err := js.Publish(ctx, fmt.Sprintf("call.acme.%d", i), []byte(strconv.Itoa(i)), jetstream.WithMsgID(strconv.Itoa(i)))
			return err
		})
	}
}

// kept says how many messages a stream has.
func kept(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	var messages uint64
	eventually(t, "the state of "+stream, func(ctx context.Context) error {
		handle, err := js.Stream(ctx, stream)
		if err == nil {
			messages = handle.CachedInfo().State.Msgs
		}
		return err
	})
	return messages
}

// small is a layout for tests.
func small(replicas int) layout {
	return layout{replicas: replicas, share: 1000, maxCalls: 10_000, maxBytes: 64 << 20, keep: time.Hour, maxAge: time.Hour, deadKeep: time.Hour}
}

// eventuallyEnsure makes the streams, on three nodes that may have just started.
func eventuallyEnsure(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	eventually(t, "the streams", func(ctx context.Context) error { return ensure(ctx, js, small(3)) })
}

// leader is the node that leads a stream.
func (c *testCluster) leader(js jetstream.JetStream, stream string) (leads *testNode) {
	c.t.Helper()
	eventually(c.t, "a leader of "+stream, func(ctx context.Context) error {
		handle, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		cluster := handle.CachedInfo().Cluster
		for _, node := range c.nodes {
			if cluster != nil && node.process != nil && seatOf(cluster.Leader) == node.config.Seat {
				leads = node
				return nil
			}
		}
		return fmt.Errorf("it is led by nobody: %+v", cluster)
	})
	return leads
}
