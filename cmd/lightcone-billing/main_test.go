package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/cmd/internal/commandline"
	"lightcone/jobs"
	"lightcone/usage"
	"lightcone/usage/billing"
	"lightcone/usage/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hour = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)

const prices = `{"currency": "EUR", "decimals": 2, "versions": [{"from": "2026-01-01", "until": "",
  "cpu_second": {"free": "0", "tiers": [{"from": "0", "price": "0.25"}]},
  "gigabyte_in": {"free": "0", "tiers": [{"from": "0", "price": "0"}]},
  "gigabyte_out": {"free": "0", "tiers": [{"from": "0", "price": "0"}]},
  "call": {"free": "0", "tiers": [{"from": "0", "price": "0"}]}}]}`

// place is a bucket with 8 calls of a second in two objects, and a price list.
type place struct {
	t              *testing.T
	bucket, prices string
	environment    map[string]string
}

func newPlace(t *testing.T) place {
	t.Helper()
	p := place{t: t, bucket: t.TempDir(), prices: filepath.Join(t.TempDir(), "prices.json"), environment: map[string]string{}}
	if err := os.WriteFile(p.prices, []byte(prices), 0o600); err != nil {
		t.Fatal(err)
	}
	for sequence := range 2 { // the second object has one of the first's calls
		object := usage.Object{Node: "node-a", Hour: hour, Sequence: uint64(sequence + 1)}
		p.write(object.Key(), p.object(object.Sequence, 4*sequence))
	}
	return p
}

// object is one of node-a's, with five calls from a number on.
func (p place) object(sequence uint64, first int) []byte {
	p.t.Helper()
	return p.objectOf(hour, sequence, first)
}

// objectOf is one of another hour.
func (p place) objectOf(hour time.Time, sequence uint64, first int) []byte {
	p.t.Helper()
	rows := make([]usage.Row, 5)
	for i := range rows {
		at := hour.Add(time.Duration(first+i) * time.Second)
		rows[i] = usage.Row{Tenant: "acme", Function: "resize", Outcome: "answered", CPU: 1e9, Start: at.UnixMicro()}
		stamp := uint64(at.UnixMilli())
		for b := range 6 {
			rows[i].Call[b] = byte(stamp >> (8 * (5 - b)))
		}
	}
	var content bytes.Buffer
	if _, err := usage.NewEncoder().Encode(&content, usage.Object{Node: "node-a", Hour: hour, Sequence: sequence}, slices.Values(rows)); err != nil {
		p.t.Fatal(err)
	}
	return content.Bytes()
}

