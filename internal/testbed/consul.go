package testbed

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ManagementToken may do everything on a Consul that was started with ACL and not
// with Unmanaged.
const ManagementToken = "11111111-2222-3333-4444-555555555555"

// consulBound is how long a server may take to lead, on a busy machine.
const consulBound = time.Minute

// ConsulConfig says what a server is like. The zero value is one that lets
// everybody do everything.
type ConsulConfig struct {
	ACL       bool    // access is denied by default
	Unmanaged bool    // with ACL: nobody has a token, and the bootstrap is still to come
	Beside    *Consul // makes the second of two voters
}

// Consul is a real Consul server. Elections take it a second or two; session TTLs
// may be as short as a second.
type Consul struct {
	*process
	Address string // host:port of its HTTP API
	config  ConsulConfig
	gossip  string
}

// StartConsul starts a server and waits until it leads, or knows who does. Its
// tokens exist from then on.
func StartConsul(t testing.TB, config ConsulConfig) *Consul {
	t.Helper()
	ports, folder := Ports(t, 3), t.TempDir()
	c := &Consul{config: config, Address: loopback(ports[0]), gossip: loopback(ports[2])}
	content, err := json.Marshal(c.settings(folder, ports))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "agent.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c.process = newProcess(t, folder, Agent(t, "consul"), "agent", "-config-file", file)
	c.awaitLeader()
	return c
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// settings is the agent's configuration.
func (c *Consul) settings(folder string, ports []int) map[string]any {
	settings := map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "test", "datacenter": "dc1",
		"data_dir": filepath.Join(folder, "data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"ports": map[string]int{
			"http": ports[0], "server": ports[1], "serf_lan": ports[2],
			"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1,
		},
		"performance": map[string]int{"raft_multiplier": 1}, "log_level": "warn", "disable_update_check": true,
		"session_ttl_min": "1s", "autopilot": map[string]string{"server_stabilization_time": "500ms"}, "connect": map[string]bool{"enabled": false},
	}
	if c.config.ACL {
		acl := map[string]any{"enabled": true, "default_policy": "deny"}
		if !c.config.Unmanaged {
			acl["tokens"] = map[string]string{"initial_management": ManagementToken, "agent": ManagementToken}
		}
		settings["acl"] = acl
	}
	if first := c.config.Beside; first != nil {
		settings["node_name"], settings["bootstrap_expect"] = "peer", 0
		settings["retry_join"], settings["retry_interval"] = []string{first.gossip}, "1s"
	}
	return settings
}

// Restart starts a killed server again, on the same data and ports, and waits as
// StartConsul does.
func (c *Consul) Restart() {
	c.t.Helper()
	c.start()
	c.awaitLeader()
}

// awaitLeader asks for a key, consistently: only a leader that has caught up with
// its log answers that.
func (c *Consul) awaitLeader() {
	c.t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	c.await(consulBound, "Consul has a leader", func() bool {
		request, err := http.NewRequest(http.MethodGet, "http://"+c.Address+"/v1/kv/nothing?consistent", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		request.Header.Set("X-Consul-Token", ManagementToken)
		response, err := client.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		said, _ := io.ReadAll(response.Body) // the status says enough without it
		return response.StatusCode == http.StatusNotFound || c.config.Unmanaged && strings.Contains(string(said), "ACL not found")
	})
}
