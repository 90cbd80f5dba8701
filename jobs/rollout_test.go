package jobs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/hashicorp/nomad/api"
)

// TestRollouts judges what Nomad might answer. Each line of a case is one thing
// that was read, as JSON in Nomad's own words, after its name: version, newest,
// evaluation, deployment, allocation. The followed version is version 2 of job
// web, written at index 20 and with two allocations in group g, unless it says otherwise.
func TestRollouts(t *testing.T) {
	datadriven.RunTest(t, "testdata/rollouts.txt", func(t *testing.T, d *datadriven.TestData) string {
		r := rollout{version: standardVersion(), newest: standardVersion()}
		for _, line := range strings.Split(d.Input, "\n") {
			what, text, _ := strings.Cut(line, " ")
			if err := r.add(what, text); err != nil {
				d.Fatalf(t, "%q: %v", line, err)
			}
		}
		v := r.judge()
		said := fmt.Sprintf("%v\n", v.progress)
		if v.outcome == nil {
			return said + fmt.Sprintf("wait for %s\n", [...]string{"evaluations", "deployments", "allocations"}[v.next])
		}
		said += fmt.Sprintf("%s: %s", v.outcome.Result, v.outcome.Description)
		if v.outcome.Reverted {
			said += fmt.Sprintf("; reverted to version %d", v.outcome.RevertedTo)
		}
		if v.suspect {
			said += "; look again"
		}
		for _, reason := range v.outcome.Reasons {
			said += "\n  " + reason
		}
		return said + "\n"
	})
}

func standardVersion() *api.Job {
	return &api.Job{
		ID: new("web"), Version: new(uint64(2)), CreateIndex: new(uint64(10)), JobModifyIndex: new(uint64(20)),
		TaskGroups: []*api.TaskGroup{{Name: new("g"), Count: new(2)}},
	}
}

func (r *rollout) add(what, text string) error {
	switch what {
	case "version":
		return json.Unmarshal([]byte(text), r.version)
	case "newest":
		return json.Unmarshal([]byte(text), r.newest)
	case "evaluation":
		return appendJSON(&r.evaluations, &api.Evaluation{}, text)
	case "deployment":
		return appendJSON(&r.deployments, &api.Deployment{ID: "d1", JobCreateIndex: 10, JobSpecModifyIndex: 20}, text)
	case "allocation":
		return appendJSON(&r.allocations, &api.AllocationListStub{
			ID: "0123456789", Name: "web.g[0]", TaskGroup: "g", DesiredStatus: "run", JobVersion: 2,
		}, text)
	default:
		return fmt.Errorf("want version, newest, evaluation, deployment or allocation")
	}
}

func appendJSON[T any](list *[]*T, made *T, text string) error {
	*list = append(*list, made)
	return json.Unmarshal([]byte(text), made)
}
