package billing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lightcone/queue"
	"lightcone/usage"
	"lightcone/usage/store"
)

// ship has a ledger bring rows to the bucket, as one segment.
func (p place) ship(folder, bucket string, rows []usage.Row) {
	p.t.Helper()
	ledger, err := usage.Open(p.ctx(), usage.Config{
		Dir: folder, Bucket: bucket, Node: "gw-1", Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, row := range rows {
		record := row.Record()
		if err := errors.Join(ledger.Append(&record), ledger.Answered(record.Start)); err != nil {
			p.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx(), time.Minute)
	defer cancel()
	if err := ledger.Stop(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// Whatever a real ledger has stored is lost, one object alone or all that the bucket had
// of the node in an hour, counts included: the hour's report names the sequence, though
// nothing was billed.
func TestEveryLossIsNamedByNodeAndSequence(t *testing.T) {
	folder, bucket := t.TempDir(), t.TempDir()
	p := newPlace(t, bucket)
	first := usage.HourOf(time.Now()).Add(-6 * time.Hour)
	hours := []time.Time{first, first.Add(time.Hour), first.Add(2 * time.Hour), first.Add(3 * time.Hour)}
	number := 0
	rows := func(in ...int) (all []usage.Row) {
		for _, i := range in {
			all = append(all, calls(hours[i], number, 3, "acme", time.Second)...)
			number += 3
		}
		return all
	}
	// The fourth segment has only a late hour's, the fifth hours that are far apart.
	for _, of := range [][]int{{0}, {0, 1}, {1}, {0}, {2, 0}, {2}, {3}} {
		p.ship(folder, bucket, rows(of...))
	}
	silent := func(when string) {
		t.Helper()
		for _, start := range hours {
			for _, line := range p.reconciled(start) {
				if line != "the hour has not been billed" {
					t.Errorf("%s: hour %v: %s", when, start, line)
				}
			}
		}
	}
	silent("before")
	all := p.tree("")
	var sequences []uint64
	for key := range all {
		object, ok := usage.ParseObject(key)
		if !ok {
			continue
		}
		if !slices.Contains(sequences, object.Sequence) {
			sequences = append(sequences, object.Sequence)
		}
		if err := p.Bucket.Delete(p.ctx(), key); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("node gw-1: sequence %d: 3 records were recorded and are not stored", object.Sequence)
		if found := p.reconciled(object.Hour); !slices.Contains(found, want) {
			t.Errorf("without %s: %q", key, found)
		}
		p.write(key, []byte(all[key]))
	}
	slices.Sort(sequences)
	if len(sequences) != 7 || sequences[6] != sequences[0]+6 {
		t.Fatalf("the ledger has used %v", sequences)
	}
	for i, want := range map[int]string{
		0: fmt.Sprintf("node gw-1: sequence %d: the node has used this number, and nothing", sequences[0]),
		1: fmt.Sprintf("node gw-1: sequence %d: the node has used this number, and nothing", sequences[2]),
		2: fmt.Sprintf("node gw-1: sequence %d: the node has used this number, and nothing", sequences[5]),
	} {
		lost := func(o store.Object) error {
			if strings.Contains(o.Key, hours[i].Format("dt=2006-01-02/hour=15/")) {
				return p.Bucket.Delete(p.ctx(), o.Key)
			}
			return nil
		}
		if err := p.Bucket.List(p.ctx(), "", lost); err != nil {
			t.Fatal(err)
		}
		if found := p.reconciled(hours[i]); !slices.ContainsFunc(found, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("without hour %d: %q, want %q", i, found, want)
		}
		for key, content := range all {
			p.write(key, []byte(content))
		}
	}
	silent("after")
}

// countsAt writes a node's counts of an hour, of sequences of a ledger, with no rows
// that an object would have to have.
func (p place) countsAt(start time.Time, ledger string, sequences ...uint64) {
	p.t.Helper()
	counts := usage.Counts{Node: "gw-1", Hour: start, Closed: true, Ledgers: map[string]usage.Share{ledger: {Closed: true}}}
	for _, sequence := range sequences {
		counts.Sequences = append(counts.Sequences, usage.SequenceCount{Sequence: sequence, Ledger: ledger})
	}
	content, err := json.Marshal(counts)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(usage.CountsKey("gw-1", start), content)
}

func TestNumbersThatNothingSpeaksOf(t *testing.T) {
	began := uint64(hour.Add(-49 * time.Hour).UnixMicro()) // the ledger's first number
	ledger := fmt.Sprint(began)
	of := func(numbers ...uint64) []uint64 {
		for i := range numbers {
			numbers[i] += began
		}
		return numbers
	}
	for name, test := range map[string]struct {
		counts map[time.Duration][]uint64 // of the hour so much after the audited one
		want   string                     // N for the ledger's first number
	}{
		"none in a row":                  {map[time.Duration][]uint64{-time.Hour: of(0, 1), 0: of(2, 3), time.Hour: of(4)}, ""},
		"the last before is days before": {map[time.Duration][]uint64{-48 * time.Hour: of(0, 1), 0: of(2)}, ""},
		"it is late":                     {map[time.Duration][]uint64{-70 * time.Hour: of(2), -time.Hour: of(0, 1), 0: of(3)}, ""},
		"the clock was ahead":            {map[time.Duration][]uint64{9 * time.Hour: of(1), -time.Hour: of(0), 0: of(2)}, ""},
		"the one before was redriven":    {map[time.Duration][]uint64{-49*time.Hour - queue.DeadKeep - 6*time.Hour: of(0, 1), 0: of(2)}, ""},
		"one within the hour":            {map[time.Duration][]uint64{0: of(0, 2)}, "sequence N+1: the node has used this number, and"},
		"several":                        {map[time.Duration][]uint64{-time.Hour: of(0), 0: of(5)}, "sequence N+1: the node has used this number and the 3 after it"},
		"the first":                      {map[time.Duration][]uint64{0: of(1)}, "sequence N+0: the node has used this number, and"},
		"the node has none of the hour":  {map[time.Duration][]uint64{-time.Hour: of(0), time.Hour: of(3)}, "sequence N+1: the node has used this number and the 1 after it"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, t.TempDir())
			p.bill(hour)
			for after, numbers := range test.counts {
				p.countsAt(hour.Add(after), ledger, numbers...)
			}
			var want []string
			if test.want != "" {
				want = []string{"node gw-1: " + test.want}
			}
			found := p.findings(nil)
			for i := range found {
				for n := range uint64(9) {
					found[i] = strings.Replace(found[i], fmt.Sprintf("sequence %d:", began+n), fmt.Sprintf("sequence N+%d:", n), 1)
				}
				if i < len(want) {
					found[i] = found[i][:min(len(found[i]), len(want[i]))]
				}
			}
			if !slices.Equal(found, want) {
				t.Error(cmp.Diff(want, found))
			}
		})
	}
}
