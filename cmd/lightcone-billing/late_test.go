package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lightcone/cmd/internal/commandline"
	"lightcone/usage"
)

// come stores an object of five calls more.
func (p place) come(start time.Time, sequence uint64, first int) (key string) {
	p.t.Helper()
	key = usage.Object{Node: "node-a", Hour: start, Sequence: sequence}.Key()
	p.write(key, p.objectOf(start, sequence, first))
	return key
}

func (p place) lacks(out string, parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		if strings.Contains(out, part) {
			p.t.Errorf("%q is in\n%s", part, out)
		}
	}
}

// The run that bills the last hour bills those before it to which records have come, or
// that nobody has billed; those that are as they were it does not read; and one that names
// another hour bills that alone.
func TestRecordsThatComeLateAreBilledByTheNextRun(t *testing.T) {
	for name, line := range map[string]string{"run": "run --hour last", "reduce": "reduce --hour last --run a --shares 2 --wait 0"} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			code, out := p.run(line, "--bucket", p.bucket, "--prices", p.prices)
			p.want(code, out, commandline.OK, "hour 2026-11-03T14: 9 calls", "revision 1, 2.25 EUR")

			p.come(hour.Add(time.Hour), 5, 0)
			p.come(hour, 6, 100)
			p.come(hour.Add(-50*time.Hour), 7, 0) // of an hour that has no bill
			code, out = p.runAt(hour.Add(150*time.Minute), "run --hour 2026-11-03T15", "--bucket", p.bucket, "--prices", p.prices)
			p.want(code, out, commandline.OK, "hour 2026-11-03T15: 5 calls", "revision 2, 3.50 EUR")
			p.lacks(out, "T14", "2026-11-01")
			code, out = p.runAt(hour.Add(150*time.Minute), line, "--bucket", p.bucket, "--prices", p.prices)
			p.want(code, out, commandline.OK, "hour 2026-11-03T15: 5 calls", "hour 2026-11-03T14: 14 calls", "hour 2026-11-01T12: 5 calls", "revision 3, 6.00 EUR")

			p.write(usage.Object{Node: "node-a", Hour: hour, Sequence: 6}.Key(), []byte("not read again"))
			code, out = p.runAt(hour.Add(150*time.Minute), line, "--bucket", p.bucket, "--prices", p.prices)
			p.want(code, out, commandline.OK, "hour 2026-11-03T15: 5 calls", "revision 3, 6.00 EUR")
			p.lacks(out, "T14", "2026-11-01")
		})
	}
}

// Damaged records that come late are named by the run that meets them, and the rest is
// invoiced.
func TestLateRecordsThatAreDamagedAreNamed(t *testing.T) {
	p := newPlace(t)
	key := p.come(hour.Add(-time.Hour), 5, 0)
	p.come(hour.Add(-2*time.Hour), 6, 0)
	p.write(key, []byte("PAR1"))
	code, out := p.run("run --hour last", "--bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.Failed, "hour 2026-11-03T14: 9 calls", "set aside "+key, "hour 2026-11-03T12: 5 calls", "revision 1, 3.50 EUR", "1 objects were set aside")
}

// What comes in a month's first 15 days to an hour of the month before is billed and
// invoiced, once; and a revision that is missing there, since a run ended before it, is made.
func TestRecordsOfTheLastMonthAreBilledInTheFirstDays(t *testing.T) {
	p := newPlace(t)
	october := time.Date(2026, 10, 1, 7, 0, 0, 0, time.UTC)
	p.come(october, 5, 0)
	middle := time.Date(2026, 11, 16, 0, 30, 0, 0, time.UTC) // its last hour is one of the 15th day
	code, out := p.runAt(middle.Add(time.Hour), "run --hour last", "--bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.OK, "hour 2026-11-16T00: 0 calls", "month 2026-11: revision 1, 2.25 EUR")
	p.lacks(out, "2026-10")

	code, out = p.runAt(middle, "run --hour last", "--bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.OK, "hour 2026-11-15T23: 0 calls", "month 2026-11: revision 2, 2.25 EUR", "hour 2026-10-01T07: 5 calls", "month 2026-10: revision 1, 1.25 EUR")
	code, out = p.runAt(middle, "run --hour last", "--bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.OK, "month 2026-11: revision 2, 2.25 EUR")
	p.lacks(out, "2026-10")

	if err := os.RemoveAll(filepath.Join(p.bucket, "invoices/month=2026-10")); err != nil {
		t.Fatal(err)
	}
	code, out = p.runAt(middle, "run --hour last", "--bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.OK, "month 2026-10: revision 1, 1.25 EUR")
	p.lacks(out, "hour 2026-10")
}

// An hour whose billed objects are archived is left as it is. That is no failure unless
// records have come to it, and then the rest is invoiced all the same.
func TestRecordsThatComeToAnArchivedHourAreNamed(t *testing.T) {
	p := newPlace(t)
	p.come(hour.Add(time.Hour), 5, 0)
	again := func(wantCode int, parts ...string) {
		t.Helper()
		code, out := p.runAt(hour.Add(150*time.Minute), "run --hour last", "--bucket", p.bucket, "--prices", p.prices)
		p.want(code, out, wantCode, append(parts, "hour 2026-11-03T15: 5 calls", "month 2026-11: revision 1, 3.50 EUR")...)
		if len(parts) == 0 {
			p.lacks(out, "T14")
		}
	}
	again(commandline.OK, "hour 2026-11-03T14: 9 calls")
	first := usage.Object{Node: "node-a", Hour: hour, Sequence: 1}.Key()
	if err := os.Remove(filepath.Join(p.bucket, first)); err != nil {
		t.Fatal(err)
	}
	again(commandline.OK)
	p.write(usage.HourPrefix(hour)+"notes.txt", []byte("hello"))
	again(commandline.OK, "hour 2026-11-03T14: not billed again", "1 objects have come since, of which 0 are of records, such as "+usage.HourPrefix(hour)+"notes.txt")
	p.come(hour, 6, 100)
	again(commandline.Failed, "hour 2026-11-03T14: not billed again", "2 objects have come since, of which 1 are of records",
		"hour 2026-11-03T14: 1 objects of records are not billed: run `lightcone archive restore --hour 2026-11-03T14`")
	p.write(first, p.object(1, 0))
	code, out := p.runAt(hour.Add(150*time.Minute), "run --hour last", "--bucket", p.bucket, "--prices", p.prices)
	p.want(code, out, commandline.Failed, "hour 2026-11-03T14: 14 calls", "set aside "+usage.HourPrefix(hour)+"notes.txt", "revision 2, 4.75 EUR")
}
