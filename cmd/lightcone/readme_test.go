package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lightcone/usage/billing"
)

// section is the part of README below a heading, up to the next one.
func section(t *testing.T, heading string) string {
	t.Helper()
	readme := read(t, "../../README.md")
	_, text, found := strings.Cut(readme, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("README has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// runReadme runs the commands of a section of README as they are written, in a network
// of their own where the usual ports are free, and then some more. It answers the folder
// and what was printed; the latter of the two repeats the commands.
func runReadme(t *testing.T, heading, more string) (folder, stdout, stderr string) {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section(t, heading), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of commands, want 1", len(blocks))
	}
	folder = t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	prices, err := filepath.Abs("../../usage/billing/prices.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "usage", "billing"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"bin": bin, "photo.jpg": photo, "usage/billing/prices.json": prices} {
		if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"one.jpg", "two.jpg"} {
		if err := os.WriteFile(filepath.Join(folder, "photos", name), readBytes(t, photo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`set -eu
ip link set lo up
bin/lightcone dev > dev.log 2>&1 &
trap 'kill $!; wait $!' EXIT
for try in $(seq 200); do curl -fs -o /dev/null http://127.0.0.1:8080/readyz && break; sleep 0.1; done
set -x
%s
%s
`, blocks[0][1], more)
	command := exec.Command("unshare", "--net", "bash", "-c", script)
	command.Dir = folder
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said, errs bytes.Buffer
	command.Stdout, command.Stderr = &said, &errs
	if err := command.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(folder, "dev.log")) // it may not have come to that
		t.Fatalf("%v\n%s\n%s\n%s", err, &said, &errs, log)
	}
	return folder, said.String(), errs.String()
}

func checkPrinted(t *testing.T, output string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !regexp.MustCompile(want).MatchString(output) {
			t.Errorf("nothing like %s in\n%s", want, output)
		}
	}
}

// TestReadmeQueue: a call is queued, watched and fetched, and a folder queued.
func TestReadmeQueue(t *testing.T) {
	t.Parallel()
	folder, stdout, stderr := runReadme(t, "Calls that do not wait", "")
	checkPrinted(t, stdout+stderr,
		`(?m)^HTTP/1.1 202 Accepted`, `(?m)^Location: /v1/invocations/[0-9A-Z]{26}`, `"status":"queued","attempts":0,`,
		`(?m)^  "status": "(queued|running|succeeded)"`, `(?m)^200 image/jpeg · .*call [0-9A-Z]{26}`, `(?m)^  "status": "succeeded"`,
		`(?m)^\[#{20}\] 2/2 · [0-9.]+ calls/s · took [^·]+ · 2 accepted, 0 running, 2 finished · `, `(?m)^ID +TENANT +FUNCTION +DIED`)
	for name, width := range map[string]int{"queued.jpg": 320, "small/one.jpg": 300, "small/two.jpg": 300} {
		if got := imageSize(t, readBytes(t, filepath.Join(folder, name))).X; got != width {
			t.Errorf("%s is %d pixels wide, want %d", name, got, width)
		}
	}
}

// TestReadmeTenants: a tenant is made, limited, and loses its key.
func TestReadmeTenants(t *testing.T) {
	t.Parallel()
	folder, output, _ := runReadme(t, "Tenants, keys and limits",
		`curl -sS -o answer -w 'revoked: %{http_code}\n' -H "Authorization: Bearer $(cat acme.key)" --data-binary @photo.jpg http://127.0.0.1:8080/function/resize`)
	checkPrinted(t, output,
		`(?m)^made tenant acme$`,
		`(?m)^200\n200\n429$`, `"quota":"calls_per_second"`,
		`(?m)^revoked key [a-z2-7]{16}$`, `(?m)^[a-z2-7]{16} +revoked +resize `,
		`(?m) tenant\.create +.*acme`, `(?m)^the audit trail is whole: \d+ entries,`,
		`(?m)^revoked: 401$`)
	if key := strings.TrimSpace(read(t, filepath.Join(folder, "acme.key"))); strings.Contains(output, key) || strings.Contains(read(t, filepath.Join(folder, "dev.log")), key) {
		t.Error("the key was printed elsewhere than into its file")
	}
	if content := readBytes(t, filepath.Join(folder, "small.jpg")); imageSize(t, content).X != 300 {
		t.Errorf("small.jpg is %d pixels wide", imageSize(t, content).X)
	}
}

// TestReadmeCost: calls are made, shown, billed and invoiced, and the invoice's CPU time
// is the sum of what the answers said.
func TestReadmeCost(t *testing.T) {
	t.Parallel()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("go", "build", "-o", bin, "lightcone/cmd/lightcone-billing").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	var output, hour string
	for now := ""; hour == "" || hour != now; { // an hour that ends meanwhile has only some of the calls
		hour = time.Now().UTC().Format("2006-01-02T15")
		_, output, _ = runReadme(t, "What it cost", "")
		now = time.Now().UTC().Format("2006-01-02T15")
	}
	checkPrinted(t, output, `(?m)^resize +3 +0\.0`, `(?m)^hour `+hour+`: 3 calls billed of 3 records in `, `(?m)^month .*: revision 1, 0\.00 EUR in all$`)
	var micros int64
	timings := regexp.MustCompile(`(?m)^Server-Timing: .*cpu;dur=(\d+)\.(\d{3})\s*$`).FindAllStringSubmatch(output, -1)
	for _, timing := range timings {
		n, err := strconv.ParseInt(timing[1]+timing[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		micros += n
	}
	_, text, _ := strings.Cut(output, "revision=0001.json\n")
	var invoice billing.Invoice
	if err := json.Unmarshal([]byte(text), &invoice); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if len(timings) != 3 || len(invoice.Use) != 1 || invoice.Use[0].Calls != 3 || invoice.Use[0].CPU != 1000*micros {
		t.Errorf("the invoice says %+v, the answers %d us", invoice.Use, micros)
	}
	seconds := fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6)
	if len(invoice.Lines) == 0 || invoice.Lines[0].Meter != "cpu_second" || strings.TrimRight(seconds, "0") != invoice.Lines[0].Quantity {
		t.Errorf("the invoice's lines are %+v, want %s CPU seconds", invoice.Lines, seconds)
	}
}
