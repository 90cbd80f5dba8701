package consul

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is also the candidate process of TestAFrozenLeaderIsFenced.
func TestMain(m *testing.M) {
	if os.Getenv(candidateKey) != "" {
		standAsProcess()
		return
	}
	// These tests wait for Consul much more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// management is the token that may do everything on a test's agent.
const management = "11111111-2222-3333-4444-555555555555"

var consulPath = sync.OnceValues(func() (string, error) {
	command := exec.Command("../internal/tools/agent", "consul")
	command.Stderr = os.Stderr
	path, err := command.Output()
	return strings.TrimSpace(string(path)), err
})

// agent is a real Consul server of the test's own: ACLs deny by default, and
// session TTLs may be as short as a second.
type agent struct {
	t       *testing.T
	folder  string
	managed bool   // by the management token, from the start
	address string // of its HTTP API
	gossip  string
	command *exec.Cmd
	exited  chan struct{}
}

// newAgent starts an agent and waits until sessions can be made. With a token it
// can be managed with it; without, its ACLs wait for their bootstrap.
func newAgent(t *testing.T, token string) *agent {
	t.Helper()
	return launch(t, token, nil)
}

// newPeer starts a second server beside the first, which makes two voters.
func newPeer(t *testing.T, first *agent) *agent {
	t.Helper()
	return launch(t, management, map[string]any{
		"node_name": "peer", "bootstrap_expect": 0, "retry_join": []string{first.gossip}, "retry_interval": "1s",
	})
}

func launch(t *testing.T, token string, different map[string]any) *agent {
	t.Helper()
	a := &agent{t: t, folder: t.TempDir(), managed: token != ""}
	ports := freePorts(t, 3)
	a.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	a.gossip = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[2]))
	acl := map[string]any{"enabled": true, "default_policy": "deny"}
	if token != "" {
		acl["tokens"] = map[string]string{"initial_management": token, "agent": token}
	}
	config := map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "test", "datacenter": "dc1",
		"data_dir": filepath.Join(a.folder, "data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"ports": map[string]int{
			"http": ports[0], "server": ports[1], "serf_lan": ports[2],
			"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1,
		},
		"performance": map[string]int{"raft_multiplier": 1}, "log_level": "warn", "disable_update_check": true,
		"session_ttl_min": "1s", "acl": acl, "autopilot": map[string]string{"server_stabilization_time": "500ms"}, "connect": map[string]bool{"enabled": false},
	}
	maps.Copy(config, different)
	content, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.folder, "agent.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func (a *agent) start() {
	a.t.Helper()
	path, err := consulPath()
	if err != nil {
		a.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(a.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(path, "agent", "-config-file", filepath.Join(a.folder, "agent.json"))
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		a.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait() // killed: it has nothing else to say
		close(exited)
	}()
	a.command, a.exited = command, exited
	eventually(a.t, 60*time.Second, "the agent leads", func() bool {
		conn, err := net.DialTimeout("tcp", a.address, time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		c := a.client(management)
		options, cancel := c.reading(a.t.Context())
		defer cancel()
		options.RequireConsistent = true
		_, _, err = c.api.KV().Get("nothing", options)
		return err == nil || (!a.managed && strings.Contains(err.Error(), "ACL not found"))
	})
}

func (a *agent) signal(signal syscall.Signal) {
	a.t.Helper()
	if err := a.command.Process.Signal(signal); err != nil {
		a.t.Error(err)
	}
}

func (a *agent) kill() {
	_ = a.command.Process.Kill() // it may be dead already
	<-a.exited
	if a.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(a.folder, "log")) // as much as there is
		a.t.Logf("the agent's last words: %s", log[max(0, len(log)-4000):])
	}
}

// client is closed with the test.
func (a *agent) client(token string) *Client { return clientAt(a.t, a.address, token) }

// scheduler is a client that may do what the scheduler's policy allows.
func (a *agent) scheduler() *Client {
	a.t.Helper()
	c := a.client(management)
	if err := c.PutPolicy(a.t.Context(), "scheduler", Policies()["scheduler"]); err != nil {
		a.t.Fatal(err)
	}
	token, err := c.PutToken(a.t.Context(), "scheduler", "scheduler")
	if err != nil {
		a.t.Fatal(err)
	}
	return a.client(token)
}

func clientAt(t *testing.T, address, token string) *Client {
	t.Helper()
	c, err := Connect(Config{Address: address, Token: token, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// freePorts are below those that the kernel gives to outgoing connections, so
// that none is taken while its agent is away.
func freePorts(t *testing.T, count int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(22_000))))
		if err != nil {
			continue // taken
		}
		defer listener.Close() // all together, so that they differ
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
		if len(ports) == count {
			return ports
		}
	}
	t.Fatalf("only %d of %d ports are free", len(ports), count)
	return nil
}

// eventually waits for a condition, within a bound.
func eventually(t *testing.T, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", bound, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// notes collects a logger's lines.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.text.String(), what)
}
