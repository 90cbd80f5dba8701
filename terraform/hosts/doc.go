// Package hosts is the Terraform module that makes a Consul and Nomad cluster of
// the user's own machines, which it reaches by SSH (README.md), and its test.
//
// Invariants that the test holds the module to:
//   - An applied module has nothing left to do: the next plan is empty.
//   - A change of one host touches that host alone, and restarts only the agents
//     whose configuration, executable or user changed.
//   - Consul denies whatever no token allows, and no secret is in Terraform's state.
//   - After destroy, no agent runs; their data stay on the hosts.
//
// It does not make machines, networks or TLS certificates, and it runs no jobs:
// terraform/ does that, on any cluster. There is no Go in it but the test.
package hosts
