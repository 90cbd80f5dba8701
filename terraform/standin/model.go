package main

import (
	"context"
	"strconv"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// jobModel is a nomad_job in Terraform's configuration, plan and state.
type jobModel struct {
	ID                   types.String `tfsdk:"id"`
	Jobspec              types.String `tfsdk:"jobspec"`
	HCL2                 []hcl2Model  `tfsdk:"hcl2"`
	JSON                 types.Bool   `tfsdk:"json"`
	Detach               types.Bool   `tfsdk:"detach"`
	DeregisterOnDestroy  types.Bool   `tfsdk:"deregister_on_destroy"`
	DeregisterOnIDChange types.Bool   `tfsdk:"deregister_on_id_change"`
	PurgeOnDestroy       types.Bool   `tfsdk:"purge_on_destroy"`
	RerunIfDead          types.Bool   `tfsdk:"rerun_if_dead"`
	PolicyOverride       types.Bool   `tfsdk:"policy_override"`
	PreserveCounts       types.Bool   `tfsdk:"preserve_counts"`
	PreserveResources    types.Bool   `tfsdk:"preserve_resources"`
	ReadAllocationIDs    types.Bool   `tfsdk:"read_allocation_ids"`
	Name                 types.String `tfsdk:"name"`
	Namespace            types.String `tfsdk:"namespace"`
	Type                 types.String `tfsdk:"type"`
	Region               types.String `tfsdk:"region"`
	Datacenters          types.Set    `tfsdk:"datacenters"`
	Status               types.String `tfsdk:"status"`
	Version              types.Int64  `tfsdk:"version"`
	ModifyIndex          types.String `tfsdk:"modify_index"`
	DeploymentID         types.String `tfsdk:"deployment_id"`
	DeploymentStatus     types.String `tfsdk:"deployment_status"`
	AllocationIDs        types.List   `tfsdk:"allocation_ids"`
	TaskGroups           types.List   `tfsdk:"task_groups"`
}

type hcl2Model struct {
	AllowFS types.Bool `tfsdk:"allow_fs"`
	Vars    types.Map  `tfsdk:"vars"`
}

type groupModel struct {
	Name  types.String `tfsdk:"name"`
	Count types.Int64  `tfsdk:"count"`
}

var groupType = types.ObjectType{AttrTypes: map[string]attr.Type{"name": types.StringType, "count": types.Int64Type}}

func jobSchema() schema.Schema {
	flag := func(usual bool, description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(usual), Description: description}
	}
	found := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, Description: description}
	}
	return schema.Schema{
		Attributes: map[string]schema.Attribute{
			"jobspec":                 schema.StringAttribute{Required: true, Description: "The job specification."},
			"json":                    flag(false, "The specification is JSON."),
			"detach":                  flag(true, "Do not wait for the deployment."),
			"deregister_on_destroy":   flag(true, "Stop the job on destroy."),
			"deregister_on_id_change": flag(true, "Stop the job when the specification's name changes."),
			"purge_on_destroy":        flag(false, "Purge the job on destroy."),
			"rerun_if_dead":           flag(false, "Register a dead job again."),
			"policy_override":         flag(false, "Override soft-mandatory Sentinel policies."),
			"preserve_counts":         flag(false, "Keep the groups' counts on an update."),
			"preserve_resources":      flag(false, "Keep the tasks' resources on an update."),
			"read_allocation_ids":     flag(false, "Read the allocations' ids."),
			"id":                      found("The job's id."),
			"name":                    found("The job's id, from the specification."),
			"namespace":               found("The job's namespace, from the specification."),
			"type":                    found("The job's type, from the specification."),
			"region":                  found("The job's region."),
			"status":                  found("The job's status."),
			"modify_index":            found("Rises with each change of the job."),
			"deployment_id":           found("The deployment of the last apply that waited for one."),
			"deployment_status":       found("How that deployment ended."),
			"version":                 schema.Int64Attribute{Computed: true, Description: "The job's version."},
			"datacenters":             schema.SetAttribute{Computed: true, ElementType: types.StringType, Description: "The job's datacenters."},
			"allocation_ids":          schema.ListAttribute{Computed: true, ElementType: types.StringType, Description: "The job's allocations."},
			"task_groups":             schema.ListAttribute{Computed: true, ElementType: groupType, Description: "The job's groups and their counts."},
		},
		Blocks: map[string]schema.Block{
			"hcl2": schema.ListNestedBlock{
				NestedObject: schema.NestedBlockObject{Attributes: map[string]schema.Attribute{
					"allow_fs": schema.BoolAttribute{Optional: true, Description: "Allow file functions; not here."},
					"vars":     schema.MapAttribute{Optional: true, ElementType: types.StringType, Description: "The specification's variables."},
				}},
			},
		},
	}
}

// known says whether specification and variables have values yet.
func (m *jobModel) known() bool {
	if m.Jobspec.IsUnknown() || m.JSON.IsUnknown() {
		return false
	}
	for _, hcl2 := range m.HCL2 {
		if hcl2.Vars.IsUnknown() || hcl2.AllowFS.IsUnknown() {
			return false
		}
		for _, value := range hcl2.Vars.Elements() {
			if value.IsUnknown() {
				return false
			}
		}
	}
	return true
}

// specification is what the job is made from.
func (m *jobModel) specification(ctx context.Context) (specification, diag.Diagnostics) {
	found := specification{source: m.Jobspec.ValueString(), json: m.JSON.ValueBool()}
	var diags diag.Diagnostics
	for _, hcl2 := range m.HCL2 {
		if hcl2.AllowFS.ValueBool() {
			diags.AddError("allow_fs is not supported", "This stand-in lets Nomad parse specifications, which then cannot read files here; use Terraform's templatefile instead.")
		}
		diags.Append(hcl2.Vars.ElementsAs(ctx, &found.variables, false)...)
	}
	return found, diags
}

// describe fills in what Nomad knows of the job.
func (m *jobModel) describe(ctx context.Context, job *api.Job) diag.Diagnostics {
	m.ID, m.Name = types.StringPointerValue(job.ID), types.StringPointerValue(job.ID)
	m.Namespace, m.Type = types.StringPointerValue(job.Namespace), types.StringPointerValue(job.Type)
	m.Region, m.Status = types.StringPointerValue(job.Region), types.StringPointerValue(job.Status)
	m.Version, m.ModifyIndex = types.Int64Value(0), types.StringValue("0")
	if job.Version != nil {
		m.Version = types.Int64Value(int64(*job.Version))
	}
	if job.JobModifyIndex != nil {
		m.ModifyIndex = types.StringValue(strconv.FormatUint(*job.JobModifyIndex, 10))
	}
	groups := make([]groupModel, 0, len(job.TaskGroups))
	for _, group := range job.TaskGroups {
		count := 1
		if group.Count != nil {
			count = *group.Count
		}
		groups = append(groups, groupModel{types.StringPointerValue(group.Name), types.Int64Value(int64(count))})
	}
	var diags, more diag.Diagnostics
	m.Datacenters, diags = types.SetValueFrom(ctx, types.StringType, job.Datacenters)
	m.TaskGroups, more = types.ListValueFrom(ctx, groupType, groups)
	diags.Append(more...)
	return diags
}

// forget marks as unknown what an update will change.
func (m *jobModel) forget() {
	m.Status, m.ModifyIndex, m.Version = types.StringUnknown(), types.StringUnknown(), types.Int64Unknown()
	m.DeploymentID, m.DeploymentStatus = types.StringUnknown(), types.StringUnknown()
	m.AllocationIDs, m.TaskGroups = types.ListUnknown(types.StringType), types.ListUnknown(groupType)
}
