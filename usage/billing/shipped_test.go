package billing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/usage"
	"lightcone/usage/billing"
	"lightcone/usage/store"
)

// reader adds up what a folder's bucket has, by bills or without.
func reader(t tester, folder string, bills func(*store.Bucket) usage.Bills) *usage.Reader {
	t.Helper()
	r, err := usage.OpenReader(place{t: t}.ctx(), folder, bills)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Whatever is stored before a bill and after it, and whatever nodes tell of by
// themselves: usage by bills is usage by records.
func TestUsageByBillsIsUsageByRecords(t *testing.T) {
	byBill := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		folder, err := os.MkdirTemp("", "lightcone-billing-test-*")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(folder) }()
		p, number := newPlace(t, folder), 0
		const hours = 3
		for sequence := range rapid.IntRange(1, 8).Draw(t, "steps") {
			start := hour.Add(time.Duration(rapid.IntRange(0, hours-1).Draw(t, "hour")) * time.Hour)
			if rapid.Bool().Draw(t, "a bill") {
				p.bill(start)
				continue
			}
			first := max(0, number-rapid.IntRange(0, 2).Draw(t, "copies of what was stored before"))
			rows := calls(start, first, rapid.IntRange(1, 4).Draw(t, "calls"), rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant"), time.Second)
			for i := range rows {
				rows[i].Tenant = []string{"acme", "globex"}[(first+i)%2] // copies are the same
			}
			number = first + len(rows)
			key := p.put(start, fmt.Sprintf("node-%d", sequence%2), uint64(sequence+1), rows)
			if rapid.IntRange(0, 4).Draw(t, "damaged") == 0 {
				p.write(key, p.read(key)[:100])
			}
		}
		except := map[string][]uint64{"node-0": rapid.SliceOfN(rapid.Uint64Range(1, 8), 0, 2).Draw(t, "told of")}
		tenant := rapid.SampledFrom([]lightcone.TenantID{"", "acme", "nobody"}).Draw(t, "tenant of the question")
		period := usage.HoursOf(hour, hour.Add(hours*time.Hour))
		counted := &countedBills{}
		want, wantErr := reader(t, folder, nil).Sum(p.ctx(), tenant, period, except)
		got, gotErr := reader(t, folder, counted.of).Sum(p.ctx(), tenant, period, except)
		var damaged, found usage.Damaged
		if diff := cmp.Diff(want, got); diff != "" || errors.As(wantErr, &damaged) != errors.As(gotErr, &found) || len(damaged) != len(found) {
			t.Fatalf("%v, %v: %s", wantErr, gotErr, diff)
		}
		byBill += counted.good.Load()
	})
	if byBill < 10 {
		t.Errorf("%d hours in all had a bill: they were not what was compared", byBill)
	}
}

// countedBills counts the hours that had a bill.
type countedBills struct {
	usage.Bills
	good atomic.Int64
}

func (c *countedBills) of(bucket *store.Bucket) usage.Bills {
	c.Bills = billing.OfBucket(bucket)
	return c
}

// Billed is usage.Bills'.
func (c *countedBills) Billed(ctx context.Context, tenant lightcone.TenantID, hour time.Time) (usage.Billed, bool, error) {
	billed, ok, err := c.Bills.Billed(ctx, tenant, hour)
	if ok {
		c.good.Add(1)
	}
	return billed, ok, err
}

// Hours that are billed and moved to the archive are still told of; a bill that was spoilt is
// as good as none.
func TestUsageOfArchivedHoursAndSpoiltBills(t *testing.T) {
	folder := t.TempDir()
	p := newPlace(t, folder)
	key := p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.bill(hour)
	content := p.read(key)
	period := usage.HoursOf(hour, hour.Add(time.Hour))
	expect := func(when string, want int64) {
		t.Helper()
		sums, err := reader(t, folder, billing.OfBucket).Sum(t.Context(), "acme", period, nil)
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
		var got int64
		for _, s := range sums {
			got += s.Calls
		}
		if got != want {
			t.Errorf("%s: %d calls, want %d", when, got, want)
		}
	}
	if err := p.Bucket.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	expect("archived", 10)
	p.write(key, content)
	for _, name := range []string{"bill.parquet", "bill.json"} {
		spoilt := "bills/dt=2026-11-03/hour=14/" + name
		good := bytes.Clone(p.read(spoilt))
		p.write(spoilt, []byte("other"))
		expect("with another "+name, 10)
		if err := p.Bucket.Delete(t.Context(), spoilt); err != nil {
			t.Fatal(err)
		}
		expect("without "+name, 10)
		p.write(spoilt, good)
	}
}

