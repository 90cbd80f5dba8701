package hosts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	gossipKey   = "bGlnaHRjb25lIHRlc3Qga2V5IDEyMzQ1Njc4OTAxMjM="
	tokenSecret = "a secret of the test alone, long enough"
)

// api asks an agent over HTTP, and gives the status and the answer.
func api(t *testing.T, method, url, token string, body any) (int, []byte) {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true // no idle connection for goleak to find
	request.Header.Set("X-Consul-Token", token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// get asks for JSON that must be there.
func get[T any](t *testing.T, url, token string) T {
	t.Helper()
	status, answer := api(t, http.MethodGet, url, token, nil)
	var value T
	if err := json.Unmarshal(answer, &value); status != http.StatusOK || err != nil {
		t.Fatalf("GET %s: %d %s: %v", url, status, answer, err)
	}
	return value
}

// serve offers a file to the hosts, and gives its address and SHA-256.
func serve(t *testing.T, path string) (url, digest string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", bridgeAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, path)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends when closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return "http://" + listener.Addr().String() + "/nomad", hex.EncodeToString(hash.Sum(nil))
}

// cluster is three test hosts and the module that makes a cluster of them.
type cluster struct {
	*module
	server, worker, edge machine
	key                  string
}

// newCluster starts the hosts; nothing is applied yet.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	newBridge(t)
	key, public := newKey(t, filepath.Join(t.TempDir(), "key"))
	c := &cluster{
		module: newModule(t),
		server: startMachine(t, "s1", "10.77.91.11", public),
		worker: startMachine(t, "w1", "10.77.91.12", public),
		edge:   startMachine(t, "e1", "10.77.91.13", public),
		key:    key,
	}
	nomadURL, nomadSHA256 := serve(t, agentPath(t, "nomad"))
	c.variables = object{
		"hosts": object{
			"s1": c.host(&c.server, "server", "rack-1"),
			"w1": c.host(&c.worker, "worker", "rack-2"),
			"e1": c.host(&c.edge, "edge", "rack-3"),
		},
		"ssh":           object{"private_key_path": key, "user": "admin"},
		"gossip_key":    gossipKey,
		"token_secret":  tokenSecret,
		"consul_binary": agentPath(t, "consul"),
		"nomad_url":     nomadURL,
		"nomad_sha256":  nomadSHA256,
		"packages":      []string{},
		"init":          "none",
	}
	return c
}

// host is a host's entry. Tasks without a chroot spare the test a copy of this
// machine's programs.
func (c *cluster) host(m *machine, role, rack string) object {
	return object{"address": m.address, "host_key": m.hostKey, "rack": rack, "role": role, "nomad_config": fmt.Sprintf(
		"client {\n  cgroup_parent = %q\n}\nplugin \"raw_exec\" {\n  config {\n    enabled = true\n  }\n}", cgroupPrefix+m.name)}
}

// token gets the bootstrap token as the module's output says.
func (c *cluster) token() string {
	c.t.Helper()
	known := filepath.Join(c.folder, "known_hosts")
	if err := os.WriteFile(known, []byte(c.server.address+" "+c.server.hostKey+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	words := strings.Fields(c.output("consul_token_command"))
	words = slices.Insert(words, 1, "-F", "/dev/null", "-o", "UserKnownHostsFile="+known, "-o", "BatchMode=yes")
	return strings.TrimSpace(mustRun(c.t, words[0], words[1:]...))
}

// node is what Nomad's list says of a client.
type node struct{ ID, Name, Status, NodeClass string }

// racks are the racks of the ready clients, by "name class".
func (c *cluster) racks(nomad string) map[string]string {
	c.t.Helper()
	racks := make(map[string]string)
	for _, n := range get[[]node](c.t, nomad+"/v1/nodes", "") {
		if n.Status == "ready" {
			racks[n.Name+" "+n.NodeClass] = get[struct{ Meta map[string]string }](c.t, nomad+"/v1/node/"+n.ID, "").Meta["rack"]
		}
	}
	return racks
}

// TestCluster makes a cluster of three hosts, changes one, and takes it down.
func TestCluster(t *testing.T) {
	c := newCluster(t)
	c.apply()
	consul, nomad, token := c.output("consul_address"), c.output("nomad_address"), c.token()

	type member struct {
		Name   string
		Status int
	}
	const alive = 1
	members := get[[]member](t, consul+"/v1/agent/members", token)
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.Name, b.Name) })
	if want := []member{{"e1", alive}, {"s1", alive}, {"w1", alive}}; !slices.Equal(members, want) {
		t.Errorf("Consul's members are %v, want %v", members, want)
	}
	if got, want := fmt.Sprint(c.racks(nomad)), "map[e1 edge:rack-3 w1 worker:rack-2]"; got != want {
		t.Errorf("Nomad's ready clients and their racks are %s, want %s", got, want)
	}
	c.checkAccess(consul, token)
	c.checkSecrets(token)
	if found, said := c.changes(); found {
		t.Errorf("a second plan is not empty: %s", said)
	}
	c.checkWorkload(consul, nomad, token)
	c.checkRackChange(nomad)

	if said, err := c.with("destroy", "-auto-approve"); err != nil {
		t.Fatalf("terraform destroy: %v\n%s", err, said)
	}
	for _, m := range []*machine{&c.server, &c.worker, &c.edge} {
		within(t, 5*time.Second, "the end of all but the SSH server on "+m.name, func() error {
			for pid, command := range m.processes(t) {
				if pid != m.first && !strings.HasPrefix(command, "sshd: ") {
					return fmt.Errorf("%s (%d) runs", command, pid)
				}
			}
			return nil
		})
		if _, err := os.Stat(m.path("/var/lib/consul/node-id")); err != nil {
			t.Errorf("destroy took the data of %s: %v", m.name, err)
		}
	}
}

