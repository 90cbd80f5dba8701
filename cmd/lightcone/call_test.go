package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/client"
	"lightcone/cmd/internal/commandline"
)

// startFunction serves a function that answers in capitals, and refuses "bad".
func startFunction(t *testing.T) (api string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Call-Id", "01J000")
		if r.Header.Get("Authorization") != "Bearer lc_demo_secret" || string(body) == "bad" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(422)
			fmt.Fprint(w, `{"type":"urn:lightcone:problem:corrupt-input","detail":"The input is bad."}`)
			return
		}
		w.Header().Set("Content-Type", "image/webp")
		w.Header().Set("Server-Timing", "queue;dur=0.1, exec;dur=8.4, cpu;dur=8.2")
		_, _ = w.Write(bytes.ToUpper(body))
	}))
	t.Cleanup(server.Close)
	t.Setenv(envKey, "lc_demo_secret")
	return server.URL
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestCallOne(t *testing.T) {
	api := startFunction(t)
	folder := t.TempDir()
	in, out := write(t, filepath.Join(folder, "a.jpg"), "hello"), filepath.Join(folder, "out")
	line := regexp.MustCompile(`^200 image/webp · 5 B in, 5 B out · queue 0\.1 ms, exec 8\.4 ms, cpu 8\.2 ms · took [0-9.]+ ms · call 01J000\n$`)

	code, stdout, stderr := runCommand(t, "", "call", "shout", "--api", api, "--in", in, "--out", out)
	if code != commandline.OK || stdout != "" || !line.MatchString(stderr) || read(t, out) != "HELLO" {
		t.Errorf("a file to a file: exit code %d, %q, %q, wrote %q", code, stdout, stderr, read(t, out))
	}
	code, stdout, stderr = runCommand(t, "hello", "call", "shout", "--api", api)
	if code != commandline.OK || stdout != "HELLO" || !line.MatchString(stderr) {
		t.Errorf("a pipe to a pipe: exit code %d, %q, %q", code, stdout, stderr)
	}
	code, _, _ = runCommand(t, "", "call", "shout", "--api", api, "--in", in, "--out", folder)
	if code != commandline.OK || read(t, filepath.Join(folder, "a.webp")) != "HELLO" {
		t.Errorf("a file into a folder: exit code %d", code)
	}
	code, stdout, stderr = runCommand(t, "bad", "call", "shout", "--api", api)
	if want := "lightcone: The input is bad. (422 corrupt-input, call 01J000)\n"; code != commandline.Failed || stdout != "" || stderr != want {
		t.Errorf("a refusal: exit code %d, %q, %q, want %q", code, stdout, stderr, want)
	}
}

func TestCallFolder(t *testing.T) {
	api := startFunction(t)
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	write(t, filepath.Join(in, "a.jpg"), "hello")
	code, _, stderr := runCommand(t, "", "call", "shout", "--api", api, "--in", in, "--out", out)
	if code != commandline.OK || read(t, filepath.Join(out, "a.webp")) != "HELLO" || !strings.HasPrefix(stderr, "1/1 · ") {
		t.Errorf("all good: exit code %d, %q", code, stderr)
	}
	write(t, filepath.Join(in, "b.jpg"), "bad")
	code, _, stderr = runCommand(t, "", "call", "shout", "--api", api, "--in", in, "--out", out, "--skip-existing")
	lines := strings.Split(stderr, "\n")
	want := []string{"b.jpg: The input is bad. (422 corrupt-input, call 01J000)", "lightcone: 1 of 2 files failed", ""}
	if code != commandline.Failed || !strings.HasPrefix(lines[0], "2/2 · ") || !strings.Contains(lines[0], " · 1 failed, 1 skipped · ") || !cmp.Equal(want, lines[1:]) {
		t.Errorf("one bad: exit code %d, %q", code, stderr)
	}
}

func TestVerdict(t *testing.T) {
	tally := client.Tally{Total: 10, Done: 4, Skipped: 1}
	for _, test := range []struct {
		summary client.Summary
		want    string
	}{
		{client.Summary{Tally: client.Tally{Total: 3, Done: 3}}, ""},
		{client.Summary{}, "there are no files in photos"},
		{client.Summary{Tally: client.Tally{Total: 3, Done: 1, Failed: 2}}, "2 of 3 files failed"},
		{client.Summary{Tally: tally, NotTried: 5, EndedBy: context.Canceled}, "interrupted with 5 of 10 files done; the same command with --skip-existing carries on"},
		{client.Summary{Tally: tally, NotTried: 5, EndedBy: errors.New("no such key")}, "ended with 5 of 10 files not tried, because they would have failed alike: no such key"},
	} {
		got := ""
		if err := verdict(client.Job{In: "photos"}, test.summary); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestFindKey(t *testing.T) {
	files := func(name string) ([]byte, error) {
		switch name {
		case defaultKeyFile:
			return []byte("lc_demo_1\n"), nil
		case "mine.key":
			return []byte("  lc_mine_2\r\nsecond line\n"), nil
		case "empty.key":
			return []byte("\n"), nil
		default:
			return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
		}
	}
	for _, test := range []struct {
		name        string
		flags       callerFlags
		environment string
		want        string
		wrong       bool
	}{
		{"--key comes first", callerFlags{key: "lc_said_3"}, "lc_env_4", "lc_said_3", false},
		{"then --key-file", callerFlags{keyFile: "mine.key"}, "lc_env_4", "lc_mine_2", false},
		{"then the environment", callerFlags{}, "lc_env_4", "lc_env_4", false},
		{"then what make run left", callerFlags{}, "", "lc_demo_1", false},
		{"an empty file", callerFlags{keyFile: "empty.key"}, "", "", true},
		{"no such file", callerFlags{keyFile: "other.key"}, "lc_env_4", "", true},
	} {
		got, err := findKey(test.flags, test.environment, files)
		if got != test.want || (err != nil) != test.wrong {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	nothing := func(string) ([]byte, error) { return nil, fs.ErrNotExist }
	if _, err := findKey(callerFlags{}, "", nothing); err == nil || !strings.Contains(err.Error(), "give one with --key-file or $LIGHTCONE_KEY") {
		t.Errorf("no key anywhere: %v, want one that says what to do", err)
	}
}

func TestProgressDisplay(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(1_800_000_000+seconds), 0) }
	progress := func(done int) client.Progress { return client.Progress{Total: 9, Failed: done, Remaining: -1} }

	var plain bytes.Buffer
	display := progressDisplay{out: &plain}
	for i := range 12 { // a picture every second
		display.show(progress(i%10), at(i))
	}
	display.end()
	const rate, rest = " · 0.0 calls/s", " · 0 B in, 0 B out\n"
	want := "5/9" + rate + " · 5 failed" + rest + "0/9" + rate + rest + "1/9" + rate + " · 1 failed" + rest
	if diff := cmp.Diff(want, plain.String()); diff != "" {
		t.Errorf("without a terminal:\n%s", diff)
	}

	var terminal bytes.Buffer
	display = progressDisplay{out: &terminal, columns: 31}
	display.show(progress(1), at(0))
	display.end()
	want = "\r1/9" + rate + " · 1 failed\x1b[K\r\x1b[K1/9" + rate + " · 1 failed" + rest
	if diff := cmp.Diff(want, terminal.String()); diff != "" {
		t.Errorf("on a terminal:\n%s", diff)
	}
}