func (p place) write(key string, content []byte) {
	p.t.Helper()
	bucket, err := store.Open(p.t.Context(), p.bucket)
	if err == nil {
		err = bucket.Write(context.Background(), key, content)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// run executes a command line as main does, at a time after the hour.
func (p place) run(line string, args ...string) (code int, out string) {
	p.t.Helper()
	return p.runAt(hour.Add(90*time.Minute), line, args...)
}

func (p place) runAt(now time.Time, line string, args ...string) (code int, out string) {
	p.t.Helper()
	root := newRoot(func(name string) string { return p.environment[name] }, func() time.Time { return now })
	var text bytes.Buffer
	root.SetOut(&text)
	root.SetErr(&text)
	return commandline.Execute(root, append(strings.Fields(line), args...)), text.String()
}

func (p place) want(code int, out string, wantCode int, parts ...string) {
	p.t.Helper()
	if code != wantCode {
		p.t.Errorf("the exit code is %d, want %d", code, wantCode)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			p.t.Errorf("%q is missing in\n%s", part, out)
		}
	}
}

func (p place) total(revision string) string {
	p.t.Helper()
	content, err := os.ReadFile(filepath.Join(p.bucket, "invoices/month=2026-11/tenant=acme", "revision="+revision+".json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var invoice billing.Invoice
	if err := json.Unmarshal(content, &invoice); err != nil {
		p.t.Fatal(err)
	}
	return invoice.Total
}

func TestAnHourIsBilledAndInvoiced(t *testing.T) {
	p := newPlace(t)
	for range 2 {
		code, out := p.run("run --hour last --bucket", p.bucket, "--prices", p.prices)
		p.want(code, out, commandline.OK, "hour 2026-11-03T14: 9 calls billed of 10 records in 2 objects; CPU 9.000 s", "revision 1, 2.25 EUR", "tenant=acme/revision=0001.json")
	}
	if total := p.total("0001"); total != "2.25" {
		t.Errorf("invoiced %s", total)
	}
	code, out := p.run("run --month 2026-11 --bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.OK, "revision 1, 2.25 EUR")
}

func TestMappersAndAReducer(t *testing.T) {
	p := newPlace(t)
	p.environment = map[string]string{
		"LIGHTCONE_BILLING_BUCKET": p.bucket, "LIGHTCONE_BILLING_PRICES": p.prices, "LIGHTCONE_BILLING_HOUR": "2026-11-03T14",
		"LIGHTCONE_BILLING_SHARES": "2", "NOMAD_JOB_ID": "billing/periodic-1762178400",
	}
	for _, index := range []string{"0", "1"} {
		p.environment["NOMAD_ALLOC_INDEX"] = index
		code, out := p.run("map")
		p.want(code, out, commandline.OK, "share "+index+"/2: 2 objects")
	}
	code, out := p.run("reduce")
	p.want(code, out, commandline.OK, "9 calls billed of 10 records", "2.25 EUR")
}

// Whatever lies among an hour's records and is not one of the ledger's objects, whole, is
// named and stays where it is; the rest is billed, and the exit code says so, also of a
// reducer, with mappers and without.
func TestDamagedAndForeignObjectsAreNamedAndTheExitCodeSaysSo(t *testing.T) {
	for name, spoil := range map[string]func(whole []byte) (key string, content []byte, reason string){
		"hardly a file": func([]byte) (string, []byte, string) {
			return "node=node-b/00000000000000000001.parquet", []byte("PAR1"), "not a Parquet file"
		},
		"truncated": func(whole []byte) (string, []byte, string) {
			return "node=node-a/00000000000000000003.parquet", whole[:len(whole)/2], "cut short"
		},
		"a flipped bit": func(whole []byte) (string, []byte, string) {
			whole[len(whole)/4] ^= 2
			return "node=node-a/00000000000000000003.parquet", whole, "row group 0, column"
		},
		"of another name": func(whole []byte) (string, []byte, string) {
			return "node=node-b/00000000000000000003.parquet", whole, "lightcone.node"
		},
		"a foreign file": func([]byte) (string, []byte, string) {
			return "node=node-a/notes.txt", []byte("hello"), "a foreign file"
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			key, content, reason := spoil(p.object(3, 20))
			key = "usage/dt=2026-11-03/hour=14/" + key
			p.write(key, content)
			for _, line := range []string{
				"run --hour 2026-11-03T14", "run --month 2026-11", "reduce --hour 2026-11-03T14 --run a --shares 2 --wait 0",
			} {
				code, out := p.run(line, "--bucket", p.bucket, "--prices", p.prices)
				p.want(code, out, commandline.Failed, "9 calls billed of 10 records", "set aside "+key+": ", reason, "2.25 EUR", "1 objects were set aside")
			}
			for _, share := range []string{"0", "1"} {
				code, out := p.run("map --hour 2026-11-03T14 --run b --shares 2 --share "+share, "--bucket", p.bucket)
				p.want(code, out, commandline.OK, "2 objects")
			}
			code, out := p.run("reduce --hour 2026-11-03T14 --run b --shares 2", "--bucket", p.bucket, "--prices", p.prices)
			p.want(code, out, commandline.Failed, "set aside "+key+": ", "2.25 EUR")
			if left, err := os.ReadFile(filepath.Join(p.bucket, key)); err != nil || !bytes.Equal(left, content) {
				t.Errorf("%s is not as it was: %v", key, err)
			}
		})
	}
}

// The clock of the machine that bills leaps an hour ahead and back again between runs:
// no call is billed twice, and none is forgotten.
func TestTheClockJumpsBetweenRuns(t *testing.T) {
	p := newPlace(t)
	for _, step := range []struct {
		now  time.Duration // since the hour
		want string
	}{
		{90 * time.Minute, "hour 2026-11-03T14: 9 calls"},
		{150 * time.Minute, "hour 2026-11-03T15: 0 calls"}, // too early: its calls are still to come
		{90 * time.Minute, "hour 2026-11-03T14: 9 calls"},
		{30 * time.Minute, "hour 2026-11-03T13: 0 calls"},
		{150 * time.Minute, "hour 2026-11-03T15: 0 calls"},
	} {
		code, out := p.runAt(hour.Add(step.now), "run --hour last --bucket", p.bucket, "--prices", p.prices)
		p.want(code, out, commandline.OK, step.want, "2.25 EUR in all")
	}
	if total := p.total("0001"); total != "2.25" {
		t.Errorf("invoiced %s", total)
	}
	if again, err := filepath.Glob(filepath.Join(p.bucket, "invoices/month=2026-11/tenant=acme/*")); err != nil || len(again) != 1 {
		t.Errorf("the tenant has %q (%v), want one invoice", again, err)
	}
}

func TestCommandLinesThatCannotBe(t *testing.T) {
	p := newPlace(t)
	negative := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(negative, []byte(strings.Replace(prices, "0.25", "-0.25", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	gap := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(gap, []byte(strings.Replace(prices, `{"from": "0", "price": "0.25"}`, `{"from": "0", "up_to": "10", "price": "0.25"}, {"from": "11", "price": "0.2"}`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		line string
		code int
		want string
	}{
		{"", commandline.OK, "Makes bills"},
		{"bill", commandline.NotUnderstood, `there is no command "bill"`},
		{"run now", commandline.NotUnderstood, `"now" is one too many`},
		{"run --nope", commandline.NotUnderstood, "unknown flag"},
		{"run --hour last --prices x", commandline.NotUnderstood, "--bucket (or $LIGHTCONE_BILLING_BUCKET) is missing"},
		{"run --bucket B --prices x", commandline.NotUnderstood, "either --hour or --month"},
		{"run --bucket B --hour last --month 2026-11 --prices x", commandline.NotUnderstood, "either --hour or --month"},
		{"run --bucket B --hour last", commandline.NotUnderstood, "--prices (or $LIGHTCONE_BILLING_PRICES) is missing"},
		{"run --bucket B --hour yesterday --prices P", commandline.NotUnderstood, "such as 2026-11-03T14"},
		{"run --bucket B --hour 2026-11-03T16 --prices P", commandline.NotUnderstood, "has not begun"},
		{"run --bucket B --month 11/2026 --prices P", commandline.NotUnderstood, "such as 2026-11"},
		{"run --bucket B --hour last --prices P --memory 1", commandline.NotUnderstood, "want at least 128"},
		{"run --bucket B --hour last --prices P --threads 0", commandline.NotUnderstood, "want at least 1"},
		{"run --bucket B --hour last --prices /nonexistent", commandline.Failed, "/nonexistent"},
		{"run --bucket B --hour last --prices N", commandline.Failed, "versions[0].cpu_second.tiers[0].price -0.25 is negative"},
		{"run --bucket B --hour last --prices G", commandline.Failed, "versions[0].cpu_second.tiers[1].from 11 leaves a gap after 10"},
		{"run --bucket B --hour last --prices P --scratch /nonexistent", commandline.Failed, "/nonexistent"},
		{"run --bucket ftp://x --hour last --prices P", commandline.Failed, "ftp://x"},
		{"estimate --bucket B --hour last", commandline.OK, "at most 10 calls; CPU 10.000 s"},
		{"map --bucket B --hour last", commandline.NotUnderstood, "--run (or $LIGHTCONE_BILLING_RUN) is missing"},
		{"map --bucket B --hour last --run a:b", commandline.Failed, "want 1 to 200 letters"},
		{"map --bucket B --hour last --run x --share 2 --shares 2", commandline.Failed, "share 2 of 2"},
		{"reduce --bucket B --hour last --run x --shares 2 --wait 0 --prices P", commandline.OK, "2.25 EUR"}, // without mappers
	} {
		args := strings.Fields(test.line)
		for i, arg := range args {
			switch arg {
			case "B":
				args[i] = p.bucket
			case "P":
				args[i] = p.prices
			case "N":
				args[i] = negative
			case "G":
				args[i] = gap
			}
		}
		code, out := p.run("", args...)
		if code != test.code || !strings.Contains(out, test.want) {
			t.Errorf("lightcone-billing %s: exit code %d, want %d; printed %q, want %q", test.line, code, test.code, out, test.want)
		}
	}
}

// TestTheJobsSettingsAreKnown: the specification sets nothing that no flag heeds.
func TestTheJobsSettingsAreKnown(t *testing.T) {
	source, err := jobs.Source("billing")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, variables := range settings {
		for _, variable := range variables {
			known[variable] = true
		}
	}
	set := regexp.MustCompile(`(?m)^\s+(LIGHTCONE_\w+)\s+=`).FindAllStringSubmatch(source, -1)
	for _, found := range set {
		if !known[found[1]] {
			t.Errorf("%s is no setting of lightcone-billing", found[1])
		}
	}
	if len(set) < 7 {
		t.Errorf("the specification sets %q", set)
	}
}
