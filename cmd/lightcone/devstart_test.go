package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/cmd/internal/commandline"
	"lightcone/functions"
	supervisor "lightcone/functions/runtime"
	"lightcone/identity"
	"lightcone/internal/testbed"
)

func TestDevSaysWhyItCannotStart(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"))
	spoilt := t.TempDir()
	if err := os.WriteFile(filepath.Join(spoilt, "demo.key"), []byte("not a key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, data, api, flags string
		code                   int
		want                   string
	}{
		{"a data folder in use", d.data, freeAddress(t), "", commandline.Failed, "another Lightcone is running on the data folder"},
		{"an address in use", t.TempDir(), d.api, "", commandline.Failed, "choose another address with --api"},
		{"a spoilt key", spoilt, freeAddress(t), "", commandline.Failed, "does not hold a key"},
		{"a data folder that is a file", photo, freeAddress(t), "", commandline.Failed, "data folder"},
		{"no slots", t.TempDir(), freeAddress(t), "--slots 0", commandline.NotUnderstood, "lightcone: --slots 0: want 1 to 1024"},
		{"another resize", t.TempDir(), freeAddress(t), "--function resize=/bin/true", commandline.NotUnderstood, "lightcone: --function resize=/bin/true: there is a function resize already"},
		{"one name for two", t.TempDir(), freeAddress(t), "--function x=/bin/true --port-function x=/bin/false", commandline.NotUnderstood, "lightcone: --port-function x=/bin/false: there is a function x already"},
		{"a name that its socket has no room for", t.TempDir(), freeAddress(t), "--function seventeen-letters=/bin/true", commandline.Failed, `lightcone: supervisor: start: function "seventeen-letters": at most 16 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			command := exec.Command(d.command.Path, append([]string{"dev", "--data", test.data, "--api", test.api, "--manage", freeAddress(t)}, strings.Fields(test.flags)...)...)
			output, err := command.CombinedOutput()
			if code := command.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(output), test.want) {
				t.Errorf("it ended with %v and said %q; want exit code %d and %q", err, output, test.code, test.want)
			}
			if strings.Contains(string(output), "already ending") {
				t.Errorf("it tells of what came after the failure: %q", output)
			}
		})
	}
}

func TestDevThatIsStoppedWhileItStartsFailsInNothing(t *testing.T) {
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var said testbed.Log
	command := exec.Command(filepath.Join(bin, "lightcone"), "dev", "--data", filepath.Join(t.TempDir(), "data"),
		"--api", freeAddress(t), "--manage", freeAddress(t), "--function", "never=/bin/false")
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	d := &devTree{command: command, said: &said, ended: make(chan error, 1)}
	go func() { d.ended <- command.Wait() }()
	t.Cleanup(func() { d.stop(t) })
	within(t, "it says that the function does not start", func() bool { return strings.Contains(said.String(), "a process did not start") })
	d.stop(t)
	for _, wrong := range []string{"lightcone:", "msg=failed", "Lightcone is up", "functions that do not start"} {
		if strings.Contains(said.String(), wrong) {
			t.Errorf("%q is in what it said: %s", wrong, &said)
		}
	}
}

func TestAFunctionThatDoesNotStartIsNotShownAsOneThatWorks(t *testing.T) {
	dir, err := os.MkdirTemp("", "lc-") // t.TempDir's name is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	never := limitsOf("never")
	never.Command = []string{"/bin/false"}
	worker, err := supervisor.Start(supervisor.Config{
		Functions: []functions.Spec{never}, Slots: 1, Dir: filepath.Join(dir, "run"),
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := worker.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var logged testbed.Log
	if err := waitReady(ctx, worker, slog.New(slog.NewTextHandler(&logged, nil))); !errors.Is(err, context.Canceled) || logged.String() != "" {
		t.Errorf("whoever is told to wait no more answers %v and logs %q", err, &logged)
	}
	var out bytes.Buffer
	if err := welcome(t.Context(), &out, devFlags{}, worker, identity.Key{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "  never        does not start\n") || strings.Contains(out.String(), "slots and a spare") {
		t.Errorf("it said %q", &out)
	}
}
