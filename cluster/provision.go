package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// variables are what this machine's region differs in from a real one: few and
// small workers, and little to carry.
func (c *cluster) variables(r, s3Server release) (map[string]any, error) {
	prices, err := os.ReadFile(filepath.Join(c.project, "usage", "billing", "prices.json"))
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"release":           map[string]any{"url": r.url, "sha256": r.sha256},
		"datacenters":       []string{datacenter},
		"rate":              50,
		"cpu_ms_per_call":   10,
		"cores_per_server":  1,
		"racks":             len(racks()),
		"gateways":          3,
		"gateway_memory_mb": 256,
		"max_wait":          "1s", // three racks on one machine's cores: that all of it is late is no overload
		"redis":             map[string]any{"memory": 128},
		"queue":             map[string]any{"store_mb": 1024, "cpu": 200, "memory": 256},
		"functions": map[string]any{
			// Two slots, for a rack that is lost may have had two of the three workers.
			"resize": map[string]any{"floor": 3, "ceiling": 6, "slots": 2, "cpu": 1000, "memory": 384, "memory_max": 2048},
			"echo":   map[string]any{"floor": 0, "ceiling": 4, "slots": 8, "cpu": 200, "memory": 256, "memory_max": 1024, "cold_start": 10},
		},
		"front_door": map[string]any{"bind": []string{"127.0.0.1", serverAddress}},
		"scheduling": map[string]any{"stable_window": "30s", "down_cool_down": "10s", "zero_after": "1m"},
		"store":      map[string]any{"server_url": s3Server.url, "server_sha256": s3Server.sha256, "port": storePort},
		"usage":      map[string]any{"bucket": usageBucket, "prices": string(prices), "shares": len(racks()), "memory": 384},
	}, nil
}

// terraform runs the project's Terraform on this cluster.
type terraform struct {
	executable, module, folder string
	environment                []string
}

// prepare finds Terraform and its provider: the real one where the Terraform
// registry can be reached, else the project's stand-in for it, which it says.
func (c *cluster) prepare(ctx context.Context, say io.Writer) (*terraform, error) {
	executable, err := exec.LookPath("terraform")
	if err != nil {
		return nil, fmt.Errorf("no terraform is on the PATH: install it from https://developer.hashicorp.com/terraform/install")
	}
	t := &terraform{executable: executable, module: filepath.Join(c.project, "terraform"), folder: c.folder}
	t.environment = append(cleanEnvironment(os.Environ()),
		"TF_DATA_DIR="+filepath.Join(c.folder, ".terraform"), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "NOMAD_ADDR="+nomadURL)
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err = t.run(bounded, io.Discard, "init", "-input=false", "-no-color"); err == nil {
		return t, nil
	}
	fmt.Fprintln(say, "  the Terraform registry cannot be reached; the project's stand-in takes the provider's place")
	out, err := exec.CommandContext(ctx, filepath.Join(t.module, "standin", "build")).Output()
	if err != nil {
		return nil, fmt.Errorf("build the stand-in provider: %w", err)
	}
	settings := filepath.Join(c.folder, "terraform.rc")
	text := fmt.Sprintf("provider_installation {\n  dev_overrides { \"hashicorp/nomad\" = %q }\n  direct {}\n}\n", strings.TrimSpace(string(out)))
	t.environment = append(t.environment, "TF_CLI_CONFIG_FILE="+settings)
	return t, os.WriteFile(settings, []byte(text), 0o600)
}

// run runs one Terraform command to its end, its output going to out.
func (t *terraform) run(ctx context.Context, out io.Writer, args ...string) error {
	command := exec.CommandContext(ctx, t.executable, append([]string{"-chdir=" + t.module}, args...)...)
	command.Env = t.environment
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 30 * time.Second
	var words strings.Builder
	command.Stdout = io.MultiWriter(out, &words)
	command.Stderr = command.Stdout
	if err := command.Run(); err != nil {
		return fmt.Errorf("terraform %s: %w\n%s", args[0], err, words.String())
	}
	return nil
}

func (t *terraform) variablesFile() string { return filepath.Join(t.folder, "terraform.tfvars.json") }

// state are the flags that every command about the region needs.
func (t *terraform) state() []string {
	return []string{
		"-input=false", "-no-color", "-compact-warnings",
		"-state=" + filepath.Join(t.folder, "terraform.tfstate"),
		"-var-file=" + t.variablesFile(),
	}
}

// apply provisions the region with these variables.
func (t *terraform) apply(ctx context.Context, out io.Writer, variables map[string]any) error {
	text, err := json.MarshalIndent(variables, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.variablesFile(), text, 0o600); err != nil {
		return err
	}
	return t.run(ctx, out, append([]string{"apply", "-auto-approve"}, t.state()...)...)
}

// unchanged says whether a plan would change nothing; else the error tells what.
func (t *terraform) unchanged(ctx context.Context) error {
	return t.run(ctx, io.Discard, append([]string{"plan", "-detailed-exitcode"}, t.state()...)...)
}
