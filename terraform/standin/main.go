// Command terraform-provider-nomad is a stand-in for the hashicorp/nomad
// Terraform provider, with a real Nomad behind it. It exists because the real
// provider comes only from the Terraform registry, which tests, and machines
// without a way to it, cannot reach; who can, uses the real one. Terraform is
// pointed here by dev_overrides in a CLI configuration file.
//
// It has the provider's settings and the nomad_job resource that terraform/ uses,
// with the names, types and defaults of release 2.6 and its behaviour: a plan
// shows what changed in the specification, in its variables, or in Nomad by
// somebody who submitted another specification; what the scheduler scaled is no
// change; an apply waits for the deployment and fails with its reason.
//
// Differences: Nomad parses the specification, so a plan of a new or changed job
// needs Nomad to answer; a change of a comment alone is a change; file functions
// inside specifications, `timeouts` (5 minutes here), import, other resources and
// data sources are missing.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
)

func main() {
	err := providerserver.Serve(context.Background(), newProvider, providerserver.ServeOpts{
		Address: "registry.terraform.io/hashicorp/nomad",
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "terraform-provider-nomad (stand-in): %v\n", err)
		os.Exit(1)
	}
}
