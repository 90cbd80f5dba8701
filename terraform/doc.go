// Package terraform is the tests of the Terraform module in this folder, which
// provisions a region: demand.tf is what is asked of it, sizing.tf the arithmetic,
// main.tf the jobs. README.md says how to use it.
//
// What the tests hold the module to:
//   - Its arithmetic is package capacity's.
//   - An unusable variable is refused by a plan, with a sentence.
//   - It gives the job specifications the variables that they declare.
//   - After an apply a plan is empty, also when the scheduler has scaled a job; a
//     changed variable changes the jobs that have it and nothing else; an apply
//     fails when a deployment does; a destroy leaves nothing.
//
// They run the real terraform against a real Nomad, with the stand-in of standin/
// for the provider. They do not run Lightcone's own jobs, which need hosts with
// racks and Consul: `make cluster` does.
package terraform
