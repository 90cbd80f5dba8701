package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lightcone/client"
	"lightcone/cmd/internal/commandline"
)

// used is what the front door says that the demo tenant used.
func (d *devTree) used(t *testing.T) client.Usage {
	t.Helper()
	response, text := d.request(t, http.MethodGet, "/v1/usage", nil, "Prefer", "handling=strict")
	var used client.Usage
	if err := json.Unmarshal([]byte(text), &used); err != nil || response.StatusCode != http.StatusOK || used.Harvest != 1 {
		t.Fatalf("%s %s, %v", response.Status, text, err)
	}
	return used
}

// TestDevLosesNoUsage makes calls of every kind, kills the whole tree as they come and
// starts it again: what they used is all there, as each of their answers told it, before
// it is in the bucket and after.
func TestDevLosesNoUsage(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	photograph := readBytes(t, photo)
	var calls, in, out, micros int64
	for range 3 {
		d := startDev(t, data)
		count := func(sent int, response *http.Response, answer string) {
			t.Helper()
			calls++
			in += int64(sent)
			out += int64(len(answer))
			micros += cpuMicros(t, response)
		}
		// First, so that the queue has let go of it before the kill: it would be recorded twice, and
		// billed once.
		response, answer := d.request(t, "POST", "/async-function/echo", strings.NewReader("queued"), "Prefer", "wait=20")
		count(6, response, answer)
		for range 2 {
			response, answer := d.request(t, "POST", "/function/resize?width=300", strings.NewReader(string(photograph)))
			count(len(photograph), response, answer)
		}
		response, answer = d.request(t, "POST", "/function/echo", strings.NewReader("hello"))
		count(5, response, answer)
		if refused, text := d.request(t, "POST", "/function/resize?width=none", strings.NewReader("a")); refused.StatusCode != 400 {
			t.Errorf("a bad parameter: %s %s", refused.Status, text)
		} else if strings.Contains(refused.Header.Get("Server-Timing"), "cpu;") { // the function has said so itself
			count(1, refused, "")
			out = d.used(t).Totals.BytesOut // what it said is in the problem document, and so longer there
		}
		// The record of a queued call comes before the queue lets go of it, and so after its answer.
		within(t, "all calls are told of", func() bool { return d.used(t).Totals.Calls == calls })
		if got := d.used(t).Totals; got.CPU.Microseconds() != micros || got.BytesIn != in || got.BytesOut != out {
			t.Errorf("told of %+v; the answers say %d calls, %d us, %d and %d bytes", got, calls, micros, in, out)
		}
		if err := d.command.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-d.ended
	}
	d := startDev(t, data)
	if got := d.used(t).Totals; got.Calls != calls || got.CPU.Microseconds() != micros || got.BytesIn != in || got.BytesOut != out {
		t.Errorf("after the last kill, told of %+v; the answers say %d calls, %d us, %d and %d bytes", got, calls, micros, in, out)
	}
	code, stdout, stderr := runCommand(t, "", "usage", "--api", "http://"+d.api, "--key-file", filepath.Join(data, "demo.key"))
	if code != commandline.OK || !strings.Contains(stdout, "echo") || !strings.Contains(stdout, "resize") || strings.Contains(stdout, "Only") {
		t.Errorf("usage: %d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr := runCommand(t, "", "usage", "--api", "http://"+d.api, "--key-file", filepath.Join(data, "demo.key"), "--from", "yesterday"); code != commandline.Failed || !strings.Contains(stderr, "parameter from") {
		t.Errorf("usage --from yesterday: %d %s", code, stderr)
	}
	d.stop(t)
	waiting, err := filepath.Glob(filepath.Join(data, "usage", "*.segment*"))
	if err != nil || len(waiting) > 0 {
		t.Errorf("a stop that had time left %q unshipped, %v", waiting, err)
	}
	if _, err := os.Stat(filepath.Join(data, "usage", "store", "usage")); err != nil {
		t.Error(err)
	}
}

// cpuMicros is an answer's Server-Timing cpu, in microseconds.
func cpuMicros(t *testing.T, response *http.Response) int64 {
	t.Helper()
	_, text, found := strings.Cut(response.Header.Get("Server-Timing"), "cpu;dur=")
	var micros int64
	for i := range len(text) {
		if text[i] != '.' {
			micros = 10*micros + int64(text[i]-'0')
		}
	}
	if !found {
		t.Fatalf("%s, without the CPU time: %q", response.Status, response.Header.Get("Server-Timing"))
	}
	return micros
}
