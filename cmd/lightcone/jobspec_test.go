package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lightcone"
	"lightcone/jobs"
)

// lightconeTask is a task of a specification that starts this program.
type lightconeTask struct {
	spec        string
	args        []string
	environment map[string]string
}

// lightconeTasks has Nomad read a specification and picks the tasks that start
// this program.
func lightconeTasks(t *testing.T, nomad *jobs.Client, spec string, variables map[string]string) (tasks []lightconeTask) {
	t.Helper()
	job := parsedJob(t, nomad, spec, variables)
	for _, group := range job.Groups() {
		for _, task := range job.Tasks(group) {
			if job.Command(group, task) == "local/lightcone" {
				tasks = append(tasks, lightconeTask{spec: spec, args: job.Args(group, task), environment: job.Environment(group, task)})
			}
		}
	}
	return tasks
}

func parsedJob(t *testing.T, nomad *jobs.Client, spec string, variables map[string]string) *jobs.Job {
	t.Helper()
	source, err := jobs.Source(spec)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{}
	if strings.Contains(source, `variable "release_url"`) {
		given["release_url"], given["release_sha256"] = "http://127.0.0.1/lightcone.tar.gz", strings.Repeat("0", 64)
	}
	if strings.Contains(source, `variable "server_url"`) {
		given["server_url"], given["server_sha256"] = "http://127.0.0.1/versitygw.tar.gz", strings.Repeat("0", 64)
	}
	maps.Copy(given, variables)
	job, err := nomad.Parse(t.Context(), source, given)
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return job
}

var (
	interpolation = regexp.MustCompile(`\$\{([^}]*)\}`)
	// A template of a key: where it is written, and which item of the Nomad variable.
	keyTemplate = regexp.MustCompile(`destination = "\$\{NOMAD_SECRETS_DIR\}/([^"]+)"\s+data\s+= "\{\{ with nomadVar \\"([^"]+)\\" \}\}\{\{ \.(\w+) \}\}\{\{ end \}\}"`)
)

// onANode is the environment as Nomad fills it in on a node, where the templates
// have written the region's keys into secrets.
func onANode(task lightconeTask, secrets string) (map[string]string, error) {
	known := map[string]string{
		"NOMAD_SECRETS_DIR": secrets, "NOMAD_TASK_DIR": "/local", "NOMAD_ALLOC_DIR": "/alloc",
		"NOMAD_ALLOC_ID": "0f0e0d0c-0000-4000-8000-000000000001", "NOMAD_ALLOC_INDEX": "0",
		"NOMAD_META_in": "file:///photographs/in", "NOMAD_META_out": "file:///photographs/out", "NOMAD_META_params": "width=300", "NOMAD_META_run": "resize-bulk",
		"meta.rack": "r1", "node.unique.name": "a1",
	}
	filled := make(map[string]string)
	var unknown []string
	for name, value := range task.environment {
		filled[name] = interpolation.ReplaceAllStringFunc(value, func(whole string) string {
			variable := interpolation.FindStringSubmatch(whole)[1]
			switch {
			case strings.HasPrefix(variable, "NOMAD_IP_"):
				return "192.0.2.7"
			case strings.HasPrefix(variable, "NOMAD_PORT_"):
				return "23456"
			case known[variable] == "":
				unknown = append(unknown, variable)
			}
			return known[variable]
		})
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("there is nothing in Nomad that fills in %s", strings.Join(unknown, ", "))
	}
	return filled, nil
}

// secretsOf makes the files that the templates of a specification make, out of
// keys.json as `lightcone keys` makes it.
func secretsOf(t *testing.T, spec string) (folder string) {
	t.Helper()
	keys := t.TempDir()
	if err := makeKeys(keys); err != nil {
		t.Fatal(err)
	}
	var variable struct {
		Path  string
		Items map[string]string
	}
	if err := json.Unmarshal(readBytes(t, filepath.Join(keys, "keys.json")), &variable); err != nil {
		t.Fatal(err)
	}
	source, err := jobs.Source(spec)
	if err != nil {
		t.Fatal(err)
	}
	folder = t.TempDir()
	for _, found := range keyTemplate.FindAllStringSubmatch(source, -1) {
		file, path, item := found[1], found[2], found[3]
		content, there := variable.Items[item]
		if path != variable.Path || !there {
			t.Fatalf("%s: a template takes %s of the Nomad variable %s, which `lightcone keys` does not make", spec, item, path)
		}
		write(t, filepath.Join(folder, file), content)
	}
	return folder
}

// check checks a task, and that the check would notice: with any of its settings
// misspelt, without any file that it names, and with values that are none.
func check(t *testing.T, task lightconeTask) {
	t.Helper()
	environment, err := onANode(task, secretsOf(t, task.spec))
	if err != nil {
		t.Fatalf("%s: %v", task.spec, err)
	}
	if err := fit(task, environment); err != nil {
		t.Errorf("%s: `lightcone %s` with %v: %v", task.spec, strings.Join(task.args, " "), environment, err)
	}
	for name := range environment {
		if !strings.HasPrefix(name, settingPrefix) {
			continue
		}
		for what, change := range map[string]func(map[string]string){
			"misspelt":      func(e map[string]string) { e[name+"S"] = e[name]; delete(e, name) },
			"with a prefix": func(e map[string]string) { e[settingPrefix+"X"] = "" },
			"garbled":       func(e map[string]string) { e[name] = "\x00 no value of anything: %zz" },
		} {
			doctored := maps.Clone(environment)
			change(doctored)
			if what == "garbled" && (name == "LIGHTCONE_NAME" || name == "LIGHTCONE_BULK_IN" || name == "LIGHTCONE_BULK_OUT") {
				continue // any text will do, or bulk.Open finds out
			}
			if fit(task, doctored) == nil {
				t.Errorf("%s: %s %s, and the check does not notice", task.spec, name, what)
			}
		}
	}
	task.args = append(slices.Clone(task.args[:len(task.args)-1]), task.args[len(task.args)-1]+"s")
	if fit(task, environment) == nil {
		t.Errorf("%s: a command that is misspelt is not noticed", task.spec)
	}
}

