package jobs

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/nomad/api"
)

// logTail is how much of each of a task's two logs Logs reads, in bytes.
const logTail = 16 << 10

// Allocation is one instance of a group, on one node.
type Allocation struct {
	ID            string
	Name          string // job.group[number]
	Node          string // the node's name
	Rack          string // the node's meta "rack"; empty when it has none
	Group         string
	Status        string // pending, running, complete, failed, lost, unknown
	DesiredStatus string // run, stop, evict
	Healthy       bool   // a deployment has found it so; false also while it has not looked
	Canary        bool
	Version       uint64  // of the job
	Events        []Event // of all its tasks, oldest first; Nomad keeps the last ten of each
}

// Event is something that happened to a task.
type Event struct {
	Task    string
	Time    time.Time
	Type    string // "Started", "Terminated", "Failed Artifact Download", …
	Message string
}

// Allocations lists a job's allocations, newest first, those that have ended
// included until Nomad collects them. It asks once more for each node involved:
// racks are not in the list.
func (c *Client) Allocations(ctx context.Context, job string) ([]Allocation, error) {
	read, cancel := c.read(ctx)
	defer cancel()
	stubs, _, err := c.nomad.Jobs().Allocations(job, false, read)
	if err != nil {
		return nil, c.failed(ctx, err, "list the allocations of job %s", job)
	}
	racks := make(map[string]string)
	var allocations []Allocation
	for _, stub := range stubs {
		rack, known := racks[stub.NodeID]
		if !known {
			if rack, err = c.rackOf(ctx, stub.NodeID); err != nil {
				return nil, err
			}
			racks[stub.NodeID] = rack
		}
		allocation := allocationOf(stub)
		allocation.Rack = rack
		allocations = append(allocations, allocation)
	}
	return allocations, nil
}

func allocationOf(stub *api.AllocationListStub) Allocation {
	return Allocation{
		ID: stub.ID, Name: stub.Name, Node: stub.NodeName, Group: stub.TaskGroup,
		Status: stub.ClientStatus, DesiredStatus: stub.DesiredStatus,
		Healthy: stub.DeploymentStatus != nil && deref(stub.DeploymentStatus.Healthy),
		Canary:  stub.DeploymentStatus != nil && stub.DeploymentStatus.Canary,
		Version: stub.JobVersion,
		Events:  eventsOf(stub.TaskStates),
	}
}

// StopAllocation stops one allocation; Nomad starts another in its place,
// elsewhere if it can.
func (c *Client) StopAllocation(ctx context.Context, id string) error {
	read, cancel := c.read(ctx)
	defer cancel()
	if _, err := c.nomad.Allocations().Stop(&api.Allocation{ID: id}, read); err != nil {
		return c.failed(ctx, err, "stop allocation %s", id)
	}
	return nil
}

// Signal sends a signal, such as SIGHUP, to a task of an allocation, or with an
// empty task to all of them.
func (c *Client) Signal(ctx context.Context, id, task, signal string) error {
	read, cancel := c.read(ctx)
	defer cancel()
	if err := c.nomad.Allocations().Signal(&api.Allocation{ID: id}, read, task, signal); err != nil {
		return c.failed(ctx, err, "send %s to allocation %s", signal, id)
	}
	return nil
}

// Logs is the end of what a task wrote: at most 16 KiB of its standard output,
// then at most 16 KiB of its standard error. They come through the server that
// the client talks to: it need not reach the node itself.
func (c *Client) Logs(ctx context.Context, allocation, task string) (string, error) {
	var text []byte
	for _, stream := range []string{api.FSLogNameStdout, api.FSLogNameStderr} {
		part, err := c.log(ctx, allocation, task, stream)
		if err != nil {
			return "", c.failed(ctx, err, "read the %s of task %s of allocation %s", stream, task, allocation)
		}
		text = slices.Concat(text, part)
	}
	return string(text), nil
}

func (c *Client) log(ctx context.Context, allocation, task, stream string) ([]byte, error) {
	read, cancel := c.read(ctx)
	defer cancel()
	read.Params = map[string]string{
		"task": task, "type": stream, "plain": "true", "origin": api.OriginEnd, "offset": fmt.Sprint(logTail),
	}
	// AllocFS().Logs would dial the node, past the client's own transport.
	body, err := c.nomad.Raw().Response("/v1/client/fs/logs/"+url.PathEscape(allocation), read)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, logTail))
}
