package jobs

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// Progress is how far a version of a job has come.
type Progress struct {
	Job          string
	Version      uint64
	DeploymentID string          // empty while there is none, and for jobs without
	Status       string          // the deployment's, or "scheduling", or "starting" without a deployment
	Description  string          // Nomad's sentence about the deployment
	Groups       []GroupProgress // sorted by name
	Unplaced     []string        // which groups found too little room so far, and why
}

// GroupProgress counts one group's allocations of the version that is followed.
type GroupProgress struct {
	Name      string
	Desired   int // 0 for a system job: as many as there are nodes for it
	Placed    int
	Healthy   int // without a deployment: those that run, or have run to their end
	Unhealthy int
	Canaries  int // how many are tried before the rest; 0 = none
	Promoted  bool
}

// String is one line for people.
func (p Progress) String() string {
	parts := []string{fmt.Sprintf("job %s version %d: %s", p.Job, p.Version, cmp.Or(p.Description, p.Status))}
	for _, group := range p.Groups {
		part := fmt.Sprintf("%s %d/%d healthy", group.Name, group.Healthy, group.Desired)
		if group.Unhealthy > 0 {
			part += fmt.Sprintf(", %d unhealthy", group.Unhealthy)
		}
		parts = append(parts, part)
	}
	return strings.Join(append(parts, p.Unplaced...), "; ")
}

// Result is how the rollout of a version ended.
type Result string

// The results. Registered is the end for a job that runs only when dispatched or
// when its time has come: there is nothing to wait for.
const (
	Successful Result = "successful" // healthy, or without a deployment: running or run to the end
	Failed     Result = "failed"
	Cancelled  Result = "cancelled" // stopped, or superseded by a newer version
	Registered Result = "registered"
)

// Outcome is how the rollout of a version ended, and why.
type Outcome struct {
	Job          string
	Version      uint64
	DeploymentID string // empty for jobs without
	Result       Result
	Description  string   // Nomad's sentence, or this package's where Nomad has none
	Reverted     bool     // Nomad has put an earlier version back by itself
	RevertedTo   uint64   // that version; Nomad counts it on as a new one
	Reasons      []string // of a failure: what the allocations said last, or why there were none
}

// Err is nil for a version that is in effect, and otherwise one sentence with all
// that the outcome knows.
func (o Outcome) Err() error {
	if o.Result == Successful || o.Result == Registered {
		return nil
	}
	sentence := fmt.Sprintf("job %s version %d: %s: %s", o.Job, o.Version, o.Result, o.Description)
	if len(o.Reasons) > 0 {
		sentence += " (" + strings.Join(o.Reasons, "; ") + ")"
	}
	return fmt.Errorf("%s", sentence)
}

// rollout is all that decides how far a version of a job has come. The
// evaluations were read before the deployments, those before the allocations:
// what a settled evaluation has caused is among them.
type rollout struct {
	version     *api.Job // the version that is followed
	newest      *api.Job // the job as it is now
	evaluations []*api.Evaluation
	deployments []*api.Deployment
	allocations []*api.AllocationListStub // of the version that is followed
}

// wait says what a watcher should wait for next.
type wait int

const (
	forEvaluations wait = iota
	forDeployments
	forAllocations
)

// verdict is what a rollout amounts to: over, if outcome is set.
type verdict struct {
	progress Progress
	outcome  *Outcome
	next     wait
	// suspect: a failure that Nomad may be about to repair. It counts when the
	// next look, taken at once, says the same.
	suspect bool
}

// judge decides whether the rollout is over.
func (r rollout) judge() verdict {
	version := r.version
	v := verdict{progress: Progress{Job: deref(version.ID), Version: deref(version.Version), Unplaced: r.unplaced()}}
	if version.ParameterizedJob != nil || version.Periodic != nil {
		return v.end(Registered, "it runs when dispatched or when its time has come")
	}
	if deployment := r.deployment(); deployment != nil {
		return r.judgeDeployment(v, deployment)
	}
	switch {
	case deref(r.newest.Stop):
		return v.end(Cancelled, "the job is stopped")
	case deref(r.newest.JobModifyIndex) > deref(version.JobModifyIndex):
		return v.end(Cancelled, fmt.Sprintf("version %d has taken its place", deref(r.newest.Version)))
	case r.scheduling():
		v.progress.Status, v.next = "scheduling", forEvaluations
		return v
	}
	return r.judgeAllocations(v)
}

// end makes the verdict final.
func (v verdict) end(result Result, description string) verdict {
	v.outcome = &Outcome{
		Job: v.progress.Job, Version: v.progress.Version, DeploymentID: v.progress.DeploymentID,
		Result: result, Description: description,
	}
	return v
}

// deployment is the one of the version that is followed: a deployment remembers
// the index at which its version was written. Nil when there is none.
func (r rollout) deployment() *api.Deployment {
	var found *api.Deployment
	for _, deployment := range r.deployments {
		ours := deployment.JobSpecModifyIndex == deref(r.version.JobModifyIndex) &&
			deployment.JobCreateIndex == deref(r.version.CreateIndex)
		if ours && (found == nil || deployment.CreateIndex > found.CreateIndex) {
			found = deployment
		}
	}
	return found
}