// checkAccess holds Consul to its default: what no token allows is denied.
func (c *cluster) checkAccess(consul, token string) {
	c.t.Helper()
	if status, answer := api(c.t, http.MethodPut, consul+"/v1/kv/test", "", "v"); status != http.StatusForbidden {
		c.t.Errorf("an anonymous write to Consul's KV: %d %s, want 403", status, answer)
	}
	if status, answer := api(c.t, http.MethodPut, consul+"/v1/kv/test", token, "v"); status != http.StatusOK {
		c.t.Errorf("the bootstrap token's write to Consul's KV: %d %s", status, answer)
	}
	// The load balancer finds the gateways by DNS, which the agents' own token opens.
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.server.address+":8600")
	}}
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	if found, err := resolver.LookupHost(ctx, "consul.service.consul."); err != nil || !slices.Equal(found, []string{c.server.address}) {
		c.t.Errorf("Consul's DNS finds %v for its servers: %v", found, err)
	}
}

// checkSecrets looks for secrets where they must not be.
func (c *cluster) checkSecrets(token string) {
	c.t.Helper()
	state, err := os.ReadFile(c.state())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range []*machine{&c.server, &c.worker, &c.edge} {
		for _, file := range []string{"/etc/consul.d/secrets.hcl", "/etc/nomad.d/secrets.hcl"} {
			info, err := os.Stat(m.path(file))
			if err != nil || info.Mode().Perm() != 0o600 {
				c.t.Errorf("%s on %s: %v %v, want a file that only its owner reads", file, m.name, info, err)
				continue
			}
			content, err := os.ReadFile(m.path(file))
			if err != nil {
				c.t.Fatal(err)
			}
			for i, word := range strings.Split(string(content), `"`) {
				if i%2 == 1 && bytes.Contains(state, []byte(word)) {
					c.t.Errorf("a secret of %s on %s is in Terraform's state", file, m.name)
				}
			}
		}
		if staged, err := filepath.Glob(m.path("/home/admin/.lightcone/*/secrets.hcl")); err != nil || len(staged) > 0 {
			c.t.Errorf("secrets are left where they were uploaded to: %v %v", staged, err)
		}
	}
	if info, err := os.Stat(c.server.path("/etc/lightcone/consul-bootstrap.token")); err != nil || info.Mode().Perm() != 0o600 {
		c.t.Errorf("the bootstrap token's file: %v %v, want one that only root reads", info, err)
	}
	for _, secret := range []string{gossipKey, tokenSecret, token} {
		if bytes.Contains(state, []byte(secret)) {
			c.t.Error("a secret is in Terraform's state")
		}
	}
}

