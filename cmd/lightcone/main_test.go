package main

import (
	"bytes"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"go.uber.org/goleak"

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
	return execute(root, args), out.String(), err.String()
}

func TestExitCodes(t *testing.T) {
	t.Setenv(envKey, "lc_demo_secret")
	for _, test := range []struct {
		args   string
		code   int
		stderr string // a part of it
	}{
		{"", exitOK, ""},
		{"--help", exitOK, ""},
		{"version", exitOK, ""},
		{"version now", exitUsage, `the argument "now" is one too many`},
		{"resize", exitUsage, `there is no command "resize"`},
		{"call", exitUsage, "the argument NAME is missing"},
		{"call echo --nope", exitUsage, "unknown flag: --nope"},
		{"call echo --timeout fast", exitUsage, "fast"},
		{"call echo --timeout=-1s", exitUsage, "--timeout -1s"},
		{"call echo --param width", exitUsage, "want name=value"},
		{"call echo --parallel 0", exitUsage, "want 1 to 1024"},
		{"call Echo!", exitUsage, `function "Echo!"`},
		{"call echo --api nowhere", exitUsage, "want one such as http://127.0.0.1:8080"},
		{"call echo --in .", exitUsage, "name the folder for the outputs with --out"},
		{"call echo --out .", exitUsage, "standard input has no name"},
		{"call echo --key a --key-file b", exitUsage, "leave one out"},
		{"call echo --in /nonexistent.jpg", exitFailed, "/nonexistent.jpg"},
		{"call echo --key-file /nonexistent.key", exitFailed, "/nonexistent.key"},
		{"call echo --api http://127.0.0.1:1", exitFailed, "cannot be reached at http://127.0.0.1:1"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, _, stderr := runCommand(t, "", strings.Fields(test.args)...)
			if code != test.code || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d; it said %q, want %q in it", code, test.code, stderr, test.stderr)
			}
			if (code == exitUsage) != strings.Contains(stderr, "--help` for what it takes") {
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
