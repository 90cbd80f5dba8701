package main

import (
	"path/filepath"
	"regexp"
	"testing"

	"lightcone/cmd/internal/commandline"
)

// TestQueuedCallTellsWhatIsKnown: the first call's line has all its times, and that of
// whoever is given its result later has none of them beside another's.
func TestQueuedCallTellsWhatIsKnown(t *testing.T) {
	d := startDev(t, t.TempDir(), "--slots", "1")
	in := write(t, filepath.Join(t.TempDir(), "question"), "hello")
	server := []string{"--api", "http://" + d.api, "--key-file", filepath.Join(d.data, "demo.key")}
	call := append([]string{"call", "echo", "--async", "--in", in}, server...)
	const head, times = `200 text/plain; charset=utf-8 · `, `queue [0-9.]+ ms, exec [0-9.]+ ms, cpu [0-9.]+ ms · `

	code, stdout, stderr := runCommand(t, "", call...)
	said := regexp.MustCompile(`^accepted as ([0-9A-Z]{26})\n` + head + `5 B in, 5 B out · ` + times + `took [0-9.]+ ms · call ([0-9A-Z]{26})\n$`).FindStringSubmatch(stderr)
	if code != commandline.OK || stdout != "hello" || said == nil || said[1] != said[2] {
		t.Fatalf("the first: exit code %d, %q, %q", code, stdout, stderr)
	}
	id := said[1]
	for _, test := range []struct {
		name string
		args []string
		line string
	}{
		{"the same again", call, `accepted as ` + id + `\n` + head + `5 B in, 5 B out · took [0-9.]+ ms · call ` + id + ` · of an earlier run`},
		{"its result", append([]string{"invocation", "result", id}, server...), head + `5 B out · ` + times + `call ` + id},
		{"its result, waited for", append([]string{"invocation", "result", id, "--wait"}, server...), head + `5 B out · ` + times + `call ` + id},
	} {
		code, stdout, stderr := runCommand(t, "", test.args...)
		if code != commandline.OK || stdout != "hello" || !regexp.MustCompile(`^`+test.line+`\n$`).MatchString(stderr) {
			t.Errorf("%s: exit code %d, %q, %q, want %s", test.name, code, stdout, stderr, test.line)
		}
	}
}