// withResize puts the resize function beside this test's executable, where the
// commands look for it.
func withResize(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := write(t, filepath.Join(filepath.Dir(self), "lightcone-resize"), "")
	t.Cleanup(func() { _ = os.Remove(beside) })
}

func specificationsFit(t *testing.T, nomad *jobs.Client) {
	withResize(t)
	var started []string
	for _, spec := range jobs.Specs() {
		for _, task := range lightconeTasks(t, nomad, spec, nil) {
			started = append(started, strings.Join(task.args, " "))
			check(t, task)
		}
	}
	if want := []string{"gateway", "identity", "queue", "bulk run", "scheduler", "worker"}; !slices.Equal(started, want) {
		t.Errorf("the specifications start %q, want %q", started, want)
	}
}

// terraformFits takes the variables as terraform/main.tf and scheduling.tf make
// them, with nothing left at its default.
func terraformFits(t *testing.T, nomad *jobs.Client) {
	withResize(t)
	for spec, variables := range map[string]map[string]string{
		"gateway":     {"count": "7", "functions": "resize,echo:cold=15s,shout:cold=3s", "max_wait": "1s", "memory": "300", "usage_bucket": "s3://usage?region=eu-central-1", "usage_volume": "disk", "callback_allow": `["10.1.0.0/16","fd00::/8"]`, "callback_forbid": `["203.0.113.0/24"]`},
		"worker":      {"function": "shout=/bin/true", "floor": "0", "ceiling": "40", "slots": "4", "memory": "464", "cpu": "3000", "cores": "4", "memory_max": "6000", "usage_bucket": "s3://usage?region=eu-central-1"},
		"queue":       {"store": "50000", "keep": "48h", "cpu": "900", "memory": "700", "callback_allow": `["10.1.0.0/16","fd00::/8"]`, "callback_forbid": `["203.0.113.0/24"]`},
		"scheduler":   {"count": "5", "policies": terraformPolicies(t)},
		"resize-bulk": {"shares": "24", "slots": "2", "volume": ""},
	} {
		for _, task := range lightconeTasks(t, nomad, spec, variables) {
			check(t, task)
		}
	}
}

// terraformPolicies are the policies that terraform/scheduling.tf makes, with every
// field that it can give.
func terraformPolicies(t *testing.T) string {
	t.Helper()
	source := read(t, "../../terraform/scheduling.tf")
	policy := map[string]any{}
	for _, field := range regexp.MustCompile(`(?m)^\s+(\w+)\s+= optional\((\w+)\)`).FindAllStringSubmatch(source, -1) {
		policy[field[1]] = map[string]any{"string": "1m30s", "number": 0.3}[field[2]]
	}
	for _, field := range regexp.MustCompile(`(\w+) = (name|f\.\w+)[,\s]`).FindAllStringSubmatch(source, -1) {
		policy[field[1]] = 4
	}
	if len(policy) != 11 {
		t.Fatalf("terraform/scheduling.tf makes policies of %v", policy)
	}
	policy["function"] = "resize"
	text, err := json.Marshal([]any{policy})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// namesFit: the gateways and schedulers find workers by the names that the
// specifications register them under.
func namesFit(t *testing.T, nomad *jobs.Client) {
	registered := func(job *jobs.Job, group string) (names []string) {
		for _, service := range job.Services(group) {
			names = append(names, service.Name)
		}
		return names
	}
	for function, value := range map[lightcone.FunctionName]string{"resize": "resize", "shout": "shout=/bin/true"} {
		job := parsedJob(t, nomad, "worker", map[string]string{"function": value})
		want := workerService(function)
		if !slices.Contains(registered(job, workerGroup), workerManagement(function)) {
			t.Errorf("the job %s registers %v, and gateways look for %s", job.ID(), registered(job, workerGroup), workerManagement(function))
		}
		if job.ID() != want || !slices.Equal(job.Groups(), []string{workerGroup}) || !slices.Contains(registered(job, workerGroup), want) {
			t.Errorf("the job %s has the groups %v and registers %v; want %s, %s, %s", job.ID(), job.Groups(), registered(job, workerGroup), want, workerGroup, want)
		}
	}
	if names := registered(parsedJob(t, nomad, "queue", nil), "queue"); !slices.Contains(names, queueManagement) {
		t.Errorf("the queue's nodes register %v, and schedulers look for %s", names, queueManagement)
	}
	if names := registered(parsedJob(t, nomad, "gateway", nil), "gateway"); !slices.Contains(names, gatewayManagement) {
		t.Errorf("the gateways register %v, and schedulers look for %s", names, gatewayManagement)
	}
}
