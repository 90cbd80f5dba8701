package terraform_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What needs a Nomad: they share one.
func TestWithNomad(t *testing.T) {
	n := startNomad(t)
	t.Run("the module plans the real jobs", func(t *testing.T) { plansTheRealJobs(t, n) })
	t.Run("the life of a region", func(t *testing.T) { livesThrough(t, n) })
}

// A region is applied, scaled by the scheduler, changed, broken, and destroyed.
func livesThrough(t *testing.T, n nomad) {
	tf := newTerraform(t, "testdata/small", "-var=nomad_address="+n.address)
	tf.must(t, "validate")
	tf.must(t, "apply", "-auto-approve")
	all := []string{"bulk", "gateway", "worker-one", "worker-two"}
	if diff := cmp.Diff(all, n.jobs(t)); diff != "" {
		t.Fatal(diff)
	}
	if changes := tf.planned(t); len(changes) > 0 {
		t.Fatalf("the plan after an apply has %v", changes)
	}
	if env := n.job(t, "worker-one").TaskGroups[0].Tasks[0].Env; env["GREETING"] != "hello" || env["RACKS"] != "a b" {
		t.Errorf("the variables became %v", env)
	}

	n.scale(t, "worker-one", "worker", 3)
	if changes := tf.planned(t); len(changes) > 0 {
		t.Fatalf("the plan after the scheduler scaled has %v", changes)
	}

	// One variable: the two jobs that have it, and the count stays the scheduler's.
	greeting := `-var=greeting=it is ${cold} "outside"`
	want := map[string]string{`nomad_job.worker["one"]`: "update", `nomad_job.worker["two"]`: "update"}
	if diff := cmp.Diff(want, tf.planned(t, greeting)); diff != "" {
		t.Fatal(diff)
	}
	gateway := n.job(t, "gateway").Version
	tf.must(t, "apply", "-auto-approve", greeting)
	changed := n.job(t, "worker-one").TaskGroups[0]
	if changed.Count != 3 || changed.Tasks[0].Env["GREETING"] != `it is ${cold} "outside"` || n.job(t, "gateway").Version != gateway {
		t.Errorf("after the change: %+v, and a gateway of version %d, was %d", changed, n.job(t, "gateway").Version, gateway)
	}
	if changes := tf.planned(t, greeting); len(changes) > 0 {
		t.Fatalf("the plan after the change has %v", changes)
	}

	// A function less: its job goes.
	without := []string{greeting, `-var=functions={one=1}`}
	tf.must(t, "apply", append([]string{"-auto-approve"}, without...)...)
	if diff := cmp.Diff([]string{"bulk", "gateway", "worker-one"}, n.jobs(t)); diff != "" {
		t.Fatal(diff)
	}

	t.Run("a deployment that fails", func(t *testing.T) { failedDeployment(t, n, tf, without) })
	t.Run("changes behind Terraform's back", func(t *testing.T) { changedOutside(t, n, tf, without) })

	if n.tasks(t) == 0 {
		t.Error("no task runs before destroy")
	}
	tf.must(t, "apply", append([]string{"-destroy", "-auto-approve"}, without...)...)
	if left := n.jobs(t); len(left) > 0 {
		t.Errorf("destroy left %v", left)
	}
	within(t, 20*time.Second, "nothing runs after destroy", func() bool { return n.tasks(t) == 0 })
}

// A gateway that ends at once never becomes healthy: the apply fails and says so,
// Nomad goes back to what worked, and the next plan still wants the change.
func failedDeployment(t *testing.T, n nomad, tf terraform, rest []string) {
	said, code := tf.run(t, "apply", append([]string{"-auto-approve", "-var=patience=0"}, rest...)...)
	if code == 0 || !strings.Contains(said, "ended as failed") || !strings.Contains(said, "job gateway") {
		t.Fatalf("exit code %d:\n%s", code, said)
	}
	within(t, 20*time.Second, "the rollback is deployed", func() bool {
		var deployment struct{ Status string }
		return n.try(http.MethodGet, "/v1/job/gateway/deployment", nil, &deployment) == nil && deployment.Status == "successful"
	})
	if changes := tf.planned(t, append(rest, "-var=patience=0")...); changes["nomad_job.gateway"] != "update" {
		t.Errorf("after the rollback, a plan of the same change has %v", changes)
	}
	if changes := tf.planned(t, rest...); len(changes) > 0 {
		t.Errorf("after the rollback, a plan of what is running has %v", changes)
	}
}

// Somebody submits another specification, stops a job, and purges one: the next
// apply brings back what Terraform says.
func changedOutside(t *testing.T, n nomad, tf terraform, rest []string) {
	output(t, "testdata/small", n.executable, "job", "run", "-detach", "-address="+n.address, "-var=patience=500", "gateway.nomad.hcl")
	output(t, ".", n.executable, "job", "stop", "-purge", "-detach", "-address="+n.address, "bulk")
	output(t, ".", n.executable, "job", "stop", "-detach", "-address="+n.address, "worker-one")
	within(t, 20*time.Second, "the stopped job is dead", func() bool {
		var found struct{ Status string }
		return n.try(http.MethodGet, "/v1/job/worker-one", nil, &found) == nil && found.Status == "dead"
	})
	want := map[string]string{"nomad_job.bulk": "create", "nomad_job.gateway": "update", `nomad_job.worker["one"]`: "update"}
	if diff := cmp.Diff(want, tf.planned(t, rest...)); diff != "" {
		t.Error(diff)
	}
	tf.must(t, "apply", append([]string{"-auto-approve"}, rest...)...)
	if changes := tf.planned(t, rest...); len(changes) > 0 {
		t.Errorf("the plan after that has %v", slices.Sorted(maps.Keys(changes)))
	}
}
