package billing_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/usage"
	"lightcone/usage/billing"
)

// count writes a node's own counts, as the ledger does.
func (p place) count(node string, answered int64, closed bool, sequences ...usage.SequenceCount) {
	p.t.Helper()
	counts := usage.Counts{
		Node: node, Hour: hour, Closed: closed, Answered: answered,
		Ledgers: map[string]usage.Share{"1": {Closed: closed, Answered: answered}},
	}
	for _, s := range sequences {
		s.Ledger = "1"
		counts.Sequences = append(counts.Sequences, s)
		counts.Recorded += s.Rows
		counts.Torn += s.Torn
	}
	content, err := json.Marshal(counts)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(usage.CountsKey(node, hour), content)
}

func (p place) findings(archived map[string]int64) []string {
	p.t.Helper()
	result := p.reconcile(archived)
	lines := make([]string, len(result.Findings))
	for i, finding := range result.Findings {
		lines[i] = finding.String()
	}
	slices.Sort(lines)
	return lines
}

func (p place) reconcile(archived map[string]int64) *billing.Reconciliation {
	p.t.Helper()
	result, err := billing.Reconcile(p.ctx(), p.Bucket, archived, hour)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	key := func(node string, sequence uint64) string {
		return usage.Object{Node: node, Hour: hour, Sequence: sequence}.Key()
	}
	for name, test := range map[string]struct {
		spoil func(t *testing.T, p place)
		want  []string
	}{
		"nothing is wrong": {func(*testing.T, place) {}, nil},
		"an object was deleted": {func(t *testing.T, p place) {
			if err := p.Bucket.Delete(t.Context(), key("node-a", 2)); err != nil {
				t.Fatal(err)
			}
		}, []string{"node node-a: sequence 2: 5 records were billed and are no longer stored", "node node-a: sequence 2: 5 records were recorded and are not stored"}},
		"an object was damaged": {func(_ *testing.T, p place) {
			p.write(key("node-a", 2), p.read(key("node-a", 2))[:100])
		}, []string{"node node-a: sequence 2: the stored object is damaged: cut short: a Parquet file's end is missing"}},
		"an object came late": {func(_ *testing.T, p place) {
			p.put(hour, "node-b", 2, calls(hour, 30, 4, "acme", time.Second))
			p.count("node-b", 7, true, usage.SequenceCount{Sequence: 1, Rows: 3}, usage.SequenceCount{Sequence: 2, Rows: 4})
		}, []string{"node node-b: sequence 2: 4 records were stored after the hour was billed: bill it again"}},
		"nobody has counted an object": {func(_ *testing.T, p place) {
			p.put(hour, "node-c", 1, calls(hour, 30, 4, "acme", time.Second))
			p.bill(hour)
		}, []string{"node node-c: sequence 1: 4 records are stored that the node has not counted"}},
		"calls were answered and not recorded": {func(_ *testing.T, p place) {
			p.count("node-b", 5, true, usage.SequenceCount{Sequence: 1, Rows: 3})
		}, []string{"node node-b: 2 calls were answered and not recorded"}},
		"calls were recorded and not answered": {func(_ *testing.T, p place) {
			p.count("node-b", 2, true, usage.SequenceCount{Sequence: 1, Rows: 3})
		}, []string{"node node-b: 1 records are of calls that were not answered"}},
		"records were torn": {func(_ *testing.T, p place) {
			p.count("node-b", 4, true, usage.SequenceCount{Sequence: 1, Rows: 3, Torn: 1})
		}, []string{"node node-b: sequence 1: 1 records were damaged on the node's disk, and are lost"}},
		"an object has other rows": {func(_ *testing.T, p place) {
			p.count("node-b", 4, true, usage.SequenceCount{Sequence: 1, Rows: 4})
		}, []string{"node node-b: sequence 1: -1 records are stored, less those that the node has counted, 4"}},
		"the hour is open": {func(_ *testing.T, p place) {
			p.count("node-b", 3, false, usage.SequenceCount{Sequence: 1, Rows: 3})
		}, []string{"node node-b: the node has not closed the hour: it may still hold records of it"}},
		"a call is stored twice": {func(_ *testing.T, p place) {
			p.put(hour, "node-b", 2, calls(hour, 9, 1, "acme", time.Second))
			p.count("node-b", 4, true, usage.SequenceCount{Sequence: 1, Rows: 3}, usage.SequenceCount{Sequence: 2, Rows: 1})
			p.bill(hour)
		}, []string{"node node-b: sequence 2: 1 records are of calls that are billed already, by another record"}},
		"counts cannot be read": {func(_ *testing.T, p place) {
			p.write(usage.CountsKey("node-d", hour), []byte("{"))
		}, []string{"node node-d: counts/dt=2026-11-03/hour=14/node=node-d.json: its counts cannot be used: counts: unexpected end of JSON input"}},
		"foreign files": {func(_ *testing.T, p place) {
			p.write(usage.CountsPrefix(hour)+"x", nil)
			p.write(usage.HourPrefix(hour)+"y", nil)
			p.bill(hour)
		}, []string{"counts/dt=2026-11-03/hour=14/x: a foreign file among the counts", "usage/dt=2026-11-03/hour=14/y: a foreign file among the records"}},
		"an object was refused": {func(_ *testing.T, p place) {
			spoilt := calls(hour, 30, 4, "Acme!", time.Second)
			p.put(hour, "node-b", 2, spoilt)
			p.count("node-b", 7, true, usage.SequenceCount{Sequence: 1, Rows: 3}, usage.SequenceCount{Sequence: 2, Rows: 4})
			p.bill(hour)
		}, []string{`node node-b: sequence 2: 4 records were not billed: its records cannot be used: tenant "Acme!": want 1 to 63 lower-case letters, digits or hyphens, starting with a letter`}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, t.TempDir())
			p.put(hour, "node-a", 1, calls(hour, 0, 5, "acme", time.Second))
			p.put(hour, "node-a", 2, calls(hour, 5, 5, "acme", time.Second))
			p.put(hour, "node-b", 1, calls(hour, 10, 3, "acme", time.Second))
			p.count("node-a", 10, true, usage.SequenceCount{Sequence: 1, Rows: 5}, usage.SequenceCount{Sequence: 2, Rows: 5}, usage.SequenceCount{Sequence: 3, Rows: 0})
			p.count("node-b", 3, true, usage.SequenceCount{Sequence: 1, Rows: 3})
			p.bill(hour)
			test.spoil(t, p)
			if found := p.findings(nil); !slices.Equal(found, test.want) {
				t.Errorf("found %s", cmp.Diff(test.want, found))
			}
		})
	}
}

