package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// module is this folder's module with a state, variables and data of its own.
type module struct {
	t         *testing.T
	folder    string
	variables map[string]any
}

// newModule initialises the module; the registry is never asked.
func newModule(t *testing.T) *module {
	t.Helper()
	// Go reuses a test's outcome until a file changes that the test itself opened.
	for _, pattern := range []string{"*.tf", "agent/*.tf", "scripts/*", "templates/*", "testdata/*", "../../consul/policies/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v %v", pattern, files, err)
		}
		for _, file := range files {
			if _, err := os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := &module{t: t, folder: t.TempDir(), variables: map[string]any{}}
	if err := os.WriteFile(filepath.Join(m.folder, "terraformrc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := m.terraform("init", "-input=false"); err != nil {
		t.Fatalf("terraform init: %v\n%s", err, said)
	}
	return m
}

// terraform runs a command of Terraform within four minutes.
func (m *module) terraform(args ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 4*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "terraform", args...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	command.Env = append(os.Environ(), "TF_DATA_DIR="+filepath.Join(m.folder, "data"),
		"TF_CLI_CONFIG_FILE="+filepath.Join(m.folder, "terraformrc"), "TF_CLI_ARGS=-no-color", "CHECKPOINT_DISABLE=1")
	output, err := command.CombinedOutput()
	return string(output), err
}

// with runs plan, apply or destroy on the module's variables and state.
func (m *module) with(command string, args ...string) (string, error) {
	m.t.Helper()
	content, err := json.Marshal(m.variables)
	if err != nil {
		m.t.Fatal(err)
	}
	file := filepath.Join(m.folder, "variables.tfvars.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return m.terraform(append([]string{command, "-input=false", "-lock=false", "-state=" + m.state(), "-var-file=" + file}, args...)...)
}

func (m *module) state() string { return filepath.Join(m.folder, "terraform.tfstate") }

// apply applies, and gives the resources that it created, changed or destroyed.
func (m *module) apply() []string {
	m.t.Helper()
	said, err := m.with("apply", "-auto-approve", "-json")
	if err != nil {
		m.t.Fatalf("terraform apply: %v\n%s", err, messages(said))
	}
	touched := make(map[string]bool)
	for line := range strings.Lines(said) {
		var event struct {
			Type string
			Hook struct{ Resource struct{ Addr string } }
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			m.t.Fatalf("terraform apply said %q: %v", line, err)
		}
		if event.Type == "apply_start" {
			touched[event.Hook.Resource.Addr] = true
		}
	}
	return slices.Sorted(maps.Keys(touched))
}

// messages are what a person reads of Terraform's JSON.
func messages(lines string) string {
	var text strings.Builder
	for line := range strings.Lines(lines) {
		var event struct {
			Message    string `json:"@message"`
			Diagnostic struct{ Detail string }
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			text.WriteString(line)
			continue
		}
		text.WriteString(event.Message + " " + event.Diagnostic.Detail + "\n")
	}
	return text.String()
}

// changes says whether a plan finds anything to do.
func (m *module) changes() (found bool, said string) {
	m.t.Helper()
	said, err := m.with("plan", "-detailed-exitcode")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, said
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		return true, said
	}
	m.t.Fatalf("terraform plan: %v\n%s", err, said)
	return false, ""
}

// output is one of the module's outputs, a string.
func (m *module) output(name string) string {
	m.t.Helper()
	said, err := m.terraform("output", "-raw", "-state="+m.state(), name)
	if err != nil {
		m.t.Fatalf("terraform output %s: %v\n%s", name, err, said)
	}
	return said
}

// agentPath is the executable of consul or nomad.
func agentPath(t *testing.T, name string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "internal/tools/agent", name)
	command.Dir = "../.."
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("internal/tools/agent %s: %v: %s", name, err, stderr.String())
	}
	return strings.TrimSpace(string(output))
}
