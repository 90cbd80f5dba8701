package jobs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// only waits for a job to have exactly one allocation with the wanted status that
// is not the one with the given id.
func only(t *testing.T, job, status, not string) Allocation {
	t.Helper()
	var found Allocation
	err := within(agentBound, "an allocation of "+job+" to be "+status, func() error {
		allocations, err := shared.jobs.Allocations(t.Context(), job)
		if err != nil {
			return err
		}
		for _, a := range allocations {
			if a.Status == status && a.ID != not {
				found = a
				return nil
			}
		}
		return fmt.Errorf("allocations %+v", allocations)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSignalAndStopAnAllocation(t *testing.T) {
	t.Parallel()
	// More than Logs reads, and a last word for a signal.
	script := `trap 'echo hung up' HUP; i=0; while [ $i -lt 1000 ]; do echo line $i of a long story; i=$((i+1)); done; echo ready; while :; do sleep 0.1; done`
	if outcome := shared.run(t, "service", map[string]string{"name": "signalled", "script": script}); outcome.Err() != nil {
		t.Fatal(outcome.Err())
	}
	running := only(t, "signalled", "running", "")
	ends := func(with string) error {
		return within(agentBound, "the log to end with "+with, func() error {
			logs, err := shared.jobs.Logs(t.Context(), running.ID, "t")
			if err == nil && (!strings.HasSuffix(logs, with) || len(logs) != logTail) {
				err = fmt.Errorf("%d bytes of log: …%q", len(logs), logs[max(0, len(logs)-50):])
			}
			return err
		})
	}
	if err := ends("ready\n"); err != nil {
		t.Fatal(err)
	}
	if err := shared.jobs.Signal(t.Context(), running.ID, "t", "SIGHUP"); err != nil {
		t.Fatal(err)
	}
	if err := ends("hung up\n"); err != nil {
		t.Fatal(err)
	}
	if err := shared.jobs.StopAllocation(t.Context(), running.ID); err != nil {
		t.Fatal(err)
	}
	if next := only(t, "signalled", "running", running.ID); next.Name != running.Name {
		t.Errorf("%s took the place of %s", next.Name, running.Name)
	}
	if _, err := shared.jobs.Logs(t.Context(), "00000000-0000-0000-0000-000000000000", "t"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the log of nothing: %v", err)
	}
}

// TestDrain is not parallel: there is one node.
func TestDrain(t *testing.T) {
	if outcome := shared.run(t, "service", map[string]string{"name": "drained"}); outcome.Err() != nil {
		t.Fatal(outcome.Err())
	}
	before := only(t, "drained", "running", "")
	nodes, err := shared.jobs.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Rack != "r1" || !nodes[0].Eligible || nodes[0].Draining || nodes[0].Name != before.Node {
		t.Fatalf("nodes %+v, %v", nodes, err)
	}
	if err := shared.jobs.DrainNode(t.Context(), nodes[0].ID, true, -1); err != nil {
		t.Fatal(err)
	}
	only(t, "drained", "complete", "")
	if now, err := shared.jobs.Nodes(t.Context()); err != nil || now[0].Eligible {
		t.Errorf("while it drains: %+v, %v", now, err)
	}
	if err := shared.jobs.DrainNode(t.Context(), nodes[0].ID, false, 0); err != nil {
		t.Fatal(err)
	}
	only(t, "drained", "running", before.ID)
	if now, err := shared.jobs.Nodes(t.Context()); err != nil || !now[0].Eligible || now[0].Draining {
		t.Errorf("after the drain: %+v, %v", now, err)
	}
	const nobody = "00000000-0000-0000-0000-000000000000"
	if err := shared.jobs.DrainNode(t.Context(), nobody, true, time.Second); err == nil {
		t.Error("a node that is not there was drained")
	}
	if rack, err := shared.jobs.rackOf(t.Context(), nobody); rack != "" || err != nil {
		t.Errorf("the rack of a node that is not there: %q, %v", rack, err)
	}
}

// TestTaskAPI talks to Nomad as a task does: through the socket in its secrets,
// with the token of its own identity.
func TestTaskAPI(t *testing.T) {
	t.Parallel()
	script := `printf '%s %s' "$NOMAD_UNIX_ADDR" "$NOMAD_TOKEN" > "$NOMAD_TASK_DIR/new"; mv "$NOMAD_TASK_DIR/new" "$NOMAD_TASK_DIR/access"; exec sleep 1000`
	if outcome := shared.run(t, "service", map[string]string{"name": "inside", "script": script}); outcome.Err() != nil {
		t.Fatal(outcome.Err())
	}
	running := only(t, "inside", "running", "")
	var access []byte
	err := within(agentBound, "the task to say how it reaches Nomad", func() (err error) {
		access, err = os.ReadFile(filepath.Join(shared.dir, "client/alloc", running.ID, "t/local/access"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	address, token, _ := strings.Cut(string(access), " ")
	inside, err := Connect(Config{Address: address, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if found, err := inside.Count(t.Context(), "inside", "g"); err != nil || found.Count != 1 {
		t.Errorf("count %+v, %v through %s", found, err, address)
	}
	stranger, err := Connect(Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Count(t.Context(), "inside", "g"); !errors.Is(err, ErrForbidden) {
		t.Errorf("without a token: %v", err)
	}
}