func TestWhatWasAnsweredWasStoredAndBilled(t *testing.T) {
	p := newPlace(t, t.TempDir())
	key := p.put(hour, "node-a", 1, calls(hour, 0, 5, "acme", time.Second))
	p.count("node-a", 5, true, usage.SequenceCount{Sequence: 1, Rows: 5})
	if found := p.findings(nil); !slices.Equal(found, []string{"the hour has not been billed"}) {
		t.Errorf("before the bill: %q", found)
	}
	p.bill(hour)
	want := []billing.NodeHour{{Node: "node-a", Answered: 5, Recorded: 5, Stored: 5, Billed: 5}}
	if result := p.reconcile(nil); !cmp.Equal(result.Nodes, want) || len(result.Findings) > 0 {
		t.Errorf("%+v", result)
	}
	if err := p.Bucket.Delete(p.ctx(), key); err != nil {
		t.Fatal(err)
	}
	if result := p.reconcile(map[string]int64{key: 5, "usage/dt=2026-11-03/hour=15/node=node-a/00000000000000000009.parquet": 1}); !cmp.Equal(result.Nodes, want) || len(result.Findings) > 0 {
		t.Errorf("in the archive: %+v", result)
	}
}

func ExampleFinding_String() {
	fmt.Println(billing.Finding{Node: "gateway-1", Sequence: 12, Count: 3, What: "records were recorded and are not stored"})
	// Output: node gateway-1: sequence 12: 3 records were recorded and are not stored
}
