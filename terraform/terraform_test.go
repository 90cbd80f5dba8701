package terraform_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// terraform runs the real one in a folder, with the stand-in for the provider.
type terraform struct {
	folder    string
	arguments []string // of every plan, apply and destroy
	config    string   // Terraform's own configuration
}

// standin builds the provider's stand-in, once for all tests.
var standin = sync.OnceValues(func() (string, error) {
	folder, err := exec.Command("standin/build").Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = fmt.Errorf("build the stand-in: %w: %s", err, failed.Stderr)
	}
	return strings.TrimSpace(string(folder)), err
})

// newTerraform works on a copy of the module in source, whose other folders (the
// job specifications) stay where they are, relative to it.
func newTerraform(t *testing.T, source string, arguments ...string) terraform {
	t.Helper()
	provider, err := standin()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	tf := terraform{folder: filepath.Join(root, "terraform"), arguments: arguments, config: filepath.Join(root, "terraform.rc")}
	copyFiles(t, source, tf.folder, "*")
	copyFiles(t, "../jobs", filepath.Join(root, "jobs"), "*.nomad.hcl")
	content := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"hashicorp/nomad\" = %q\n  }\n  direct {}\n}\n", provider)
	if err := os.WriteFile(tf.config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return tf
}

// copyFiles copies the files of a folder that match, without folders.
func copyFiles(t *testing.T, from, to string, patterns ...string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no file %s in %s (%v)", pattern, from, err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || info.IsDir() {
				continue
			}
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(name)), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// run gives what a command said and its exit code.
func (tf terraform) run(t *testing.T, command string, arguments ...string) (said string, code int) {
	t.Helper()
	all := append([]string{command, "-no-color"}, arguments...)
	switch command {
	case "plan", "apply", "destroy":
		all = append(append(all, "-input=false", "-lock=false"), tf.arguments...)
	}
	terraform := exec.CommandContext(t.Context(), "terraform", all...)
	terraform.Dir = tf.folder
	terraform.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+tf.config, "CHECKPOINT_DISABLE=1", "NOMAD_ADDR=")
	output, err := terraform.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Fatalf("terraform, which must be on PATH: %v", err)
	}
	return string(output), terraform.ProcessState.ExitCode()
}

// must runs a command that works.
func (tf terraform) must(t *testing.T, command string, arguments ...string) string {
	t.Helper()
	said, code := tf.run(t, command, arguments...)
	if code != 0 {
		t.Fatalf("terraform %s %q ended with %d:\n%s", command, arguments, code, said)
	}
	return said
}

// planned gives what a plan would do, by resource; nothing when it is empty.
func (tf terraform) planned(t *testing.T, arguments ...string) map[string]string {
	t.Helper()
	said, code := tf.run(t, "plan", append(arguments, "-detailed-exitcode", "-json")...)
	if code != 0 && code != 2 {
		t.Fatalf("terraform plan %q ended with %d:\n%s", arguments, code, said)
	}
	changes := make(map[string]string)
	for line := range strings.Lines(said) {
		var event struct {
			Type   string
			Change struct {
				Resource struct{ Addr string }
				Action   string
			}
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("terraform said %q: %v", line, err)
		}
		if event.Type == "planned_change" {
			changes[event.Change.Resource.Addr] = event.Change.Action
		}
	}
	if (code == 0) != (len(changes) == 0) {
		t.Fatalf("exit code %d, and the changes %v:\n%s", code, changes, said)
	}
	return changes
}

// plan is what tests look at in a saved plan.
type plan struct {
	ResourceChanges []struct {
		Address string
		Change  struct {
			Actions []string
			After   map[string]any
		}
	} `json:"resource_changes"`
	PlannedValues struct {
		Outputs map[string]struct{ Value json.RawMessage }
	} `json:"planned_values"`
}

func (tf terraform) show(t *testing.T) (saved plan) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "terraform", "show", "-json", "planned")
	command.Dir = tf.folder
	command.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+tf.config, "CHECKPOINT_DISABLE=1")
	content, err := command.Output()
	if err != nil {
		t.Fatalf("terraform show: %v", err)
	}
	if err := json.Unmarshal(content, &saved); err != nil {
		t.Fatal(err)
	}
	return saved
}

// output runs a program that works, in a folder.
func output(t *testing.T, folder, program string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Dir = folder
	said, err := command.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", program, arguments, err)
	}
	return string(said)
}
