package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRegion makes the whole region with `make cluster`'s program, lets everything
// in the drills' list go wrong in it, and removes it. It needs root, the ports of
// the cluster, and what `make test` installs and builds.
func TestRegion(t *testing.T) {
	project, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	t.Cleanup(cancel) // registered first, so it is called after the cluster has gone
	program := filepath.Join(t.TempDir(), "cluster")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	do := func(args ...string) (string, error) {
		var said bytes.Buffer
		both := io.MultiWriter(&said, os.Stderr)
		command := exec.CommandContext(ctx, program, args...)
		command.Dir, command.Stdout, command.Stderr = project, both, both // one writer: one goroutine
		command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
		err := command.Run()
		return said.String(), err
	}
	there := &cluster{}
	if err := there.load(); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(there.processes, process.alive) {
		t.Fatal("a cluster is running on this machine: `make cluster-down` removes it")
	}
	if out, err := do("down"); err != nil { // what an interrupted run has left
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := do("down"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		checkNothingLeft(t)
	})

	t.Run("up", func(t *testing.T) {
		out, err := do("up")
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, logs())
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		checkCurl(t, project, strings.TrimSpace(lines[len(lines)-1]))
	})
	if t.Failed() {
		return
	}
	t.Run("a second one says so", func(t *testing.T) {
		if out, err := do("up"); err == nil || !strings.Contains(out, "make cluster-down") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("a plan is empty", func(t *testing.T) {
		c := &cluster{project: project, folder: filepath.Join(project, "lightcone-cluster")}
		provisioner, err := c.prepare(ctx, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := provisioner.unchanged(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("Consul denies by default", func(t *testing.T) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, consulURL+"/v1/kv/lightcone/scheduler/leader", strings.NewReader("me"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("without a token, the leader's key can be written: %s", response.Status)
		}
	})
	t.Run("management is for operators", func(t *testing.T) { checkManagement(ctx, t, project) })
	t.Run("metrics are for operators", func(t *testing.T) { checkMetrics(ctx, t, project) })
	t.Run("drills", func(t *testing.T) {
		if out, err := do("drill"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// checkCurl runs the line that the cluster prints last, as it is.
func checkCurl(t *testing.T, project, line string) {
	t.Helper()
	if !strings.HasPrefix(line, "curl ") {
		t.Fatalf("the last line is no curl line: %q", line)
	}
	small := filepath.Join(project, "small.jpg")
	defer os.Remove(small)
	command := exec.Command("bash", "-c", line)
	command.Dir = project
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	image, err := os.ReadFile(small)
	if err != nil || !bytes.HasPrefix(image, []byte("\xff\xd8\xff")) {
		t.Errorf("the curl line gave no JPEG: %d bytes, %v", len(image), err)
	}
}

// checkManagement: the operators' port leads to the management plane, for those with
// the operator's key; the public port does not, whoever asks.
func checkManagement(ctx context.Context, t *testing.T, project string) {
	key, err := os.ReadFile(filepath.Join(project, "lightcone-cluster", "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/tenants", "/v1/tenants/demo", "/v1/audit", "/v1/quarantine", "/v1/keys/x"} {
		for _, test := range []struct {
			at, key string
			status  []int
		}{
			{operatorsURL, strings.TrimSpace(string(key)), []int{http.StatusOK, http.StatusNotFound}}, // no key has the id x
			{operatorsURL, "", []int{http.StatusUnauthorized}},
			{frontDoorURL, strings.TrimSpace(string(key)), []int{http.StatusNotFound}},
			{frontDoorURL, "", []int{http.StatusNotFound}},
		} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, test.at+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.key != "" {
				request.Header.Set("Authorization", "Bearer "+test.key)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if !slices.Contains(test.status, response.StatusCode) || err != nil {
				t.Errorf("%s%s, with a key: %v: %s, %s (%v)", test.at, path, test.key != "", response.Status, text, err)
			}
			if leaked := strings.Contains(string(text), "demo"); leaked != (response.StatusCode == http.StatusOK && path != "/v1/quarantine") {
				t.Errorf("%s%s, with a key: %v: names the tenant demo: %v", test.at, path, test.key != "", leaked)
			}
		}
	}
}

// checkMetrics follows the links of Consul's UI.
func checkMetrics(ctx context.Context, t *testing.T, project string) {
	key, err := os.ReadFile(filepath.Join(project, "lightcone-cluster", "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"gateway", "worker-resize", "scheduler", "identity"} {
		for _, password := range []string{strings.TrimSpace(string(key)), "wrong"} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8404/metrics/"+service, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.SetBasicAuth("operator", password)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if password == "wrong" {
				if response.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s with a wrong password: %s", service, response.Status)
				}
			} else if err != nil || !strings.Contains(string(text), "\nlightcone_") {
				t.Errorf("%s: %s, %d bytes without a metric of Lightcone (%v)", service, response.Status, len(text), err)
			}
		}
	}
}

// checkNothingLeft looks for what a removed cluster must not leave.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	if left := tasks(); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	for _, h := range racks() {
		if _, err := os.Stat("/run/netns/" + h.Name); err == nil {
			t.Errorf("the namespace %s is left", h.Name)
		}
	}
	if _, err := os.Stat(agentsFolder); err == nil {
		t.Errorf("the folder %s is left", agentsFolder)
	}
	if err := command(context.Background(), "ip", "link", "show", bridge); err == nil {
		t.Errorf("the bridge %s is left", bridge)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), agentsFolder) {
		t.Errorf("something is still mounted below %s (%v)", agentsFolder, err)
	}
}

// logs are the ends of the agents' logs, for a cluster that did not come up.
func logs() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(agentsFolder, "logs", "*.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		all.WriteString("== " + filepath.Base(file) + "\n")
		all.Write(text[max(0, len(text)-2000):])
	}
	return all.String()
}
