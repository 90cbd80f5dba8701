package jobs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/hashicorp/nomad/api"
)

// TestLastWords reads an allocation's events, one a line: task, type and message,
// separated by bars.
func TestLastWords(t *testing.T) {
	datadriven.RunTest(t, "testdata/lastwords.txt", func(t *testing.T, d *datadriven.TestData) string {
		states := make(map[string]*api.TaskState)
		for i, line := range strings.Split(d.Input, "\n") {
			parts := strings.SplitN(line, " | ", 3)
			if len(parts) != 3 {
				continue
			}
			if states[parts[0]] == nil {
				states[parts[0]] = &api.TaskState{}
			}
			event := &api.TaskEvent{Type: parts[1], DisplayMessage: parts[2], Time: int64(i + 1)}
			states[parts[0]].Events = append(states[parts[0]].Events, event)
		}
		return reasonOf(&api.AllocationListStub{ID: "0123456789", Name: "web.g[0]", TaskStates: states, ClientDescription: "No tasks have started"}) + "\n"
	})
}

// TestDiffs renders what Nomad's plan endpoint answers.
func TestDiffs(t *testing.T) {
	datadriven.RunTest(t, "testdata/diffs.txt", func(t *testing.T, d *datadriven.TestData) string {
		var diff api.JobDiff
		if err := json.Unmarshal([]byte(d.Input), &diff); err != nil {
			return err.Error() + "\n"
		}
		return diffText(&diff)
	})
}

func TestPlacementCauses(t *testing.T) {
	got := fmt.Sprint(unplaced(map[string]*api.AllocationMetric{
		"b": {NodesInPool: 3, CoalescedFailures: 1, DimensionExhausted: map[string]int{"memory": 2}, ConstraintFiltered: map[string]int{"${meta.rack} = r1": 1}},
		"a": {},
	}))
	want := "[group a: 1 cannot be placed: of 0 nodes in the pool, none is eligible " +
		"group b: 2 cannot be placed: of 3 nodes in the pool, constraint \"${meta.rack} = r1\" leaves out 1, memory is exhausted on 2]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