// An object comes when those of its hour have been billed and archived, all or some: what was
// billed still counts, and what is not counted is named. A segment that its node tells of, and
// that is in the bill, counts once.
func TestUsageOfAnArchivedHourThatSomethingCameAfter(t *testing.T) {
	for name, test := range map[string]struct {
		archived, except []uint64
		want             int64
		named            []uint64
	}{
		"nothing is archived":         {nil, nil, 17, nil},
		"all is archived":             {[]uint64{1, 2}, nil, 15, []uint64{3}},
		"a part is archived":          {[]uint64{1}, nil, 15, []uint64{3}},
		"what is late is told of":     {[]uint64{1, 2}, []uint64{3}, 15, nil},
		"what is billed is told of":   {[]uint64{1}, []uint64{2}, 2, []uint64{1}},
		"what is gone is told of":     {[]uint64{1}, []uint64{1}, 7, nil},
		"all that is gone or late is": {[]uint64{1}, []uint64{1, 3}, 5, nil},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			p := newPlace(t, folder)
			keys := map[uint64]string{
				1: p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second)),
				2: p.put(hour, "node-a", 2, calls(hour, 10, 5, "acme", time.Second)),
			}
			p.bill(hour)
			keys[3] = p.put(hour, "node-a", 3, calls(hour, 15, 2, "acme", time.Second))
			for _, sequence := range test.archived {
				if err := p.Bucket.Delete(t.Context(), keys[sequence]); err != nil {
					t.Fatal(err)
				}
			}
			sums, err := reader(t, folder, billing.OfBucket).Sum(t.Context(), "acme", usage.HoursOf(hour, hour.Add(time.Hour)), map[string][]uint64{"node-a": test.except})
			var got int64
			for _, s := range sums {
				got += s.Calls
			}
			if got != test.want {
				t.Errorf("%d calls, want %d", got, test.want)
			}
			var damaged usage.Damaged
			if errors.As(err, &damaged); len(damaged) != len(test.named) || err != nil && damaged == nil {
				t.Fatalf("the error is %v, want one that names %v", err, test.named)
			}
			for i, sequence := range test.named {
				if !strings.Contains(damaged[i].Error(), keys[sequence]) {
					t.Errorf("%v does not name %s", damaged[i], keys[sequence])
				}
			}
		})
	}
}

// A day of 60 objects an hour, of which all but the last hour is billed.
func BenchmarkUsageOfADay(b *testing.B) {
	folder := b.TempDir()
	p := newPlace(b, folder)
	const objects, each, hours = 60, 500, 24
	for h := range hours {
		start := hour.Add(time.Duration(h) * time.Hour)
		for i := range objects {
			rows := calls(start, i*each, each, "acme", time.Second)
			for r := range rows {
				rows[r].Start = start.UnixMicro() + int64(i*each+r)
			}
			p.put(start, fmt.Sprintf("node-%d", i%4), uint64(h*objects+i+1), rows)
		}
		if h < hours-1 {
			p.bill(start)
		}
	}
	period := usage.HoursOf(hour, hour.Add(hours*time.Hour))
	for name, bills := range map[string]func(*store.Bucket) usage.Bills{"by-records": nil, "by-bills": billing.OfBucket} {
		r := reader(b, folder, bills)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				sums, err := r.Sum(b.Context(), "acme", period, nil)
				if err != nil || len(sums) != 1 || sums[0].Calls != hours*objects*each {
					b.Fatal(sums, err)
				}
			}
		})
	}
}
