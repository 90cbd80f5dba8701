package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// nomadProvider holds nothing: each configuration makes a client.
type nomadProvider struct{}

// providerSettings are what a provider block may say. What it leaves out comes
// from the environment (NOMAD_ADDR, NOMAD_TOKEN, …), as with the real one.
type providerSettings struct {
	Address    types.String `tfsdk:"address"`
	Region     types.String `tfsdk:"region"`
	SecretID   types.String `tfsdk:"secret_id"`
	CAFile     types.String `tfsdk:"ca_file"`
	CertFile   types.String `tfsdk:"cert_file"`
	KeyFile    types.String `tfsdk:"key_file"`
	SkipVerify types.Bool   `tfsdk:"skip_verify"`
}

func newProvider() provider.Provider { return nomadProvider{} }

// Metadata names the provider, and so the prefix of its resources.
func (nomadProvider) Metadata(_ context.Context, _ provider.MetadataRequest, r *provider.MetadataResponse) {
	r.TypeName = "nomad"
}

// Schema says what a provider block may hold.
func (nomadProvider) Schema(_ context.Context, _ provider.SchemaRequest, r *provider.SchemaResponse) {
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, Description: description}
	}
	r.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"address":     text("URL of Nomad's API."),
		"region":      text("Nomad region."),
		"secret_id":   schema.StringAttribute{Optional: true, Sensitive: true, Description: "ACL token."},
		"ca_file":     text("File with the CA's certificate."),
		"cert_file":   text("File with the client's certificate."),
		"key_file":    text("File with the client's private key."),
		"skip_verify": schema.BoolAttribute{Optional: true, Description: "Do not verify Nomad's certificate."},
	}}
}

// Configure makes the client that resources use.
func (nomadProvider) Configure(ctx context.Context, q provider.ConfigureRequest, r *provider.ConfigureResponse) {
	var settings providerSettings
	r.Diagnostics.Append(q.Config.Get(ctx, &settings)...)
	if r.Diagnostics.HasError() {
		return
	}
	config := api.DefaultConfig()
	for _, given := range []struct {
		value types.String
		into  *string
	}{
		{settings.Address, &config.Address},
		{settings.Region, &config.Region},
		{settings.SecretID, &config.SecretID},
		{settings.CAFile, &config.TLSConfig.CACert},
		{settings.CertFile, &config.TLSConfig.ClientCert},
		{settings.KeyFile, &config.TLSConfig.ClientKey},
	} {
		if text := given.value.ValueString(); text != "" {
			*given.into = text
		}
	}
	if settings.SkipVerify.ValueBool() {
		config.TLSConfig.Insecure = true
	}
	client, err := api.NewClient(config)
	if err != nil {
		r.Diagnostics.AddError("The provider's settings are not usable", fmt.Sprintf("A client for Nomad at %s cannot be made: %v.", config.Address, err))
		return
	}
	r.ResourceData = client
}

// Resources is nomad_job alone.
func (nomadProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return &jobResource{} }}
}

// DataSources is none.
func (nomadProvider) DataSources(context.Context) []func() datasource.DataSource { return nil }
