package main

import (
	"bytes"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"lightcone/cmd/internal/commandline"
	supervisor "lightcone/functions/runtime"
)

func TestMain(m *testing.M) {
	supervisor.BecomeFunctionIfAsked()
	if os.Getenv(envSlow) != "" {
		os.Exit(becomeSlowFunction())
	}
	// The HTTP client that tests share keeps idle connections, each with two goroutines.
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built, err := build(); err == nil {
			_ = os.RemoveAll(built)
		}
		os.Exit(code)
	}), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// runCommand executes a command line as main does.
func runCommand(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root := newRoot()
	var out, err bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&err)
	return commandline.Execute(root, args), out.String(), err.String()
}

func TestExitCodes(t *testing.T) {
	t.Setenv(envKey, "lc_demo_secret")
	for _, test := range []struct {
		args   string
		code   int
		stderr string // a part of it
	}{
		{"", commandline.OK, ""},
		{"--help", commandline.OK, ""},
		{"version", commandline.OK, ""},
		{"version now", commandline.NotUnderstood, `the argument "now" is one too many`},
		{"resize", commandline.NotUnderstood, `there is no command "resize"`},
		{"call", commandline.NotUnderstood, "the argument NAME is missing"},
		{"call echo --nope", commandline.NotUnderstood, "unknown flag: --nope"},
		{"call echo --timeout fast", commandline.NotUnderstood, "fast"},
		{"call echo --timeout=-1s", commandline.NotUnderstood, "--timeout -1s"},
		{"call echo --param width", commandline.NotUnderstood, "want name=value"},
		{"call echo --parallel 0", commandline.NotUnderstood, "want 1 to 1024"},
		{"call Echo!", commandline.NotUnderstood, `function "Echo!"`},
		{"call echo --api nowhere", commandline.NotUnderstood, "want one such as http://127.0.0.1:8080"},
		{"call echo --in .", commandline.NotUnderstood, "name the folder for the outputs with --out"},
		{"call echo --out .", commandline.NotUnderstood, "standard input has no name"},
		{"call echo --key a --key-file b", commandline.NotUnderstood, "leave one out"},
		{"call echo --in /nonexistent.jpg", commandline.Failed, "/nonexistent.jpg"},
		{"call echo --key-file /nonexistent.key", commandline.Failed, "/nonexistent.key"},
		{"call echo --api http://127.0.0.1:1", commandline.Failed, "cannot be reached at http://127.0.0.1:1"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, _, stderr := runCommand(t, "", strings.Fields(test.args)...)
			if code != test.code || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d; it said %q, want %q in it", code, test.code, stderr, test.stderr)
			}
			if (code == commandline.NotUnderstood) != strings.Contains(stderr, "--help` for what it takes") {
				t.Errorf("exit code %d with %q: usage errors, and only they, point to the help", code, stderr)
			}
		})
	}
}

func TestVersionLine(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-03-01T12:00:00Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	if got, want := versionLine(info), "lightcone 0123456789ab of 2026-03-01T12:00:00Z, with local changes, go1.26.8 "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want it to start with %q", got, want)
	}
	if got, want := versionLine(&debug.BuildInfo{GoVersion: "go1.26.8"}), "lightcone of an unknown commit, go1.26.8 "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want it to start with %q", got, want)
	}
}
