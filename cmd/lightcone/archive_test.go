package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lightcone/cmd/internal/commandline"
	"lightcone/usage"
	"lightcone/usage/billing"
	"lightcone/usage/store"
)

// billedHour is a bucket with an hour of one object, counted, stored and billed.
func billedHour(t *testing.T, hour time.Time) (folder, key string) {
	t.Helper()
	folder = t.TempDir()
	bucket, err := store.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	object := usage.Object{Node: "gateway-1", Hour: hour, Sequence: 1}
	var records bytes.Buffer
	row := usage.Row{Call: [16]byte{1}, Tenant: "acme", Function: "resize", Outcome: "answered", Start: hour.UnixMicro()}
	if _, err := usage.NewEncoder().Encode(&records, object, slices.Values([]usage.Row{row})); err != nil {
		t.Fatal(err)
	}
	counts, err := json.Marshal(usage.Counts{
		Node: object.Node, Hour: hour, Closed: true, Answered: 1, Recorded: 1,
		Sequences: []usage.SequenceCount{{Sequence: 1, Rows: 1, Ledger: "1"}}, Ledgers: map[string]usage.Share{"1": {Closed: true, Answered: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	bill, err := json.Marshal(billing.Bill{
		Hour: billing.HourText(hour), Totals: billing.Quantities{Calls: 1},
		Objects: []billing.BilledObject{{Key: object.Key(), Rows: 1, Billed: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		object.Key(): records.Bytes(), usage.CountsKey(object.Node, hour): counts,
		"bills/" + hour.Format("dt=2006-01-02/hour=15/") + "bill.json": bill,
	} {
		if err := bucket.Write(t.Context(), name, content); err != nil {
			t.Fatal(err)
		}
	}
	return folder, object.Key()
}

func TestUsageIsAuditedAndArchived(t *testing.T) {
	hour := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	bucket, key := billedHour(t, hour)
	cold := t.TempDir()
	for _, step := range []struct {
		args string
		code int
		want string
	}{
		{"audit usage --bucket B --hour 2026-01-02T03", commandline.OK, "gateway-1"},
		{"archive move --bucket B --archive C --older-than 100000", commandline.OK, "0 objects of 0 hours moved"},
		{"archive move --bucket B --archive C --older-than 1", commandline.OK, "1 objects of 1 hours moved"},
		{"audit usage --bucket B --hour 2026-01-02T03", commandline.Failed, "node gateway-1: sequence 1: 1 records were recorded and are not stored"},
		{"audit usage --bucket B --archive C --hour 2026-01-02T03", commandline.OK, "gateway-1"},
		{"archive verify --bucket B --archive C", commandline.OK, "the archive is whole: 1 objects, 1 manifests"},
		{"archive expire --bucket B --archive C --before 2026-01-03", commandline.Failed, "nothing is deleted before"},
		{"archive retain --bucket B --archive C --days 36500", commandline.OK, ""},
		{"archive retain --bucket B --archive C --days 1", commandline.Failed, "cannot be shortened"},
		{"archive expire --bucket B --archive C --before 2026-01-03", commandline.Failed, "cannot be deleted yet"},
		{"archive restore --bucket B --archive C --hour 2026-01-02T03", commandline.OK, "1 objects are back"},
		{"audit usage --bucket B --hour 2026-01-02T03", commandline.OK, "gateway-1"},
		{"audit usage --bucket B", commandline.NotUnderstood, "--hour"},
		{"audit usage --hour 2026-01-02T03", commandline.NotUnderstood, "--bucket is missing"},
		{"archive move --bucket B --archive B", commandline.NotUnderstood, "two different ones"},
		{"archive move --bucket B --archive C --older-than 0", commandline.NotUnderstood, "at least 1 day"},
		{"archive restore --bucket B --archive C --hour now", commandline.NotUnderstood, "--hour"},
		{"archive expire --bucket B --archive C --before now", commandline.NotUnderstood, "--before"},
	} {
		args := strings.Fields(strings.NewReplacer(" B", " "+bucket, " C", " "+cold).Replace(step.args))
		code, stdout, stderr := runCommand(t, "", args...)
		if code != step.code || !strings.Contains(stdout+stderr, step.want) {
			t.Errorf("lightcone %s: exit code %d, want %d; printed %q, want %q", step.args, code, step.code, stdout+stderr, step.want)
		}
	}
	if err := os.Remove(filepath.Join(cold, "archive", key)); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := runCommand(t, "", "archive", "verify", "--bucket", bucket, "--archive", cold); code != commandline.Failed || !strings.Contains(stdout, key+`" is missing`) {
		t.Errorf("exit code %d; printed %q", code, stdout)
	}
}
