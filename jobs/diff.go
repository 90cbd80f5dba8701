package jobs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

const diffNone = "None"

// diffMarks stand in front of a changed line, as in Nomad's own plan.
var diffMarks = map[string]string{"Added": "+ ", "Deleted": "- ", "Edited": "+/- ", diffNone: ""}

// diffWriter collects lines, each indented by two blanks a level.
type diffWriter struct{ strings.Builder }

// diffText is what a plan changes, one thing a line; empty when nothing does.
func diffText(diff *api.JobDiff) string {
	var w diffWriter
	if diff.Type == diffNone {
		return ""
	}
	w.line(0, diff.Type, fmt.Sprintf("job %q", diff.ID))
	w.fields(1, diff.Fields)
	w.objects(1, diff.Objects)
	for _, group := range diff.TaskGroups {
		if group.Type == diffNone && len(group.Updates) == 0 {
			continue
		}
		w.line(1, group.Type, fmt.Sprintf("group %q%s", group.Name, updatesText(group.Updates)))
		w.fields(2, group.Fields)
		w.objects(2, group.Objects)
		for _, task := range group.Tasks {
			if task.Type == diffNone {
				continue
			}
			w.line(2, task.Type, fmt.Sprintf("task %q%s", task.Name, notesText(task.Annotations)))
			w.fields(3, task.Fields)
			w.objects(3, task.Objects)
		}
	}
	return w.String()
}

func (w *diffWriter) line(level int, kind, text string) {
	fmt.Fprintf(w, "%s%s%s\n", strings.Repeat("  ", level), diffMarks[kind], text)
}

func (w *diffWriter) fields(level int, fields []*api.FieldDiff) {
	for _, field := range fields {
		value := ""
		switch field.Type {
		case "Added":
			value = fmt.Sprintf("%q", field.New)
		case "Deleted":
			value = fmt.Sprintf("%q", field.Old)
		case "Edited":
			value = fmt.Sprintf("%q => %q", field.Old, field.New)
		default: // what stays is only context
			continue
		}
		w.line(level, field.Type, fmt.Sprintf("%s: %s%s", field.Name, value, notesText(field.Annotations)))
	}
}

func (w *diffWriter) objects(level int, objects []*api.ObjectDiff) {
	for _, object := range objects {
		if object.Type == diffNone {
			continue
		}
		w.line(level, object.Type, object.Name)
		w.fields(level+1, object.Fields)
		w.objects(level+1, object.Objects)
	}
}

// updatesText is how many of a group's allocations a plan would create, replace, stop.
func updatesText(updates map[string]uint64) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(updates)) {
		parts = append(parts, fmt.Sprintf("%d %s", updates[what], what))
	}
	return notesText(parts)
}

func notesText(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, ", ") + ")"
}
