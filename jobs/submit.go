package jobs

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// SubmitOptions say on which terms a job is submitted.
type SubmitOptions struct {
	// EnforceIndex submits only if the job's index still is Index; with Index 0,
	// only if there is no such job. Otherwise the error is ErrConflict.
	EnforceIndex bool
	Index        uint64
	// PreserveCounts keeps the counts that the groups have now, as a scheduler
	// left them, instead of the specification's.
	PreserveCounts bool
}

// Submission is what Nomad made of a submitted job.
type Submission struct {
	JobID       string
	EvalID      string // empty for a parameterized or periodic job
	ModifyIndex uint64 // the job's index: what Scale and SubmitOptions.Index compare
	// DeploymentID is empty if this submission started none (nothing to roll out,
	// or a job without deployments), or if Nomad had not scheduled it within the
	// client's timeout.
	DeploymentID string
}

// Submit registers the job: a new one, a new version, or, if nothing differs, the
// one there is. It returns when Nomad has scheduled it, which says nothing about
// its health: that is Follow's.
func (c *Client) Submit(ctx context.Context, job *Job, options SubmitOptions) (Submission, error) {
	write, cancel := c.write(ctx)
	defer cancel()
	answer, _, err := c.nomad.Jobs().RegisterOpts(job.spec, &api.RegisterOptions{
		EnforceIndex:   options.EnforceIndex,
		ModifyIndex:    options.Index,
		PreserveCounts: options.PreserveCounts,
		Submission:     &api.JobSubmission{Source: job.source, Format: "hcl2", Variables: job.variables},
	}, write)
	if err != nil {
		return Submission{}, c.failed(ctx, err, "submit job %s", job.ID())
	}
	return Submission{
		JobID:        job.ID(),
		EvalID:       answer.EvalID,
		ModifyIndex:  answer.JobModifyIndex,
		DeploymentID: c.deploymentOf(ctx, answer.EvalID),
	}, nil
}

// deploymentOf waits until an evaluation is over and says which deployment it
// belongs to. The job is submitted by then: a failure here is an empty answer.
func (c *Client) deploymentOf(ctx context.Context, evaluation string) string {
	if evaluation == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for index := uint64(0); ; {
		options := (&api.QueryOptions{WaitIndex: index, WaitTime: c.timeout}).WithContext(ctx)
		found, meta, err := c.nomad.Evaluations().Info(evaluation, options)
		if err != nil {
			return ""
		}
		if found.Status != api.EvalStatusPending {
			return found.DeploymentID
		}
		index = meta.LastIndex
	}
}

// Validate has Nomad check the job without submitting it, driver configuration
// included. Every objection is in the error.
func (c *Client) Validate(ctx context.Context, job *Job) error {
	write, cancel := c.write(ctx)
	defer cancel()
	answer, _, err := c.nomad.Jobs().Validate(job.spec, write)
	if err != nil {
		return c.failed(ctx, err, "validate job %s", job.ID())
	}
	switch {
	case len(answer.ValidationErrors) > 0:
		return fmt.Errorf("job %s is not valid: %s", job.ID(), oneLine(strings.Join(answer.ValidationErrors, "; ")))
	case answer.Error != "":
		return fmt.Errorf("job %s is not valid: %s", job.ID(), oneLine(answer.Error))
	}
	return nil
}

// Plan is what submitting a job would do.
type Plan struct {
	Changes  bool     // false: the job is as specified, and submitting it does nothing
	Diff     string   // what differs, one field a line, indented by what it belongs to
	Index    uint64   // for SubmitOptions.Index: submit just this plan or nothing; 0 = no such job yet
	Warnings string   // Nomad's, as it words them
	Unplaced []string // which groups would not find enough room, and why
}

// Plan asks what submitting the job would do, and does nothing.
func (c *Client) Plan(ctx context.Context, job *Job) (Plan, error) {
	write, cancel := c.write(ctx)
	defer cancel()
	answer, _, err := c.nomad.Jobs().Plan(job.spec, true, write)
	if err != nil {
		return Plan{}, c.failed(ctx, err, "plan job %s", job.ID())
	}
	if answer.Diff == nil {
		return Plan{}, fmt.Errorf("plan job %s: Nomad at %s answered without a diff; want Nomad 1.7 or newer", job.ID(), c.address)
	}
	return Plan{
		Changes:  answer.Diff.Type != diffNone,
		Diff:     diffText(answer.Diff),
		Index:    answer.JobModifyIndex,
		Warnings: answer.Warnings,
		Unplaced: unplaced(answer.FailedTGAllocs),
	}, nil
}

// Stop stops the job's allocations. With purge Nomad also forgets the job, its
// versions and its deployments, as soon as they have stopped. Stopping a job that
// is not there is no error.
func (c *Client) Stop(ctx context.Context, id string, purge bool) error {
	write, cancel := c.write(ctx)
	defer cancel()
	if _, _, err := c.nomad.Jobs().Deregister(id, purge, write); err != nil {
		return c.failed(ctx, err, "stop job %s", id)
	}
	return nil
}

// Dispatch starts a run of a parameterized job and returns the id of the job that
// it is. meta must hold what the specification's meta_required lists, and may hold
// what its meta_optional lists. A Dispatch that ended in ErrUnreachable may have
// started a run.
func (c *Client) Dispatch(ctx context.Context, job string, meta map[string]string) (id string, err error) {
	write, cancel := c.write(ctx)
	defer cancel()
	answer, _, err := c.nomad.Jobs().Dispatch(job, meta, nil, "", write)
	if err != nil {
		return "", c.failed(ctx, err, "dispatch job %s", job)
	}
	return answer.DispatchedJobID, nil
}
