package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/scheduler"
)

// queueManagement is the Consul service of the queue nodes' management listeners.
const queueManagement = "queue-manage"

// backlogPath is where a node of the queue tells schedulers how much is queued, in
// the whole queue.
const backlogPath = "/backlog"

// backlog is one function's line there.
type backlog struct {
	Function     lightcone.FunctionName `json:"function"`
	Waiting      int                    `json:"waiting"`   // calls that no worker has had yet
	Running      int                    `json:"running"`   // calls that a worker has, or that wait to be tried again
	OldestMillis int64                  `json:"oldest_ms"` // how long the oldest of those waiting has waited
}

// mostBacklogAge bounds what is believed of an age: far beyond any, far from overflow.
const mostBacklogAge = 10 * 365 * 24 * time.Hour

// decodeBacklogs reads a node's answer, and refuses numbers that cannot be.
func decodeBacklogs(response *http.Response) ([]backlog, error) {
	var lines []backlog
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, mebibyte)).Decode(&lines); err != nil {
		return nil, err
	}
	for _, line := range lines {
		if line.Waiting < 0 || line.Running < 0 || line.OldestMillis < 0 || line.OldestMillis > mostBacklogAge.Milliseconds() {
			return nil, fmt.Errorf("the backlog of function %q cannot be: %+v", line.Function, line)
		}
	}
	return lines, nil
}

// backlogs asks one node of the queue.
func (o *observer) backlogs(ctx context.Context, address string) (lines []backlog, err error) {
	err = o.read(ctx, address, backlogPath, func(response *http.Response) error {
		lines, err = decodeBacklogs(response)
		return err
	})
	return lines, err
}

// heardBacklog is the most that any node has said of each function: they tell of the
// same queue, at slightly different moments.
func heardBacklog(most map[lightcone.FunctionName]backlog, lines []backlog) {
	for _, line := range lines {
		known := most[line.Function]
		most[line.Function] = backlog{
			Function: line.Function, Waiting: max(known.Waiting, line.Waiting), Running: max(known.Running, line.Running),
			OldestMillis: max(known.OldestMillis, line.OldestMillis),
		}
	}
}

// withBacklog adds what is queued for a fleet. Calls that wait to be tried again are
// queued, too: they need a worker, though their age is their own failure's.
func withBacklog(fleet scheduler.FleetLoad, line backlog) scheduler.FleetLoad {
	fleet.Queued = line.Waiting + max(0, line.Running-fleet.BusyQueued)
	fleet.OldestQueued = time.Duration(line.OldestMillis) * time.Millisecond
	return fleet
}

// learn takes over where a service's instances are. A queue that has been there is
// not forgotten when Consul lists none of its nodes any more: they are all away, and
// what is in it is not known. Whoever gives up the queue for good restarts the schedulers.
func (o *observer) learn(service string, instances []consul.Instance) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if service == queueManagement && len(instances) == 0 && len(o.known[service]) > 0 {
		return
	}
	o.known[service] = instances
}