// checkWorkload runs a job that logs in to Consul with what it is: its service
// is registered, and its task has the role of the gateways and no other.
func (c *cluster) checkWorkload(consul, nomad, token string) {
	c.t.Helper()
	status, answer := api(c.t, http.MethodPut, nomad+"/v1/jobs", "", object{"Job": object{
		"ID": "gateway", "Name": "gateway", "Type": "service", "Datacenters": []string{"dc1"},
		"TaskGroups": []object{{
			"Name": "g", "Count": 1,
			"Services": []object{{"Name": "gateway", "Provider": "consul"}},
			"Tasks": []object{{
				"Name": "t", "Driver": "raw_exec", "Config": object{"command": "sleep", "args": []string{"1000"}},
				"Consul": object{}, "Resources": object{"CPU": 50, "MemoryMB": 32},
			}},
		}},
	}})
	if status != http.StatusOK {
		c.t.Fatalf("Nomad refuses the job: %d %s", status, answer)
	}
	within(c.t, 20*time.Second, "the registration of the service gateway", func() error {
		if found := get[[]object](c.t, consul+"/v1/catalog/service/gateway", token); len(found) != 1 {
			return fmt.Errorf("%d instances are in Consul", len(found))
		}
		return nil
	})
	type consulToken struct {
		AuthMethod string
		Roles      []struct{ Name string }
	}
	within(c.t, 20*time.Second, "a task's token with the role lightcone-gateway", func() error {
		tokens := get[[]consulToken](c.t, consul+"/v1/acl/tokens?authmethod=nomad-workloads", token)
		if !slices.ContainsFunc(tokens, func(t consulToken) bool { return len(t.Roles) == 1 && t.Roles[0].Name == "lightcone-gateway" }) {
			return fmt.Errorf("Consul has %v", tokens)
		}
		return nil
	})
}

// checkRackChange moves the worker to another rack: Nomad's client there, and
// nothing else, is applied again, and its tasks run on.
func (c *cluster) checkRackChange(nomad string) {
	c.t.Helper()
	before := []map[string]int{c.server.agents(c.t), c.edge.agents(c.t), c.worker.agents(c.t)}
	c.variables["hosts"].(object)["w1"] = c.host(&c.worker, "worker", "rack-9")
	if touched, want := c.apply(), []string{`module.nomad_client["w1"].terraform_data.agent`}; !slices.Equal(touched, want) {
		c.t.Errorf("a changed rack touches %q, want %q", touched, want)
	}
	after := []map[string]int{c.server.agents(c.t), c.edge.agents(c.t), c.worker.agents(c.t)}
	for i, want := range before {
		for agent, pid := range want {
			restarted := after[i][agent] != pid
			if restarted != (i == 2 && agent == "nomad") {
				c.t.Errorf("agents before %v and after %v the worker's change of rack: only its Nomad starts anew", before, after)
			}
		}
	}
	within(c.t, 20*time.Second, "the new rack in Nomad", func() error {
		if got := fmt.Sprint(c.racks(nomad)); got != "map[e1 edge:rack-3 w1 worker:rack-9]" {
			return fmt.Errorf("its clients are %s", got)
		}
		return nil
	})
	if found, said := c.changes(); found {
		c.t.Errorf("a plan after the change is not empty: %s", said)
	}
}

// TestFormat holds the module to Terraform's own format and checks.
func TestFormat(t *testing.T) {
	m := newModule(t)
	for _, args := range [][]string{{"fmt", "-check", "-diff", "-recursive"}, {"validate"}} {
		if said, err := m.terraform(args...); err != nil {
			t.Errorf("terraform %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	for _, script := range []string{"scripts/*.sh", "testdata/*.sh"} {
		files, err := filepath.Glob(script)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v %v", script, files, err)
		}
		for _, file := range files {
			if said, err := exec.CommandContext(t.Context(), "bash", "-n", file).CombinedOutput(); err != nil {
				t.Errorf("bash -n %s: %v\n%s", file, err, said)
			}
		}
	}
}