// scheduling says whether an evaluation is still to be worked on. One that waits
// for its time (a delayed reschedule) does not count: nothing happens before.
func (r rollout) scheduling() bool {
	return slices.ContainsFunc(r.evaluations, func(e *api.Evaluation) bool {
		return e.Status == api.EvalStatusPending && e.WaitUntil.IsZero()
	})
}

// unplaced is what the newest evaluation that has been worked on found no room for.
func (r rollout) unplaced() []string {
	var newest *api.Evaluation
	for _, e := range r.evaluations {
		if e.Status == api.EvalStatusComplete && (newest == nil || e.CreateIndex > newest.CreateIndex) {
			newest = e
		}
	}
	if newest == nil {
		return nil
	}
	return unplaced(newest.FailedTGAllocs)
}

var rollback = regexp.MustCompile(` - rolling back to job version (\d+)$`)

// rolledBackTo reads a failed deployment's description: the only place where Nomad
// says which version it has put back (DeploymentStatusDescriptionRollback).
func rolledBackTo(description string) (version uint64, rolledBack bool) {
	found := rollback.FindStringSubmatch(description)
	if found == nil {
		return 0, false
	}
	version, err := strconv.ParseUint(found[1], 10, 64)
	return version, err == nil
}

// judgeDeployment leaves the verdict to Nomad and looks for the reasons.
func (r rollout) judgeDeployment(v verdict, deployment *api.Deployment) verdict {
	v.next = forDeployments
	v.progress.DeploymentID = deployment.ID
	v.progress.Status, v.progress.Description = deployment.Status, deployment.StatusDescription
	for _, name := range slices.Sorted(maps.Keys(deployment.TaskGroups)) {
		state := deployment.TaskGroups[name]
		v.progress.Groups = append(v.progress.Groups, GroupProgress{
			Name: name, Desired: state.DesiredTotal, Placed: state.PlacedAllocs,
			Healthy: state.HealthyAllocs, Unhealthy: state.UnhealthyAllocs,
			Canaries: state.DesiredCanaries, Promoted: state.Promoted,
		})
	}
	if active(deployment.Status) {
		return v
	}
	v = v.end(Result(deployment.Status), deployment.StatusDescription)
	if v.outcome.Result == Failed {
		v.outcome.RevertedTo, v.outcome.Reverted = rolledBackTo(deployment.StatusDescription)
		v.outcome.Reasons = r.reasons()
	}
	return v
}

// reasons are the last words of the allocations that failed; failing those, of
// those that never became healthy, and why others found no place.
func (r rollout) reasons() []string {
	var failed, unproven []string
	for _, allocation := range r.allocations {
		health := allocation.DeploymentStatus
		switch {
		case allocation.ClientStatus == api.AllocClientStatusFailed,
			health != nil && health.Healthy != nil && !*health.Healthy:
			failed = append(failed, reasonOf(allocation))
		case health == nil || health.Healthy == nil:
			unproven = append(unproven, reasonOf(allocation))
		}
	}
	if len(failed) > 0 {
		return failed
	}
	return append(unproven, r.unplaced()...)
}

// judgeAllocations is for versions without a deployment: they are in effect when
// their allocations run.
func (r rollout) judgeAllocations(v verdict) verdict {
	v.progress.Status, v.next = "starting", forAllocations
	kind := kindOf(r.version)
	everyNode := kind == api.JobTypeSystem || kind == api.JobTypeSysbatch
	arrived := true
	for _, group := range r.version.TaskGroups {
		progress := r.groupProgress(kind, deref(group.Name))
		if everyNode {
			arrived = arrived && progress.Healthy == progress.Placed && progress.Placed > 0
		} else {
			progress.Desired = countOf(group)
			arrived = arrived && progress.Healthy >= progress.Desired
		}
		v.progress.Groups = append(v.progress.Groups, progress)
	}
	slices.SortFunc(v.progress.Groups, func(a, b GroupProgress) int { return cmp.Compare(a.Name, b.Name) })
	if arrived {
		return v.end(Successful, "its allocations run")
	}
	var reasons []string
	for _, allocation := range r.allocations {
		if givenUp(allocation) {
			reasons = append(reasons, reasonOf(allocation))
		}
	}
	if len(reasons) > 0 {
		v = v.end(Failed, "an allocation failed and is not tried again")
		v.outcome.Reasons, v.suspect = reasons, true
	}
	return v
}

// groupProgress counts a group's allocations that should run.
func (r rollout) groupProgress(kind, group string) GroupProgress {
	progress := GroupProgress{Name: group}
	finite := kind == api.JobTypeBatch || kind == api.JobTypeSysbatch
	for _, allocation := range r.allocations {
		if allocation.TaskGroup != group || allocation.DesiredStatus != api.AllocDesiredStatusRun || allocation.NextAllocation != "" {
			continue
		}
		progress.Placed++
		switch allocation.ClientStatus {
		case api.AllocClientStatusRunning:
			progress.Healthy++
		case api.AllocClientStatusComplete:
			if finite {
				progress.Healthy++
			}
		case api.AllocClientStatusFailed, api.AllocClientStatusLost:
			progress.Unhealthy++
		}
	}
	return progress
}

// givenUp says whether an allocation has failed and nothing is planned to replace it.
func givenUp(allocation *api.AllocationListStub) bool {
	return allocation.ClientStatus == api.AllocClientStatusFailed &&
		allocation.DesiredStatus == api.AllocDesiredStatusRun &&
		allocation.FollowupEvalID == "" && allocation.NextAllocation == ""
}
