package terraform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lightcone/internal/testbed"
)

// nomad is an agent, server and client in one, on loopback ports of its own.
type nomad struct {
	executable string
	folder     string // for its data
	address    string // of its API
}

const agentConfiguration = `
bind_addr = "127.0.0.1"
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
data_dir = %q
log_level = "WARN"
disable_update_check = true
ports {
  http = %d
  rpc  = %d
  serf = %d
}
client {
  enabled       = true
  cgroup_parent = %q
  options { # AWS_CA_BUNDLE in the environment keeps the first from starting
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
plugin "raw_exec" {
  config { enabled = true }
}
consul { # there may be one on its usual port, and it is not ours
  address          = "127.0.0.1:1"
  auto_advertise   = false
  client_auto_join = false
  server_auto_join = false
}
`

// startNomad starts an agent that ends with the test, and waits until its node
// takes jobs.
func startNomad(t *testing.T) nomad {
	t.Helper()
	n := nomad{executable: testbed.Agent(t, "nomad"), folder: t.TempDir()}
	ports := testbed.Ports(t, 3)
	n.address = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	configuration := filepath.Join(n.folder, "agent.hcl")
	content := fmt.Sprintf(agentConfiguration, filepath.Join(n.folder, "data"), ports[0], ports[1], ports[2], fmt.Sprintf("/lightcone-terraform-%d", ports[0]))
	if err := os.WriteFile(configuration, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	agent := exec.Command(n.executable, "agent", "-dev", "-config", configuration) // -dev registers its node again after a second, not 15
	agent.Stdout, agent.Stderr = &log, &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	t.Cleanup(func() {
		n.clear(t)
		_ = agent.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = agent.Process.Kill()
			<-ended
		}
		unmountBelow(t, n.folder)
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Logf("Nomad said:\n%s", log.String())
		}
	})
	within(t, 30*time.Second, "Nomad's node is ready", func() bool {
		var nodes []struct{ Status string }
		return n.try(http.MethodGet, "/v1/nodes", nil, &nodes) == nil && len(nodes) == 1 && nodes[0].Status == "ready"
	})
	return n
}

// clear stops what a failed test left running, because tasks outlive the agent.
func (n nomad) clear(t *testing.T) {
	for _, job := range n.jobs(t) {
		if err := n.try(http.MethodDelete, "/v1/job/"+job+"?purge=true", nil, nil); err != nil {
			t.Error(err)
		}
	}
	within(t, 20*time.Second, "no task runs", func() bool { return n.tasks(t) == 0 })
}

// tasks is how many tasks the agent runs, seen from the machine: of a job that was
// purged Nomad forgets the allocations before they have ended.
func (n nomad) tasks(t *testing.T) (count int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		line, _ := os.ReadFile(process) // it may have ended since
		if bytes.Contains(line, []byte(n.folder+"/data/alloc/")) {
			count++
		}
	}
	return count
}

func (n nomad) jobs(t *testing.T) (ids []string) {
	t.Helper()
	var jobs []struct{ ID string }
	if err := n.try(http.MethodGet, "/v1/jobs", nil, &jobs); err != nil {
		t.Error(err)
	}
	for _, job := range jobs {
		ids = append(ids, job.ID)
	}
	return ids
}

// job is what tests look at.
type job struct {
	Version    int
	TaskGroups []struct {
		Count int
		Tasks []struct{ Env map[string]string }
	}
}

func (n nomad) job(t *testing.T, id string) (found job) {
	t.Helper()
	if err := n.try(http.MethodGet, "/v1/job/"+id, nil, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// scale does what the scheduler does.
func (n nomad) scale(t *testing.T, id, group string, count int) {
	t.Helper()
	body := map[string]any{"Count": count, "Target": map[string]string{"Group": group}, "Message": "as the scheduler does"}
	within(t, 20*time.Second, "the job is scaled", func() bool { // not while it is deployed
		return n.try(http.MethodPost, "/v1/job/"+id+"/scale", body, nil) == nil
	})
	within(t, 20*time.Second, "the scaled job is deployed", func() bool {
		var deployment struct{ Status string }
		return n.try(http.MethodGet, "/v1/job/"+id+"/deployment", nil, &deployment) == nil && deployment.Status == "successful"
	})
}

// try asks Nomad's API.
func (n nomad) try(method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, n.address+path, content)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s %v", method, path, response.Status, text, err)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// unmountBelow removes the mounts of allocations that the agent left behind.
func unmountBelow(t *testing.T, folder string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], folder+"/") {
			if err := syscall.Unmount(fields[1], 0); err != nil {
				t.Errorf("unmount %s: %v", fields[1], err)
			}
		}
	}
}

// within waits for a condition, with a bound.
func within(t *testing.T, bound time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", bound, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
