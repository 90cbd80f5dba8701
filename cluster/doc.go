// Command cluster runs a whole Lightcone region on this machine: `make cluster`
// and `make cluster-down`.
//
// It makes three hosts in three racks out of network namespaces, starts a Consul
// and a Nomad client in each, a server of both and an edge host outside, serves
// the release that the workers fetch, applies the Terraform of this project, and
// waits until everything is healthy. Racks, partitions and drains are then real:
// a rack's cable is a veth that can be pulled.
//
// Invariants: everything it makes is in one folder, one bridge, four cgroups and
// the namespaces named below, and `down` removes all of it, also after a crash
// of `up`; it stops only processes that it started, by pid and start time; a
// secret is in a file that only its owner can read.
//
// It is for development and drills, not for production: one server each of
// Consul and Nomad, no TLS between agents. terraform/hosts sets up machines.
package main
