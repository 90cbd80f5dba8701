package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAVersionBecomesHealthy(t *testing.T) {
	t.Parallel()
	job := shared.spec(t, "service", map[string]string{"name": "healthy", "count": "2"})
	plan, err := shared.jobs.Plan(t.Context(), job)
	if err != nil || !plan.Changes || plan.Index != 0 || !strings.Contains(plan.Diff, `+ group "g"`) {
		t.Errorf("the plan of a new job: %+v, %v", plan, err)
	}
	submission, err := shared.jobs.Submit(t.Context(), job, SubmitOptions{EnforceIndex: true})
	if err != nil {
		t.Fatal(err)
	}
	if submission.EvalID == "" || submission.ModifyIndex == 0 || submission.DeploymentID == "" {
		t.Errorf("submitted: %+v", submission)
	}
	var seen []Progress
	outcome, err := shared.jobs.Follow(t.Context(), "healthy", func(p Progress) { seen = append(seen, p) })
	if err != nil || outcome.Err() != nil {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if outcome.Result != Successful || outcome.Version != 0 || outcome.DeploymentID != submission.DeploymentID {
		t.Errorf("outcome %+v", outcome)
	}
	last := seen[len(seen)-1]
	if len(last.Groups) != 1 || last.Groups[0].Healthy != 2 || last.Groups[0].Desired != 2 || last.Status != "successful" {
		t.Errorf("last progress %+v", last)
	}

	if plan, err = shared.jobs.Plan(t.Context(), job); err != nil || plan.Changes || plan.Diff != "" || plan.Index != submission.ModifyIndex {
		t.Errorf("the plan of a job as it is: %+v, %v", plan, err)
	}
	other := shared.spec(t, "service", map[string]string{"name": "healthy", "count": "2", "note": "new"})
	if plan, err = shared.jobs.Plan(t.Context(), other); err != nil || !strings.Contains(plan.Diff, `+ Env[NOTE]: "new"`) {
		t.Errorf("the plan of a change: %+v, %v", plan, err)
	}
	if _, err := shared.jobs.Submit(t.Context(), other, SubmitOptions{EnforceIndex: true, Index: 1}); !errors.Is(err, ErrConflict) {
		t.Errorf("submitted with a stale index: %v", err)
	}
	again, err := shared.jobs.Submit(t.Context(), job, SubmitOptions{EnforceIndex: true, Index: submission.ModifyIndex})
	if err != nil || again.ModifyIndex != submission.ModifyIndex {
		t.Errorf("submitted unchanged: %+v, %v", again, err)
	}
	allocations, err := shared.jobs.Allocations(t.Context(), "healthy")
	if err != nil || len(allocations) != 2 {
		t.Fatalf("allocations %+v, %v", allocations, err)
	}
	for _, a := range allocations {
		if !a.Healthy || a.Status != "running" || a.DesiredStatus != "run" || a.Rack != "r1" || a.Node == "" || a.Group != "g" ||
			!slices.ContainsFunc(a.Events, func(e Event) bool { return e.Task == "t" && e.Type == "Started" && !e.Time.IsZero() }) {
			t.Errorf("allocation %+v", a)
		}
	}
}

func TestABadCanaryIsTakenBack(t *testing.T) {
	t.Parallel()
	if outcome := shared.run(t, "service", map[string]string{"name": "canary"}); outcome.Err() != nil {
		t.Fatal(outcome.Err())
	}
	outcome := shared.run(t, "service", map[string]string{
		"name": "canary", "canaries": "1", "script": "echo no configuration >&2; exit 7",
	})
	if outcome.Result != Failed || !outcome.Reverted || outcome.RevertedTo != 0 || outcome.Version != 1 {
		t.Errorf("outcome %+v", outcome)
	}
	if len(outcome.Reasons) != 1 || !strings.Contains(outcome.Reasons[0], "Exit Code: 7") ||
		!strings.HasPrefix(outcome.Reasons[0], "allocation canary.g[0] (") {
		t.Errorf("reasons %q", outcome.Reasons)
	}
	if err := outcome.Err(); err == nil || !strings.Contains(err.Error(), "rolling back to job version 0") {
		t.Errorf("error %v", err)
	}
	now, err := shared.jobs.Follow(t.Context(), "canary", nil)
	if err != nil || now.Err() != nil || now.Version != 2 {
		t.Errorf("what was put back: %+v, %v", now, err)
	}
	allocations, err := shared.jobs.Allocations(t.Context(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	failed := slices.IndexFunc(allocations, func(a Allocation) bool { return a.Version == 1 })
	if failed < 0 || !allocations[failed].Canary || allocations[failed].Healthy {
		t.Fatalf("no failed canary in %+v", allocations)
	}
	logs, err := shared.jobs.Logs(t.Context(), allocations[failed].ID, "t")
	if err != nil || logs != "no configuration\n" {
		t.Errorf("logs %q, %v", logs, err)
	}
}

func TestAMissingArtifactIsTheReason(t *testing.T) {
	t.Parallel()
	outcome := shared.run(t, "service", map[string]string{"name": "artifact", "artifact": shared.address + "/nothing/here.tar.gz"})
	if outcome.Result != Failed || outcome.Reverted {
		t.Errorf("outcome %+v", outcome)
	}
	if len(outcome.Reasons) != 1 || !strings.Contains(outcome.Reasons[0], "Failed Artifact Download") ||
		!strings.Contains(outcome.Reasons[0], "/nothing/here.tar.gz") {
		t.Errorf("reasons %q", outcome.Reasons)
	}
}

func TestAJobThatFindsNoPlaceSaysWhy(t *testing.T) {
	t.Parallel()
	shared.submit(t, "service", map[string]string{"name": "nowhere", "racks": `["r7"]`})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var unplaced []string
	_, err := shared.jobs.Follow(ctx, "nowhere", func(p Progress) {
		if unplaced = p.Unplaced; unplaced != nil {
			cancel()
		}
	})
	if len(unplaced) != 1 || !strings.Contains(unplaced[0], "group g: 1 cannot be placed: ") || !strings.Contains(unplaced[0], "rack") {
		t.Errorf("unplaced %q", unplaced)
	}
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "cannot be placed") {
		t.Errorf("the interrupted Follow: %v", err)
	}
}

func TestJobsWithoutDeployments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, kind, script string
		want               Result
		reason             string
	}{
		{"everywhere", "system", "exec sleep 1000", Successful, ""},
		{"everywhere-broken", "system", "exit 3", Failed, "Exit Code: 3"},
		{"once", "batch", "exec sleep 1000", Successful, ""},
		{"once-done", "batch", "exit 0", Successful, ""},
		{"once-broken", "batch", "exit 4", Failed, "Exit Code: 4"},
		{"once-everywhere", "sysbatch", "exit 0", Successful, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// A task that runs for a moment before it fails has run: here it fails at once,
			// and Nomad may report both states or only the last.
			outcome := shared.run(t, "run", map[string]string{"name": test.name, "type": test.kind, "script": test.script})
			if test.want == Failed && outcome.Result == Successful {
				err := within(agentBound, "the failure to show", func() (err error) {
					if outcome, err = shared.jobs.Follow(t.Context(), test.name, nil); err == nil && outcome.Result == Successful {
						err = errors.New("still running")
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if outcome.Result != test.want || !strings.Contains(strings.Join(outcome.Reasons, ""), test.reason) {
				t.Errorf("outcome %+v", outcome)
			}
		})
	}
}

func TestAStoppedJobEndsItsFollowers(t *testing.T) {
	t.Parallel()
	shared.submit(t, "service", map[string]string{"name": "stopped", "settle": "20s"})
	outcome, err := shared.jobs.Follow(t.Context(), "stopped", func(p Progress) {
		if p.Status == "running" {
			if err := shared.jobs.Stop(t.Context(), "stopped", false); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || outcome.Result != Cancelled || !strings.Contains(outcome.Description, "stopped") {
		t.Errorf("%+v, %v", outcome, err)
	}
	if err := shared.jobs.Stop(t.Context(), "stopped", true); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.jobs.Follow(t.Context(), "stopped", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("after a purge: %v", err)
	}
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	shared.submit(t, "dispatch", nil)
	if outcome, err := shared.jobs.Follow(t.Context(), "dispatch", nil); err != nil || outcome.Result != Registered || outcome.Err() != nil {
		t.Errorf("the parameterized job itself: %+v, %v", outcome, err)
	}
	if _, err := shared.jobs.Dispatch(t.Context(), "dispatch", nil); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("without its folder: %v", err)
	}
	id, err := shared.jobs.Dispatch(t.Context(), "dispatch", map[string]string{"folder": "photos"})
	if err != nil || !strings.HasPrefix(id, "dispatch/dispatch-") {
		t.Fatalf("id %q, %v", id, err)
	}
	outcome, err := shared.jobs.Follow(t.Context(), id, nil)
	if err != nil || outcome.Err() != nil {
		t.Fatalf("%+v, %v", outcome, err)
	}
	var done Allocation
	err = within(agentBound, "the run to be complete", func() error {
		allocations, err := shared.jobs.Allocations(t.Context(), id)
		if err == nil && (len(allocations) != 1 || allocations[0].Status != "complete") {
			err = errors.New("not yet")
		}
		if err == nil {
			done = allocations[0]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if logs, err := shared.jobs.Logs(t.Context(), done.ID, "t"); err != nil || logs != "resizing photos\na warning\n" {
		t.Errorf("logs %q, %v", logs, err)
	}
}

// TestNomadStopsUnderAFollower stops the server while a version is followed, for
// longer than the follower's patience, and then for less.
func TestNomadStopsUnderAFollower(t *testing.T) {
	t.Parallel()
	n, err := startNomad(t.TempDir(), "lightcone-jobs-restart")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.shutDown(); err != nil {
			t.Error(err)
		}
	}()
	impatient, err := Connect(Config{Address: n.address, Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer impatient.Close()
	submission := n.submit(t, "service", map[string]string{"name": "outage", "settle": "4s"})
	stop := func(p Progress) {
		if p.Status != "running" || n.server.ProcessState != nil {
			return
		}
		started := within(agentBound, "the task to run", func() error { // to start it, Nomad must be there
			allocations, err := n.jobs.Allocations(t.Context(), "outage")
			if err == nil && (len(allocations) != 1 || allocations[0].Status != "running") {
				err = fmt.Errorf("allocations %+v", allocations)
			}
			return err
		})
		if err := errors.Join(started, interrupt(n.server)); err != nil {
			t.Error(err)
		}
	}
	_, err = impatient.FollowSubmission(t.Context(), submission, stop)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), n.address) || !strings.Contains(err.Error(), "follow job outage") ||
		!strings.Contains(err.Error(), "at last: job outage version 0") {
		t.Errorf("without Nomad: %v", err)
	}

	type result struct {
		outcome Outcome
		err     error
	}
	patient := make(chan result, 1)
	go func() { // begins while Nomad is away
		outcome, err := n.jobs.FollowSubmission(t.Context(), submission, nil)
		patient <- result{outcome, err}
	}()
	if err := n.startServer(); err != nil {
		t.Fatal(err)
	}
	if got := <-patient; got.err != nil || got.outcome.Err() != nil {
		t.Errorf("after the restart: %+v, %v", got.outcome, got.err)
	}
}
