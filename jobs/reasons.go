package jobs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

const mostLastWords = 3

// routineEvents are what happens to every task: they explain no failure. The
// others do, those that a later Nomad invents included.
var routineEvents = []string{
	api.TaskReceived, api.TaskSetup, api.TaskStarted, api.TaskBuildingTaskDir, api.TaskDownloadingArtifacts,
	api.TaskRestarting, api.TaskNotRestarting, api.TaskKilling, api.TaskKilled, api.TaskSignaling, api.TaskClientReconnected,
}

// nanoseconds is a time as Nomad stores it.
func nanoseconds(stamp int64) time.Time {
	if stamp == 0 {
		return time.Time{}
	}
	return time.Unix(0, stamp)
}

// eventsOf are what happened to an allocation's tasks, oldest first.
func eventsOf(states map[string]*api.TaskState) []Event {
	var events []Event
	for _, task := range slices.Sorted(maps.Keys(states)) {
		for _, event := range states[task].Events {
			message := cmp.Or(event.DisplayMessage, event.Message)
			events = append(events, Event{Task: task, Time: nanoseconds(event.Time), Type: event.Type, Message: oneLine(message)})
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events
}

// lastWords are the last events that say more than that a task came and went, each
// once, oldest first. Without any it is the last event of all: what the task was
// busy with.
func lastWords(events []Event) []string {
	var words []string
	for _, event := range slices.Backward(events) {
		text := fmt.Sprintf("task %s: %s: %s", event.Task, event.Type, event.Message)
		if !slices.Contains(routineEvents, event.Type) && !slices.Contains(words, text) && len(words) < mostLastWords {
			words = append(words, text)
		}
	}
	slices.Reverse(words)
	if len(words) == 0 && len(events) > 0 {
		last := events[len(events)-1]
		words = append(words, fmt.Sprintf("task %s: its last event is %s: %s", last.Task, last.Type, last.Message))
	}
	return words
}

// reasonOf is an allocation's name, id and last words, as one line.
func reasonOf(allocation *api.AllocationListStub) string {
	words := lastWords(eventsOf(allocation.TaskStates))
	if len(words) == 0 {
		words = []string{cmp.Or(allocation.ClientDescription, allocation.DesiredDescription, "it says nothing about why")}
	}
	return fmt.Sprintf("allocation %s (%s): %s", allocation.Name, shortID(allocation.ID), strings.Join(words, "; "))
}

// shortID is the part of an id that Nomad's own command shows.
func shortID(id string) string { return id[:min(len(id), 8)] }

// unplaced says for each group that found too little room why, sorted by group.
func unplaced(failures map[string]*api.AllocationMetric) []string {
	var reasons []string
	for _, group := range slices.Sorted(maps.Keys(failures)) {
		metric := failures[group]
		reasons = append(reasons, fmt.Sprintf("group %s: %d cannot be placed: %s",
			group, metric.CoalescedFailures+1, placementCauses(metric)))
	}
	return reasons
}

// placementCauses lists what stood against the nodes that were looked at.
func placementCauses(metric *api.AllocationMetric) string {
	var causes []string
	for _, constraint := range slices.Sorted(maps.Keys(metric.ConstraintFiltered)) {
		causes = append(causes, fmt.Sprintf("constraint %q leaves out %d", constraint, metric.ConstraintFiltered[constraint]))
	}
	for _, dimension := range slices.Sorted(maps.Keys(metric.DimensionExhausted)) {
		causes = append(causes, fmt.Sprintf("%s is exhausted on %d", dimension, metric.DimensionExhausted[dimension]))
	}
	if len(causes) == 0 {
		causes = append(causes, "none is eligible")
	}
	return fmt.Sprintf("of %d nodes in the pool, %s", metric.NodesInPool, strings.Join(causes, ", "))
}
