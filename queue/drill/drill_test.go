package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestDrills lets each drill's fault happen for a short time. It needs root.
func TestDrills(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "drill")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var said bytes.Buffer
	command := exec.CommandContext(ctx, program, "-for", "5s", "-dir", t.TempDir())
	both := io.MultiWriter(&said, os.Stderr)
	command.Stdout, command.Stderr = both, both
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for _, h := range network.Hosts {
		if _, err := os.Stat("/run/netns/" + h.Name); err == nil {
			t.Errorf("the namespace %s is left", h.Name)
		}
	}
}
