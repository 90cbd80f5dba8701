package jobs

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParsedJob(t *testing.T) {
	t.Parallel()
	job := shared.spec(t, "service", map[string]string{
		"name": "parsed", "count": "3", "note": "a $note", "racks": `["r1", "r2"]`, "quick": "false",
	})
	if job.ID() != "parsed" || job.Type() != "service" || job.Count("g") != 3 || job.Count("none") != 0 {
		t.Errorf("id %q, type %q, count %d, of no group %d", job.ID(), job.Type(), job.Count("g"), job.Count("none"))
	}
	if got := job.Environment("g", "t"); got["NOTE"] != "a $note" || got["QUICK"] != "false" {
		t.Errorf("environment %v", got)
	}
	if got := job.Environment("g", "none"); len(got) != 0 {
		t.Errorf("environment of no task: %v", got)
	}
	if !slices.Equal(job.Groups(), []string{"g"}) || !slices.Equal(job.Tasks("g"), []string{"t"}) || job.Driver("g", "t") != "raw_exec" {
		t.Errorf("groups %v, tasks %v, driver %q", job.Groups(), job.Tasks("g"), job.Driver("g", "t"))
	}
	if job.Command("g", "t") != "/bin/sh" || !slices.Equal(job.Args("g", "t"), []string{"-c", "exec sleep 1000"}) {
		t.Errorf("command %q %q", job.Command("g", "t"), job.Args("g", "t"))
	}
	want := []Service{{
		Name: "parsed", Provider: "nomad", Port: "http", Tags: []string{"front"},
		Checks: []Check{{Name: "ready", Type: "http", Path: "/readyz", Interval: 2 * time.Second, Timeout: time.Second}},
	}}
	if diff := cmp.Diff(want, job.Services("g")); diff != "" {
		t.Error(diff)
	}
	if err := shared.jobs.Validate(t.Context(), job); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrongComesOutAsOneSentence(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/service.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	service := string(text)
	for _, test := range []struct {
		name, hcl string
		variables map[string]string
		want      string
	}{
		{"out of bounds", service, map[string]string{"name": "x", "count": "0"}, "variable count: The count must be between 1 and 9."},
		{
			"not a number", service, map[string]string{"count": "many", "name": "x"},
			"variable count: The value for count is not compatible with the variable's type constraint: a number is required.",
		},
		{
			"not a list", service, map[string]string{"name": "x", "racks": `"r1"`},
			"variable racks: The value for racks is not compatible with the variable's type constraint: list of string required, but have string.",
		},
		{"none given", service, nil, "variable name: it has no default, so it must be given a value"},
		{
			"unknown", service, map[string]string{"name": "x", "cuont": "1"},
			`the job specification declares no variable "cuont"; it declares artifact, canaries, count, name, note, quick, racks, script, settle`,
		},
		{"cut short", `job "x" {`, nil, "the job specification, line 1: Unclosed configuration block: "},
		{
			"two mistakes", "job \"x\" {\n  foo = 1\n  group \"g\" { cuont = 3 }\n}", nil,
			`the job specification, line 2: Unsupported argument: An argument named "foo" is not expected here. (and 1 more)`,
		},
		{"empty", "", nil, "the job specification: Job spec is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := shared.jobs.Parse(t.Context(), test.hcl, test.variables)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestANotValidJobIsNamed(t *testing.T) {
	t.Parallel()
	job, err := shared.jobs.Parse(t.Context(), "job \"hollow\" {\n group \"g\" {\n }\n}", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.jobs.Validate(t.Context(), job); err == nil || !strings.Contains(err.Error(), "job hollow is not valid: ") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// TestAnyTextSurvivesAsAVariable: what a value holds must not be read as HCL.
func TestAnyTextSurvivesAsAVariable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/service.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	tricky := []string{`"`, `\`, "${", "%{", "}", "$", "%", "\n", "\r", "\t", "#", "//", "<<E", "é", "日", "😀", "a b"}
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SliceOf(rapid.SampledFrom(tricky)).Draw(t, "value")
		want := strings.Join(value, "")
		job, err := shared.jobs.Parse(context.Background(), string(text), map[string]string{"name": "x", "note": want})
		if err != nil {
			t.Fatal(err)
		}
		if got := job.Environment("g", "t")["NOTE"]; got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

func TestParseSentences(t *testing.T) {
	datadriven.RunTest(t, "testdata/sentences.txt", func(t *testing.T, d *datadriven.TestData) string {
		var names []string
		if d.HasArg("names") {
			for _, arg := range d.CmdArgs {
				names = append(names, arg.Vals...)
			}
		}
		return parseSentence(d.Input, names) + "\n"
	})
}

func TestSpecs(t *testing.T) {
	if len(Specs()) == 0 {
		t.Fatal("no specification is embedded")
	}
	for _, name := range Specs() {
		source, err := Source(name)
		if err != nil || !strings.Contains(source, "job ") {
			t.Errorf("%s: %v, %d bytes", name, err, len(source))
		}
	}
	if _, err := Source("nothing"); err == nil || !strings.Contains(err.Error(), Specs()[0]) {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestConnectRefusesAnAddressThatIsNone(t *testing.T) {
	for _, address := range []string{"127.0.0.1:4646", "ftp://x", "unix://", "http://", "http://[::1"} {
		if _, err := Connect(Config{Address: address}); err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("%q: got %v", address, err)
		}
	}
}

func TestAbsentNomad(t *testing.T) {
	absent, err := Connect(Config{Address: "unix:///nowhere/api.sock"})
	if err != nil {
		t.Fatal(err)
	}
	defer absent.Close()
	_, err = absent.Nodes(t.Context())
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "unix:///nowhere/api.sock") {
		t.Errorf("got %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := absent.Nodes(ended); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
		t.Errorf("after the caller's end: %v", err)
	}
}
