package main

import "fmt"

// The one private subnet that all hosts are in, and what is made for it.
const (
	bridge        = "lightcone0"
	serverAddress = "10.88.77.1"
	subnetBits    = 24

	datacenter = "local"

	// The agents' data is not in the project's folder: Nomad's task API is a Unix
	// socket below it, whose path the kernel bounds to 107 bytes, and what tasks
	// see of the host is hard-linked into it, which takes one file system.
	agentsFolder = "/var/lib/lightcone-cluster"
)

// host is a machine of the cluster: a network namespace, or this machine itself.
type host struct {
	Name    string
	Rack    string // "" for the host outside the racks
	Address string
	Class   string // Nomad's node class: worker or edge
}

// racks are the hosts in network namespaces of their own.
func racks() []host {
	var hosts []host
	for i, rack := range []string{"a", "b", "c"} {
		hosts = append(hosts, host{
			Name: "lightcone-rack-" + rack, Rack: rack, Address: fmt.Sprintf("10.88.77.%d", 11+i), Class: "worker",
		})
	}
	return hosts
}

// edge is this machine as the cluster sees it: where the load balancer runs.
func edge() host {
	return host{Name: "lightcone-edge", Address: serverAddress, Class: "edge"}
}

// clients are all hosts that Nomad may run jobs on.
func clients() []host { return append(racks(), edge()) }

// folder is where the host's agents keep their data; see agentsFolder.
func (h host) folder() string {
	if h.Rack == "" {
		return agentsFolder + "/e"
	}
	return agentsFolder + "/" + h.Rack
}
