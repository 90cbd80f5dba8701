package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/nomad/api"
)

// rackKey is where a node's meta says in which rack it stands.
const rackKey = "rack"

// Node is one machine that runs allocations.
type Node struct {
	ID         string
	Name       string
	Datacenter string
	Rack       string // its meta "rack"; empty when it has none
	Status     string // initializing, ready, down, disconnected
	Eligible   bool   // new allocations may come to it
	Draining   bool   // its allocations are being moved away
}

// Nodes lists all nodes, those that are down included, until Nomad collects them.
// It asks once more for each: racks are not in the list.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	read, cancel := c.read(ctx)
	defer cancel()
	stubs, _, err := c.nomad.Nodes().List(read)
	if err != nil {
		return nil, c.failed(ctx, err, "list the nodes")
	}
	var nodes []Node
	for _, stub := range stubs {
		rack, err := c.rackOf(ctx, stub.ID)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, Node{
			ID: stub.ID, Name: stub.Name, Datacenter: stub.Datacenter, Rack: rack, Status: stub.Status,
			Eligible: stub.SchedulingEligibility == api.NodeSchedulingEligible, Draining: stub.Drain,
		})
	}
	return nodes, nil
}

// rackOf reads a node's rack; a node that Nomad has forgotten stands in none.
func (c *Client) rackOf(ctx context.Context, node string) (string, error) {
	read, cancel := c.read(ctx)
	defer cancel()
	found, _, err := c.nomad.Nodes().Info(node, read)
	if err != nil {
		if err = c.failed(ctx, err, "read node %s", node); errors.Is(err, ErrNotFound) {
			return "", nil
		}
		return "", err
	}
	return found.Meta[rackKey], nil
}

// DrainNode with enable moves all allocations away from a node and lets no new
// ones come; what is still there after the deadline is stopped. A deadline of 0
// is none, a negative one stops everything at once. Without enable it ends the
// drain and lets allocations come again. It does not wait for the drain's end.
func (c *Client) DrainNode(ctx context.Context, node string, enable bool, deadline time.Duration) error {
	write, cancel := c.write(ctx)
	defer cancel()
	options := &api.DrainOptions{MarkEligible: !enable}
	if enable {
		options.DrainSpec = &api.DrainSpec{Deadline: deadline}
	}
	if _, err := c.nomad.Nodes().UpdateDrainOpts(node, options, write); err != nil {
		return c.failed(ctx, err, "drain node %s (enable %v)", node, enable)
	}
	return nil
}
