package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"lightcone/capacity"
	"lightcone/cmd/internal/commandline"
)

func TestPlanPage(t *testing.T) {
	code, stdout, stderr := runCommand(t, "", "plan", "--rate", "10000", "--cpu-ms", "100", "--cores-per-server", "32", "--headroom", "0.2", "--racks", "4", "--queue-share", "0.1")
	want := `10 000 calls/s × 100 ms of CPU = 1 000 cores

  servers        40 of 32 cores, 10 in each of 4 racks
                 The racks bind: 38 servers are needed (by CPU), and 4 racks hold them as 40.
  workers        40, one a server, each with 32 slots and a spare
  slots          1 280: calls that run at a time
  memory         2.64 GB a server: 33 processes of 80 MB
  gateways       4 of 4 cores, 1 in each rack
  network        21.2 Gbit/s in and 0.96 out; 5.3 and 0.24 at each gateway
  queue          831 MB/s on its disks: 10 % of the calls, 3 replicas
  a rack lost    leaves room for 96.0 % of the rate: not all of it; --headroom 0.29 would
  price          53 611 a month, 2.04 for a million calls
`
	if code != commandline.OK || stdout != want || stderr != "" {
		t.Errorf("exit code %d, %q; got\n%s\nwant\n%s", code, stderr, stdout, want)
	}
	_, stdout, _ = runCommand(t, "", "plan", "--cpu-ms", "100", "--headroom", "0.29")
	if !strings.Contains(stdout, "of the rate: all of it") {
		t.Errorf("the headroom that it named does not do:\n%s", stdout)
	}
	_, stdout, _ = runCommand(t, "", "plan", "--cpu-ms", "100", "--racks", "1")
	if !strings.Contains(stdout, "stops everything") || strings.Contains(stdout, "queue") {
		t.Errorf("one rack, no queue:\n%s", stdout)
	}
}

func TestPlanJSON(t *testing.T) {
	code, stdout, _ := runCommand(t, "", "plan", "--cpu-ms", "100", "--headroom", "0", "--json")
	var got struct {
		Demand capacity.Demand
		Sizing capacity.Sizing
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != commandline.OK {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	if want, err := capacity.Plan(got.Demand); err != nil || got.Sizing != want || want.Servers != 32 {
		t.Errorf("%+v, want %+v (%v)", got.Sizing, want, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Setenv(envKey, "lc_demo_secret")
	for _, test := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"plan", commandline.NotUnderstood, "give --cpu-ms, or --measure to find it out"},
		{"plan --cpu-ms 1 --measure http://127.0.0.1:1", commandline.NotUnderstood, "leave one out"},
		{"plan --measure http://127.0.0.1:1", commandline.NotUnderstood, "--measure needs --in"},
		{"plan --cpu-ms 1 --calls 0", commandline.NotUnderstood, "want 1 to 10000"},
		{"plan --cpu-ms 1 --rate=-5", commandline.NotUnderstood, "the rate is -5: want more than 0"},
		{"plan --cpu-ms 1 more", commandline.NotUnderstood, "one too many"},
		{"plan --measure nowhere --in plan_test.go", commandline.NotUnderstood, "--measure: "},
		{"plan --measure http://127.0.0.1:1 --in /nonexistent", commandline.Failed, "/nonexistent"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, _, stderr := runCommand(t, "", strings.Fields(test.args)...)
			if code != test.code || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, %q; want %d, %q in it", code, stderr, test.code, test.stderr)
			}
		})
	}
}

func TestPlanMeasures(t *testing.T) {
	var calls atomic.Int64
	costs := []float64{90, 8, 30, 9} // the first is cold; the median of the rest is 9
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := calls.Add(1) - 1
		if r.URL.Path == "/function/shout" && r.URL.Query().Get("width") == "300" && len(body) == 5000 {
			w.Header().Set("Server-Timing", fmt.Sprintf("cpu;dur=%v", costs[n%4]))
		}
		_, _ = w.Write(make([]byte, 2000))
	}))
	t.Cleanup(server.Close)
	t.Setenv(envKey, "lc_demo_secret")
	in := write(t, filepath.Join(t.TempDir(), "photo"), strings.Repeat("x", 5000))
	args := []string{"plan", "--measure", server.URL, "--in", in, "--function", "shout", "--calls", "3", "--body-out", "7"}

	code, stdout, stderr := runCommand(t, "", append(args, "--param", "width=300", "--json")...)
	var got struct{ Demand capacity.Demand }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != commandline.OK {
		t.Fatalf("exit code %d, %s, %v", code, stderr, err)
	}
	if d := got.Demand; d.CPUMillis != 9 || d.BodyInKB != 5 || d.BodyOutKB != 7 || calls.Load() != 4 {
		t.Errorf("after %d calls: %+v", calls.Load(), d)
	}
	_, stdout, _ = runCommand(t, "", append(args, "--param", "width=300")...)
	if !strings.Contains(stdout, "× 9 ms of CPU (measured) = 90 cores") {
		t.Errorf("the page: %s", stdout)
	}
	code, _, stderr = runCommand(t, "", args...) // another width: no cost is told
	if code != commandline.Failed || !strings.Contains(stderr, "do not say what they cost") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
