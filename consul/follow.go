package consul

import (
	"cmp"
	"net"
	"reflect"
	"slices"
	"strconv"

	"github.com/hashicorp/consul/api"
)

// Instance is one running copy of a service whose health checks all pass.
type Instance struct {
	ID      string // unique where Nomad registers: it names the allocation
	Node    string // the Consul node it runs on
	Address string // host:port: the service's own address, else its node's
	Tags    []string
	Meta    map[string]string
}

// position is where a watch stands: the index it has seen, 0 for none, and the
// set it has applied.
type position struct {
	index     uint64
	applied   bool
	instances []Instance
}

// answer is what a health query brought.
type answer struct {
	index       uint64
	knownLeader bool // the server that answered knows a leader of the servers
	filtered    bool // the token may not see all there is
	instances   []Instance
}

// verdict is what to do with an answer.
type verdict string

const (
	applyIt   verdict = "apply"                                     // a set that the caller does not have yet
	unchanged verdict = "unchanged"                                 // the set that the caller has
	confirm   verdict = "confirm: instances are missing"            // ask the leader before anybody loses a worker
	startOver verdict = "start over: the index went back"           // ask again from 0, and the leader
	refused   verdict = "refused: the token may not read it all"    // part of a set is worse than yesterday's
	knowsNone verdict = "no answer: an empty server, and no leader" // a server that has just started knows nobody
)

// judge decides about an answer, and where the watch stands after it.
//
// An index that goes back means a server with another or an older memory: one
// that lags behind, one still reading its log after a restart, or a cluster
// restored from a snapshot. Its set is not applied; the next question goes to the
// leader, which answers when it knows everything.
// https://developer.hashicorp.com/consul/api-docs/features/blocking
//
// An answer in which instances are missing is confirmed by the leader, too: blocking
// queries are served from a stream, which leaves out what the token may not see
// any more and does not say so (seen with Consul 1.21).
func (p position) judge(a answer) (verdict, position) {
	switch {
	case a.filtered:
		return refused, p
	case a.index < p.index:
		p.index = 0
		return startOver, p
	case !p.applied && !a.knownLeader && len(a.instances) == 0:
		return knowsNone, p
	}
	if fromLeader := p.index == 0; !fromLeader && lacksSome(a.instances, p.instances) {
		p.index = 0
		return confirm, p
	}
	p.index = max(a.index, 1) // 0 would not block
	if p.applied && reflect.DeepEqual(p.instances, a.instances) {
		return unchanged, p
	}
	p.applied, p.instances = true, a.instances
	return applyIt, p
}

// lacksSome says whether an instance of before is not in now.
func lacksSome(now, before []Instance) bool {
	there := make(map[[2]string]bool, len(now))
	for _, instance := range now {
		there[[2]string{instance.ID, instance.Node}] = true
	}
	return slices.ContainsFunc(before, func(instance Instance) bool { return !there[[2]string{instance.ID, instance.Node}] })
}

// instancesOf sorts by ID, then node.
func instancesOf(entries []*api.ServiceEntry) []Instance {
	instances := make([]Instance, 0, len(entries))
	for _, entry := range entries {
		if entry.Service == nil || entry.Node == nil {
			continue
		}
		host := cmp.Or(entry.Service.Address, entry.Node.Address)
		instances = append(instances, Instance{
			ID:      entry.Service.ID,
			Node:    entry.Node.Node,
			Address: net.JoinHostPort(host, strconv.Itoa(entry.Service.Port)),
			Tags:    entry.Service.Tags,
			Meta:    entry.Service.Meta,
		})
	}
	slices.SortFunc(instances, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node))
	})
	return instances
}
