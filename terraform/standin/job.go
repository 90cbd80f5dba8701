package main

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// jobResource is nomad_job.
type jobResource struct{ client *api.Client }

// Metadata names the resource.
func (*jobResource) Metadata(_ context.Context, _ resource.MetadataRequest, r *resource.MetadataResponse) {
	r.TypeName = "nomad_job"
}

// Schema says what it holds.
func (*jobResource) Schema(_ context.Context, _ resource.SchemaRequest, r *resource.SchemaResponse) {
	r.Schema = jobSchema()
}

// Configure takes the provider's client; there is none while Terraform validates.
func (j *jobResource) Configure(_ context.Context, q resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	j.client, _ = q.ProviderData.(*api.Client)
}

// ModifyPlan lets Nomad parse what is new, so that mistakes show in the plan, and
// says what of the job will change.
func (j *jobResource) ModifyPlan(ctx context.Context, q resource.ModifyPlanRequest, r *resource.ModifyPlanResponse) {
	if q.Plan.Raw.IsNull() { // destroy
		return
	}
	var planned, current jobModel
	r.Diagnostics.Append(q.Plan.Get(ctx, &planned)...)
	create := q.State.Raw.IsNull()
	if !create {
		r.Diagnostics.Append(q.State.Get(ctx, &current)...)
	}
	if r.Diagnostics.HasError() || !planned.known() {
		return
	}
	if !create && q.Plan.Raw.Equal(q.State.Raw) {
		if current.Status.ValueString() == "dead" && planned.RerunIfDead.ValueBool() {
			planned.forget()
			r.Diagnostics.Append(r.Plan.Set(ctx, &planned)...)
		}
		return
	}
	job, diags := j.parse(ctx, &planned)
	r.Diagnostics.Append(diags...)
	if r.Diagnostics.HasError() {
		return
	}
	planned.ID, planned.Name = types.StringPointerValue(job.ID), types.StringPointerValue(job.ID)
	planned.Namespace = types.StringPointerValue(job.Namespace)
	r.Diagnostics.Append(r.Plan.Set(ctx, &planned)...)
	if create {
		return
	}
	if !planned.Namespace.Equal(current.Namespace) {
		r.RequiresReplace = append(r.RequiresReplace, path.Root("namespace"))
	}
	if !planned.Name.Equal(current.Name) && planned.DeregisterOnIDChange.ValueBool() {
		r.RequiresReplace = append(r.RequiresReplace, path.Root("name"))
	}
}

// Create registers the job.
func (j *jobResource) Create(ctx context.Context, q resource.CreateRequest, r *resource.CreateResponse) {
	var model jobModel
	r.Diagnostics.Append(q.Plan.Get(ctx, &model)...)
	if !r.Diagnostics.HasError() {
		r.Diagnostics.Append(j.register(ctx, &model, &r.State)...)
	}
}

// Update registers the job again.
func (j *jobResource) Update(ctx context.Context, q resource.UpdateRequest, r *resource.UpdateResponse) {
	var model jobModel
	r.Diagnostics.Append(q.Plan.Get(ctx, &model)...)
	if !r.Diagnostics.HasError() {
		r.Diagnostics.Append(j.register(ctx, &model, &r.State)...)
	}
}

// register sends the job and its source to Nomad, keeps it in the state at once,
// and waits for its deployment unless told not to.
func (j *jobResource) register(ctx context.Context, model *jobModel, state *tfsdk.State) diag.Diagnostics {
	job, diags := j.parse(ctx, model)
	if diags.HasError() {
		return diags
	}
	source, _ := model.specification(ctx)
	format := "hcl2"
	if source.json {
		format = "json"
	}
	answer, _, err := j.client.Jobs().RegisterOpts(job, &api.RegisterOptions{
		PolicyOverride:    model.PolicyOverride.ValueBool(),
		PreserveCounts:    model.PreserveCounts.ValueBool(),
		PreserveResources: model.PreserveResources.ValueBool(),
		Submission:        &api.JobSubmission{Source: source.source, Format: format, VariableFlags: source.variables},
	}, (&api.WriteOptions{Namespace: *job.Namespace}).WithContext(ctx))
	if err != nil {
		diags.AddError("Nomad refused the job "+*job.ID, err.Error())
		return diags
	}
	model.DeploymentID, model.DeploymentStatus = types.StringNull(), types.StringNull()
	var failed error
	if !model.Detach.ValueBool() && answer.EvalID != "" {
		deployment, err := waitForDeployment(ctx, j.client, *job.Namespace, answer.EvalID)
		if deployment != nil {
			model.DeploymentID, model.DeploymentStatus = types.StringValue(deployment.ID), types.StringValue(deployment.Status)
		}
		failed = err
	}
	registered, _, err := j.client.Jobs().Info(*job.ID, (&api.QueryOptions{Namespace: *job.Namespace}).WithContext(ctx))
	if err != nil {
		diags.AddError("The job "+*job.ID+" was registered and cannot be read", err.Error())
		return diags
	}
	diags.Append(model.describe(ctx, registered)...)
	diags.Append(j.readAllocations(ctx, model)...)
	diags.Append(state.Set(ctx, model)...)
	if failed != nil {
		diags.AddError("The job "+*job.ID+" was registered and did not deploy", failed.Error())
	}
	return diags
}

