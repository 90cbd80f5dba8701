package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/scheduler"
)

// One node of the queue that answers is enough. A queue that is silent, or that Consul
// does not list any more, is known, and has not answered.
func TestObserverAsksTheQueue(t *testing.T) {
	worker, _ := busyWorker(t, "echo", 4, 1)
	policies, err := parsePolicies(`[{"function":"echo"},{"function":"resize"}]`)
	if err != nil {
		t.Fatal(err)
	}
	o := newObserver(nil, "fleet", "operator", policies)
	o.learn(gatewayManagement, listed())
	o.learn("worker-echo", listed(worker))
	o.learn("worker-resize", listed())
	o.learn(queueManagement, listed())
	fleet := scheduler.FleetLoad{WorkersKnown: 1, WorkersAnswered: 1, Slots: 4, Busy: 1, Reserved: 1}
	want := scheduler.Observation{Fleets: map[lightcone.FunctionName]scheduler.FleetLoad{"echo": fleet, "resize": {}}}
	observes(t, o, want)

	// Numbers that cannot be are no answer; what is told of unknown functions is nobody's.
	o.learn(queueManagement, listed(
		managing(t, backlogPath, 200, `[{"function":"echo","waiting":7,"running":2,"oldest_ms":12500},{"function":"unknown","waiting":50}]`),
		managing(t, backlogPath, 200, `[{"function":"echo","waiting":8,"running":1,"oldest_ms":12400},{"function":"resize","running":1}]`),
		managing(t, backlogPath, 200, `[{"function":"echo","waiting":-1}]`),
		managing(t, backlogPath, 200, `[{"function":"echo","waiting":900,"oldest_ms":9223372036854775807}]`),
		managing(t, backlogPath, 200, `{"function":"echo"}`),
		managing(t, backlogPath, 200, "["+strings.Repeat(" ", mebibyte)+"]"),
		managing(t, backlogPath, 503, `[{"function":"echo","waiting":900}]`),
		silent(t), "127.0.0.1:1",
	))
	want.QueueKnown, want.QueueAnswered = 9, 2
	fleet.Queued, fleet.OldestQueued = 8+2, 12500*time.Millisecond
	want.Fleets["echo"], want.Fleets["resize"] = fleet, scheduler.FleetLoad{Queued: 1}
	observes(t, o, want)

	o.learn(queueManagement, listed(silent(t)))
	o.learn(queueManagement, listed())
	want.QueueKnown, want.QueueAnswered = 1, 0
	fleet.Queued, fleet.OldestQueued = 0, 0
	want.Fleets["echo"], want.Fleets["resize"] = fleet, scheduler.FleetLoad{}
	observes(t, o, want)
}

// What runs on a worker is not queued any more; what waits to be tried again is.
func TestWhatWaitsToBeTriedAgainIsQueued(t *testing.T) {
	for _, test := range []struct {
		line       backlog
		busyQueued int
		queued     int
	}{
		{backlog{Waiting: 3, Running: 2}, 2, 3},
		{backlog{Waiting: 3, Running: 2}, 0, 5},
		{backlog{Running: 1}, 4, 0}, // seen at slightly different moments
	} {
		fleet := withBacklog(scheduler.FleetLoad{BusyQueued: test.busyQueued}, test.line)
		if diff := cmp.Diff(scheduler.FleetLoad{BusyQueued: test.busyQueued, Queued: test.queued}, fleet); diff != "" {
			t.Errorf("%+v: %s", test.line, diff)
		}
	}
}
