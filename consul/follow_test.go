package consul

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// TestFollowTranscripts plays testdata/follow.txt: what a watch makes of answers.
func TestFollowTranscripts(t *testing.T) {
	var stands position
	datadriven.RunTest(t, "testdata/follow.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "new":
			stands = position{}
			return ""
		case "answer":
			a := answer{knownLeader: !d.HasArg("leaderless"), filtered: d.HasArg("filtered")}
			d.ScanArgs(t, "index", &a.index)
			for _, id := range strings.Fields(d.Input) {
				a.instances = append(a.instances, Instance{ID: id})
			}
			var verdict verdict
			verdict, stands = stands.judge(a)
			var has []string
			for _, instance := range stands.instances {
				has = append(has, instance.ID)
			}
			return fmt.Sprintf("%s; index %d, the caller has [%s]", verdict, stands.index, strings.Join(has, " "))
		default:
			d.Fatalf(t, "no command %s", d.Cmd)
			return ""
		}
	})
}

func TestInstancesAreSortedAndAddressed(t *testing.T) {
	node := &api.Node{Node: "rack1", Address: "10.0.0.1"}
	got := instancesOf([]*api.ServiceEntry{
		{Node: node, Service: &api.AgentService{ID: "b", Port: 80}},
		{Node: node, Service: &api.AgentService{ID: "a", Port: 81, Address: "fd00::1", Tags: []string{"canary"}, Meta: map[string]string{"k": "v"}}},
	})
	want := []Instance{
		{ID: "a", Node: "rack1", Address: "[fd00::1]:81", Tags: []string{"canary"}, Meta: map[string]string{"k": "v"}},
		{ID: "b", Node: "rack1", Address: "10.0.0.1:80"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
