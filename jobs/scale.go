package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/nomad/api"
)

// Count is how many allocations of a group there are and should be.
type Count struct {
	Count     int    // the group's count in the job's newest version
	Index     uint64 // the job's index, for Scale
	Version   uint64 // the job's newest version
	Running   int    // allocations that run, canaries not among them
	Healthy   int    // of those, which a deployment has found healthy; 0 in a job without update block
	Deploying bool   // a deployment is active: Scale would answer ErrDeploying
}

// Count reads a group's count. The index is read before anything else: a change
// after it makes Scale answer ErrConflict.
func (c *Client) Count(ctx context.Context, job, group string) (Count, error) {
	read, cancel := c.read(ctx)
	defer cancel()
	// Not from the scale status: what it calls JobModifyIndex is the job's
	// ModifyIndex, which also moves with the job's status.
	newest, _, err := c.nomad.Jobs().Info(job, read)
	if err != nil {
		return Count{}, c.failed(ctx, err, "read the count of job %s", job)
	}
	found := (&Job{spec: newest}).group(group)
	if found == nil {
		return Count{}, fmt.Errorf("job %s has no group %s: %w", job, group, ErrNotFound)
	}
	status, _, err := c.nomad.Jobs().ScaleStatus(job, read)
	if err != nil {
		return Count{}, c.failed(ctx, err, "read the count of job %s", job)
	}
	latest, _, err := c.nomad.Jobs().LatestDeployment(job, read)
	if err != nil {
		return Count{}, c.failed(ctx, err, "read the deployment of job %s", job)
	}
	return Count{
		Count:     countOf(found),
		Index:     deref(newest.JobModifyIndex),
		Version:   deref(newest.Version),
		Running:   status.TaskGroups[group].Running,
		Healthy:   status.TaskGroups[group].Healthy,
		Deploying: latest != nil && active(latest.Status) && latest.JobCreateIndex == deref(newest.CreateIndex),
	}, nil
}

// Scale sets a group's count if the job's index still is the one that Count read.
// message and meta are kept in the job's scaling events, where Nomad's UI shows
// them. The error is ErrConflict if the job has changed since, ErrDeploying while
// a deployment is active, and ErrNotFound without such a job.
//
// Nomad compares the index before it writes, not in the same step: of two calls
// with one index within the same millisecond, both may pass.
func (c *Client) Scale(ctx context.Context, job, group string, count int, index uint64, message string, meta map[string]any) error {
	if index == 0 {
		return errors.New("scale job " + job + ": the index is 0, which Nomad takes for any; give the one that Count read")
	}
	write, cancel := c.write(ctx)
	defer cancel()
	wanted := int64(count)
	_, _, err := c.nomad.Jobs().ScaleWithRequest(job, &api.ScalingRequest{
		Count:          &wanted,
		Target:         map[string]string{"Job": job, "Group": group},
		Message:        message,
		Meta:           meta,
		JobModifyIndex: index,
	}, write)
	if err != nil {
		return c.failed(ctx, err, "scale group %s of job %s to %d at index %d", group, job, count, index)
	}
	return nil
}

// active says whether a deployment with that status still works on the job
// (structs.Deployment.Active in Nomad).
func active(status string) bool {
	switch status {
	case api.DeploymentStatusRunning, api.DeploymentStatusPaused, api.DeploymentStatusBlocked,
		api.DeploymentStatusUnblocking, api.DeploymentStatusPending:
		return true
	default:
		return false
	}
}
