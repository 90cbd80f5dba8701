package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lightcone/client"
	"lightcone/cmd/internal/commandline"
)

// used asks a gateway what the demo tenant used.
func (s *service) used(t *testing.T, prefer string) (status int, used client.Usage) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.listen+"/v1/usage", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, s.region.key("demo.key"))))
	request.Header.Set("Prefer", prefer)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &used); response.StatusCode == http.StatusOK && err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return response.StatusCode, used
}

// TestUsageOfARegion asks one gateway for what all of them keep, while they are there,
// while some hang or are killed, and when one that was killed has come back.
func TestUsageOfARegion(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	dir, bucket := t.TempDir(), "file://"+t.TempDir()
	ledger := func(node string) []string {
		return []string{"--usage-dir", filepath.Join(dir, node), "--usage-bucket", bucket, "--usage-node", node}
	}
	one, two := r.gateway("echo", ledger("gw-1")...), r.gateway("echo", ledger("gw-2")...)
	worker := r.workers(1, "echo", ledger("worker-1")...)[0]
	r.enlist("echo", worker)
	r.register("worker-echo-manage", 1000, worker.manage)
	r.register(gatewayManagement, one.id, one.manage)
	r.register(gatewayManagement, two.id, two.manage)
	bystander := r.gateway("echo") // keeps no ledger, and is not missed
	r.register(gatewayManagement, bystander.id, bystander.manage)
	for g, calls := range map[*service]int{one: 5, two: 3, bystander: 1} {
		g.knows(1)
		for range calls {
			if response, answer, err := g.call(http.DefaultClient, "echo", []byte("hello")); err != nil || response.StatusCode != 200 {
				t.Fatalf("%v, %v, %s", response, err, answer)
			}
		}
	}
	tells := func(when string, calls int64, harvest float64, strict int) {
		t.Helper()
		status, used := one.used(t, "handling=lenient")
		if status != 200 || used.Totals.Calls != calls || used.Totals.BytesIn != 5*calls || used.Harvest != harvest {
			t.Errorf("%s: %d %+v, want %d calls and a harvest of %v", when, status, used, calls, harvest)
		}
		if status, _ := one.used(t, "handling=strict"); status != strict {
			t.Errorf("%s, strictly: %d, want %d", when, status, strict)
		}
	}
	tells("with all there", 8, 1, 200)
	if status, _ := bystander.used(t, ""); status != 404 {
		t.Errorf("a gateway without a ledger answers %d", status)
	}
	for path, want := range map[string]string{
		"?tenant=demo&from=2026-01-01T00:00:00Z&to=2199-01-01T00:00:00Z":  `"calls": 3`,
		"?tenant=other&from=2026-01-01T00:00:00Z&to=2199-01-01T00:00:00Z": `"sums": []`,
	} {
		if got := two.page(unshippedPath + path); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s in it", path, got, want)
		}
	}
	if got := r.page(two, unshippedPath+"?tenant=demo&from=yesterday&to=2199-01-01T00:00:00Z"); !strings.Contains(got, "want ?tenant=NAME") {
		t.Errorf("from yesterday: %s", got)
	}
	if got := status(two.manage, unshippedPath); got != 401 {
		t.Errorf("what is not shipped is told to anybody: %d", got)
	}

	worker.signal(syscall.SIGSTOP)
	tells("while a worker hangs", 8, 0.67, 503)
	worker.signal(syscall.SIGCONT)
	two.signal(syscall.SIGKILL)
	<-two.ended
	tells("with a gateway killed", 5, 0.67, 503)
	code, stdout, stderr := runCommand(t, "", "usage", "--api", "http://"+one.listen, "--key-file", r.key("demo.key"))
	if code != commandline.OK || !strings.Contains(stdout, "Only 67 % of those who keep usage answered") {
		t.Errorf("usage: %d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr := runCommand(t, "", "usage", "--strict", "--api", "http://"+one.listen, "--key-file", r.key("demo.key")); code != commandline.Failed || !strings.Contains(stderr, "may lack some") {
		t.Errorf("usage --strict: %d %s", code, stderr)
	}
	r.deregister(two)
	tells("with a gateway killed that Consul does not list any more", 5, 0.67, 503)
	again := r.gateway("echo", ledger("gw-2")...)
	r.register(gatewayManagement, again.id, again.manage)
	tells("with the gateway back", 8, 1, 200)
	again.stop() // what it had is in the bucket
	r.deregister(again)
	tells("with the gateway stopped", 8, 1, 200)
}

func TestLedgerFlagsGoTogether(t *testing.T) {
	for _, test := range []struct{ flags, says string }{
		{"--usage-dir /tmp/a", "--usage-bucket or --usage-node"},
		{"--usage-dir /tmp/a --usage-bucket file:///tmp/b", "--usage-bucket or --usage-node"},
		{"--usage-bucket file:///tmp/b", "--usage-dir"},
		{"--usage-dir /tmp/a --usage-bucket file:///tmp/b --usage-node A_B", "--usage-node"},
	} {
		for _, service := range []string{"gateway", "worker"} {
			code, _, stderr := runCommand(t, "", append([]string{service}, strings.Fields(test.flags)...)...)
			if code != commandline.NotUnderstood || !strings.Contains(stderr, test.says) {
				t.Errorf("%s %s: %d %s, want %s in it", service, test.flags, code, stderr, test.says)
			}
		}
	}
}
