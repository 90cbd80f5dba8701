package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"lightcone/internal/testbed"
	"lightcone/jobs"
	"lightcone/scheduler"
)

const nomadConfig = `
data_dir             = "%[1]s/data"
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

// startNomad starts a real Nomad server, without a client: it reads and keeps jobs,
// and runs none.
func startNomad(t *testing.T) *jobs.Client {
	t.Helper()
	folder := t.TempDir()
	ports := testbed.Ports(t, 3)
	write(t, filepath.Join(folder, "agent.hcl"), fmt.Sprintf(nomadConfig, folder, ports[0], ports[1], ports[2]))
	said := &testbed.Log{}
	command := exec.Command(testbed.Agent(t, "nomad"), "agent", "-config", filepath.Join(folder, "agent.hcl"))
	command.Stdout, command.Stderr = said, said
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // its data goes with it
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Nomad said %s", said)
		}
	})
	nomad, err := jobs.Connect(jobs.Config{Address: fmt.Sprintf("http://127.0.0.1:%d", ports[0])})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nomad.Close)
	within(t, "Nomad has a leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := nomad.Nodes(ctx)
		return err == nil
	})
	return nomad
}

func TestNomadsSideOfTheServices(t *testing.T) {
	nomad := startNomad(t)
	t.Run("every specification fits its command", func(t *testing.T) { specificationsFit(t, nomad) })
	t.Run("what Terraform makes of its variables fits", func(t *testing.T) { terraformFits(t, nomad) })
	t.Run("names", func(t *testing.T) { namesFit(t, nomad) })
	t.Run("counts", func(t *testing.T) { countsWithoutAJob(t, nomad) })
}

// countsWithoutAJob: a fleet whose job is missing must not stop the others.
func countsWithoutAJob(t *testing.T, nomad *jobs.Client) {
	job, err := nomad.Parse(t.Context(), `
job "worker-echo" {
  group "worker" {
    count = 3
    task "worker" {
      driver = "exec"
      config { command = "/bin/true" }
    }
  }
}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	submission, err := nomad.Submit(t.Context(), job, jobs.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &scaler{nomad: nomad}
	counts, err := s.Counts(t.Context(), []string{"worker-missing", "worker-echo"})
	if err != nil {
		t.Fatal(err)
	}
	got, known := counts["worker-echo"]
	if len(counts) != 1 || !known || !got.Known || got.Count != 3 || got.Index == 0 {
		t.Errorf("counts %+v after %+v", counts, submission)
	}
	// A count that has changed since is a conflict, and no failure.
	stale := scheduler.Action{Job: "worker-echo", Group: workerGroup, From: 3, To: 4, Index: got.Index - 1}
	if err := s.Scale(t.Context(), stale, 1); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("with an old index: %v", err)
	}
	if err := s.Scale(t.Context(), scheduler.Action{Job: "worker-missing", Group: workerGroup, To: 4, Index: 1}, 1); err == nil || errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("a job that is missing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if counts, err := s.Counts(ctx, []string{"worker-echo"}); err == nil {
		t.Errorf("Nomad could not be asked, and the counts are %v", counts)
	}
}
