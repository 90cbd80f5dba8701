package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"lightcone"
)

// sound is evidence of three calls that were answered, and one whose answer nobody
// got, of two whose gateway died.
func sound() evidence {
	e := evidence{answered: make(map[lightcone.CallID]spent), refused: []lightcone.CallID{id(9)}, unknown: 2}
	for n := range 4 {
		used := spent{CPU: time.Duration(n+1) * time.Microsecond, BytesIn: int64(10 * n), BytesOut: int64(n)}
		if n < 3 {
			e.answered[id(n)] = used
		}
		e.records = append(e.records, record{call: id(n), used: used})
	}
	e.bills = sums{Calls: 4, CPU: 10_000, BytesIn: 60, BytesOut: 6}
	e.invoices = e.bills
	e.audited = audited{answered: 3, interrupted: 1, recorded: 4, stored: 4, billed: 4}
	return e
}

func id(n int) lightcone.CallID { return lightcone.CallID{15: byte(n + 1)} }

// The judge finds nothing in what is sound, and names each fault that is put into it.
func TestTheJudgeNamesEachFault(t *testing.T) {
	t.Parallel()
	if v := judge(sound()); v.err != nil || v.recorded != 4 || v.unheard != 1 || v.duplicates != 0 || v.cpu != 0 {
		t.Fatalf("%+v", v)
	}
	for _, test := range []struct {
		name   string
		breaks func(*evidence)
		says   []string
	}{
		{"a call is lost", func(e *evidence) { e.records = e.records[1:] }, []string{"1 calls answered and lost: [" + id(0).String() + "]", "billed"}},
		{"a call is stored twice, and billed once", func(e *evidence) { e.records = append(e.records, e.records[2]) },
			[]string{"1 calls recorded more than once: [" + id(2).String() + "]"}},
		{"a call is stored twice, and billed twice", func(e *evidence) {
			e.records = append(e.records, e.records[1])
			e.bills.add(sums{Calls: 1, CPU: 2_000, BytesIn: 10, BytesOut: 1})
		}, []string{"1 calls recorded more than once: [" + id(1).String() + "]", "billed {Calls:5 CPU:12000"}},
		{"one is lost and another billed for it", func(e *evidence) { e.records[0] = e.records[1] },
			[]string{"answered and lost: [" + id(0).String() + "]", "recorded more than once: [" + id(1).String() + "]"}},
		{"CPU time is recorded otherwise", func(e *evidence) { e.records[0].used.CPU++ }, []string{"recorded otherwise than their answers say: [" + id(0).String() + "]"}},
		{"CPU time is billed otherwise", func(e *evidence) { e.bills.CPU += 7 }, []string{"billed {Calls:4 CPU:10007"}},
		{"an invoice lacks a call", func(e *evidence) { e.invoices.Calls-- }, []string{"invoiced {Calls:3"}},
		{"a refused call is recorded", func(e *evidence) { e.refused = append(e.refused, id(3)) }, []string{"recorded though they were refused: [" + id(3).String() + "]"}},
		{"calls are recorded that nobody made", func(e *evidence) { e.unknown = 0 }, []string{"1 calls recorded more than anybody made"}},
		{"a segment is left", func(e *evidence) { e.left = 1 }, []string{"1 segments are not in the bucket"}},
		{"the reconciliation names a difference", func(e *evidence) { e.audit = []string{"node gw-1: 7 records"} }, []string{"the reconciliation says: node gw-1: 7 records"}},
		{"the reconciliation misses an object", func(e *evidence) { e.audited.stored-- }, []string{"the reconciliation counts otherwise"}},
		{"nobody has called", func(e *evidence) { *e = evidence{} }, []string{"no call was answered"}},
	} {
		e := sound()
		test.breaks(&e)
		v := judge(e)
		for _, says := range test.says {
			if v.err == nil || !strings.Contains(v.err.Error(), says) {
				t.Errorf("%s: it says %v, want %q", test.name, v.err, says)
			}
		}
	}
}

// What a kill explains is one torn record, and nothing else.
func TestWhatAKillExplains(t *testing.T) {
	t.Parallel()
	torn := "node gw-0: sequence 12: 1 records were damaged on the node's disk, and are lost"
	other := "node gw-0: 1 calls were answered and not recorded"
	if left := unexplained([]string{torn, other, torn, torn}, 2); !slices.Equal(left, []string{other, torn}) {
		t.Errorf("left %q", left)
	}
}

func TestTheReconciliationIsRead(t *testing.T) {
	t.Parallel()
	var a audited
	for range 2 {
		a.read("NODE  ANSWERED  INTERRUPTED  RECORDED  STORED  BILLED\ngw-0  10  1  11  11  11\ngw-1  5  0  5  4  4\n\nnode gw-1: sequence 3: 1 records were recorded and are not stored\n")
	}
	found := a.findings
	a.findings = nil
	if want := (audited{answered: 30, interrupted: 2, recorded: 32, stored: 30, billed: 30}); a.answered != want.answered || a.interrupted != want.interrupted ||
		a.recorded != want.recorded || a.stored != want.stored || a.billed != want.billed {
		t.Errorf("read %+v, want %+v", a, want)
	}
	if len(found) != 2 || found[0] != "node gw-1: sequence 3: 1 records were recorded and are not stored" {
		t.Errorf("found %q", found)
	}
}

func TestCPUOfAnAnswer(t *testing.T) {
	t.Parallel()
	for timing, want := range map[string]time.Duration{
		"queue;dur=0.000, exec;dur=0.113, cpu;dur=0.061": 61 * time.Microsecond, "cpu;dur=12345.678": 12_345_678 * time.Microsecond,
		"": -1, "queue;dur=0.000": -1, "cpu;dur=1": -1, "cpu;dur=1.5": -1, "cpu;dur=-1.500": -1, "cpu;dur=1.500, exec;dur=2.000": -1,
	} {
		got, err := cpuOf(timing)
		if (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%q is %v, %v; want %v", timing, got, err, want)
		}
	}
}

// Two clients are not given one id.
func TestAnIDThatIsGivenTwice(t *testing.T) {
	t.Parallel()
	one := heard{answered: map[lightcone.CallID]spent{id(1): {}}}
	other := heard{answered: maps.Clone(one.answered)}
	if err := one.add(other); err == nil {
		t.Error("nobody noticed")
	}
}