// Read takes over what is in Nomad. A job that is not there leaves the state; one
// that somebody submitted another specification for shows that one, so that the
// next plan has a difference.
func (j *jobResource) Read(ctx context.Context, q resource.ReadRequest, r *resource.ReadResponse) {
	var model jobModel
	r.Diagnostics.Append(q.State.Get(ctx, &model)...)
	if r.Diagnostics.HasError() {
		return
	}
	query := (&api.QueryOptions{Namespace: model.Namespace.ValueString()}).WithContext(ctx)
	job, _, err := j.client.Jobs().Info(model.ID.ValueString(), query)
	if err != nil {
		if strings.Contains(err.Error(), "404") { // the client has no other sign of it
			r.State.RemoveResource(ctx)
			return
		}
		r.Diagnostics.AddError("The job "+model.ID.ValueString()+" cannot be read", err.Error())
		return
	}
	r.Diagnostics.Append(model.describe(ctx, job)...)
	r.Diagnostics.Append(j.readAllocations(ctx, &model)...)
	// A version that was scaled has no submission of its own: the last one stands.
	if submission, _, err := j.client.Jobs().Submission(*job.ID, int(*job.Version), query); err == nil && submission != nil {
		r.Diagnostics.Append(model.resubmitted(ctx, submission)...)
	}
	r.Diagnostics.Append(r.State.Set(ctx, &model)...)
}

// resubmitted takes over the source and variables that Nomad has for the job.
func (m *jobModel) resubmitted(ctx context.Context, submission *api.JobSubmission) diag.Diagnostics {
	if submission.Source != "" {
		m.Jobspec = types.StringValue(submission.Source)
	}
	known, diags := m.specification(ctx)
	if submission.Format != "hcl2" || maps.Equal(known.variables, submission.VariableFlags) {
		return diags
	}
	variables, more := types.MapValueFrom(ctx, types.StringType, submission.VariableFlags)
	diags.Append(more...)
	if len(m.HCL2) == 0 {
		m.HCL2 = []hcl2Model{{AllowFS: types.BoolNull()}}
	}
	m.HCL2[0].Vars = variables
	return diags
}

// Delete stops the job, and purges it if told to.
func (j *jobResource) Delete(ctx context.Context, q resource.DeleteRequest, r *resource.DeleteResponse) {
	var model jobModel
	r.Diagnostics.Append(q.State.Get(ctx, &model)...)
	if r.Diagnostics.HasError() || !model.DeregisterOnDestroy.ValueBool() {
		return
	}
	options := (&api.WriteOptions{Namespace: model.Namespace.ValueString()}).WithContext(ctx)
	if _, _, err := j.client.Jobs().Deregister(model.ID.ValueString(), model.PurgeOnDestroy.ValueBool(), options); err != nil {
		r.Diagnostics.AddError("The job "+model.ID.ValueString()+" cannot be stopped", err.Error())
	}
}

func (j *jobResource) parse(ctx context.Context, model *jobModel) (*api.Job, diag.Diagnostics) {
	source, diags := model.specification(ctx)
	if diags.HasError() {
		return nil, diags
	}
	job, err := source.parse(j.client)
	if err != nil {
		diags.AddAttributeError(path.Root("jobspec"), "The job specification is not usable", fmt.Sprintf("%v.", err))
	}
	return job, diags
}

func (j *jobResource) readAllocations(ctx context.Context, model *jobModel) diag.Diagnostics {
	model.AllocationIDs = types.ListNull(types.StringType)
	if !model.ReadAllocationIDs.ValueBool() {
		return nil
	}
	query := (&api.QueryOptions{Namespace: model.Namespace.ValueString()}).WithContext(ctx)
	stubs, _, err := j.client.Jobs().Allocations(model.ID.ValueString(), false, query)
	var diags diag.Diagnostics
	if err != nil {
		diags.AddWarning("The allocations of "+model.ID.ValueString()+" cannot be listed", err.Error())
		return diags
	}
	ids := make([]string, 0, len(stubs))
	for _, stub := range stubs {
		ids = append(ids, stub.ID)
	}
	model.AllocationIDs, diags = types.ListValueFrom(ctx, types.StringType, ids)
	return diags
}
