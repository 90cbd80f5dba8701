package functions

import (
	"strings"
	"testing"

	"lightcone/internal/problem"
)

func TestRefusals(t *testing.T) {
	long := strings.Repeat("é", longestDetail)
	for _, test := range []struct {
		name   string
		result Result
		kind   problem.Kind // "" when the answer is passed on
		detail string
	}{
		{"a good answer", Result{Status: 200, Body: []byte("pixels")}, "", ""},
		{"the function's own 503", Result{Status: 503, Body: []byte("No.")}, "", ""},
		{"a named problem", Result{Status: 500, Problem: problem.BadParameter, Body: []byte("The width is 0.")}, problem.BadParameter, "The width is 0."},
		{"not its to name", Result{Status: 500, Problem: problem.Cancelled, Body: []byte("No.")}, problem.FunctionFailed, `The function named the problem "cancelled", which is not for functions to name.`},
		{"no answer", Result{Problem: problem.Cancelled, Body: []byte("It was stopped.")}, problem.Cancelled, "It was stopped."},
		{"not a final answer", Result{Status: 100}, problem.FunctionFailed, "The function answered with the status 100, which is not one of a final answer."},
		{"no status", Result{Status: 1000}, problem.FunctionFailed, "The function answered with the status 1000, which is not one of a final answer."},
		{"a percent sign", Result{Status: 500, Problem: problem.CorruptInput, Body: []byte("100%d")}, problem.CorruptInput, "100%d"},
		{"a long sentence", Result{Status: 500, Problem: problem.CorruptInput, Body: []byte(long + "more")}, problem.CorruptInput, long},
		{"a long one without an answer", Result{Problem: problem.FunctionCrashed, Body: []byte(long + "more")}, problem.FunctionCrashed, long},
	} {
		found := test.result.Refusal()
		if found == nil {
			found = &problem.Error{}
		}
		if found.Kind != test.kind || found.Detail != test.detail {
			t.Errorf("%s: %q, %.100q", test.name, found.Kind, found.Detail)
		}
	}
}
