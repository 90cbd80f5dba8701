package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/internal/testbed"
)

const agentBound = time.Minute // for anything that a Nomad on this machine is waited for

// shared is the Nomad that most tests use, each with jobs of its own names.
var shared *nomad

func TestMain(m *testing.M) { goleak.VerifyTestMain(withNomad{m}) }

// withNomad runs the tests between the start and the stop of the shared Nomad.
type withNomad struct{ tests *testing.M }

func (w withNomad) Run() int {
	dir, err := os.MkdirTemp("", "lc-jobs-")
	if err == nil {
		shared, err = startNomad(dir, "lightcone-jobs-test")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no Nomad to test with:", err)
		return 1
	}
	code := w.tests.Run()
	if err := errors.Join(shared.shutDown(), os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, "the end of the shared Nomad:", err)
		return 1
	}
	return code
}

// nomad is a server and a client, each a process: the server can be stopped while
// the tasks run on.
type nomad struct {
	program, dir, cgroup string
	address              string
	server, client       *exec.Cmd
	jobs                 *Client
}

const serverConfig = `
data_dir             = "%[1]s/server"
bind_addr            = "127.0.0.1"
disable_update_check = true
log_level            = "WARN"
ports {
  http = %[2]d
  rpc  = %[3]d
  serf = %[4]d
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
server {
  enabled          = true
  bootstrap_expect = 1
}
consul {
  client_auto_join = false
  server_auto_join = false
  auto_advertise   = false
}
`

const clientConfig = `
data_dir             = "%[1]s/client"
bind_addr            = "127.0.0.1"
disable_update_check = true
log_level            = "WARN"
ports {
  http = %[2]d
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
client {
  enabled       = true
  servers       = ["127.0.0.1:%[3]d"]
  cgroup_parent = "%[4]s"
  # Two cores shared with other tests count for as many as any test asks for.
  cpu_total_compute = 4000
  memory_total_mb   = 4000
  meta {
    rack = "r1"
  }
  options {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
    "driver.allowlist"     = "raw_exec"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
consul {
  client_auto_join = false
  server_auto_join = false
  auto_advertise   = false
}
`

func startNomad(dir, cgroup string) (*nomad, error) {
	find := exec.Command("../internal/tools/agent", "nomad")
	find.Stderr = os.Stderr
	program, err := find.Output()
	if err != nil {
		return nil, fmt.Errorf("find or build Nomad: %w", err)
	}
	ports, err := testbed.FreePorts(4)
	if err != nil {
		return nil, err
	}
	n := &nomad{
		program: strings.TrimSpace(string(program)), dir: dir, cgroup: cgroup,
		address: fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "server.hcl"), fmt.Appendf(nil, serverConfig, dir, ports[0], ports[1], ports[2]), 0o600),
		os.WriteFile(filepath.Join(dir, "client.hcl"), fmt.Appendf(nil, clientConfig, dir, ports[3], ports[1], cgroup), 0o600),
	)
	if err != nil {
		return nil, err
	}
	if n.jobs, err = Connect(Config{Address: n.address}); err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		words, _ := exec.Command("tail", "-n", "5", filepath.Join(dir, "server.log"), filepath.Join(dir, "client.log")).Output()
		return nil, errors.Join(err, fmt.Errorf("the agents' last words: %s", words), interrupt(n.client), interrupt(n.server))
	}
	return n, nil
}

// start starts the server, then the client: a client that finds the server
// without its keyring tries again only 15 seconds later.
func (n *nomad) start() (err error) {
	if err = n.startServer(); err != nil {
		return err
	}
	if n.client, err = n.agent("client"); err != nil {
		return err
	}
	return within(agentBound, "the node to be ready", func() error {
		nodes, err := n.jobs.Nodes(context.Background())
		if err == nil && (len(nodes) != 1 || nodes[0].Status != "ready") {
			err = fmt.Errorf("nodes %+v", nodes)
		}
		return err
	})
}

func (n *nomad) startServer() (err error) {
	if n.server, err = n.agent("server"); err != nil {
		return err
	}
	return within(agentBound, "the server to have its keyring", func() error {
		keys, _, err := n.jobs.nomad.Keyring().List(nil)
		if err == nil && len(keys) == 0 {
			err = errors.New("no keys yet")
		}
		return err
	})
}

// agent starts one process, whose words go to a file beside its data.
func (n *nomad) agent(role string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(n.dir, role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(n.program, "agent", "-config", filepath.Join(n.dir, role+".hcl"))
	command.Stdout, command.Stderr = log, log
	return command, command.Start()
}

// interrupt ends an agent's process; its tasks run on.
func interrupt(agent *exec.Cmd) error {
	if agent == nil || agent.Process == nil {
		return nil
	}
	if err := agent.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	giveUp := time.AfterFunc(agentBound, func() { _ = agent.Process.Kill() })
	defer giveUp.Stop()
	var exit *exec.ExitError
	if err := agent.Wait(); err != nil && !errors.As(err, &exit) { // an interrupted agent exits with 1
		return err
	}
	return nil
}

// shutDown stops all jobs, waits until the client has unmounted and removed what
// they had, and ends both processes.
func (n *nomad) shutDown() error {
	defer n.jobs.Close()
	ctx, cancel := context.WithTimeout(context.Background(), agentBound)
	defer cancel()
	var errs []error
	listed, _, err := n.jobs.nomad.Jobs().List(nil)
	errs = append(errs, err)
	for _, job := range listed {
		errs = append(errs, n.jobs.Stop(ctx, job.ID, true))
	}
	errs = append(errs, within(agentBound, "the client to remove its allocations", func() error {
		if err := n.jobs.nomad.System().GarbageCollect(); err != nil {
			return err
		}
		left, _ := filepath.Glob(filepath.Join(n.dir, "client/alloc/*-*"))
		if len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	}))
	errs = append(errs, interrupt(n.client), interrupt(n.server))
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.cgroup)
	for _, cgroup := range cgroups {
		inner, _ := filepath.Glob(filepath.Join(cgroup, "*", "cgroup.procs"))
		for _, procs := range inner {
			_ = os.Remove(filepath.Dir(procs)) // what is still in use stays, and does no harm
		}
		_ = os.Remove(cgroup)
	}
	return errors.Join(errs...)
}

// within asks until the condition holds, for at most the bound.
func within(bound time.Duration, what string, condition func() error) error {
	deadline := time.Now().Add(bound)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s: %w", bound, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// spec parses a specification of testdata on the given Nomad.
func (n *nomad) spec(t testing.TB, file string, variables map[string]string) *Job {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file+specSuffix))
	if err != nil {
		t.Fatal(err)
	}
	job, err := n.jobs.Parse(t.Context(), string(text), variables)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// submit submits a specification of testdata.
func (n *nomad) submit(t testing.TB, file string, variables map[string]string) Submission {
	t.Helper()
	submission, err := n.jobs.Submit(t.Context(), n.spec(t, file, variables), SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return submission
}

// run submits a specification and follows it to its end.
func (n *nomad) run(t testing.TB, file string, variables map[string]string) Outcome {
	t.Helper()
	submission := n.submit(t, file, variables)
	ctx, cancel := context.WithTimeout(t.Context(), agentBound)
	defer cancel()
	outcome, err := n.jobs.FollowSubmission(ctx, submission, func(p Progress) { t.Log(p) })
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}
