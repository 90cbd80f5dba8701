package billing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone/usage"
	"lightcone/usage/billing"
)

// Whatever the split of records into objects, their order, the copies of them and the
// number of mappers: the bill's rows and the invoices are the same, byte for byte, and are
// what plain addition says.
func TestNoSplitOrderOrCopyChangesABill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) usage.Row {
			row := call(hour, rapid.IntRange(0, 40).Draw(t, "number"), rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant"),
				time.Duration(rapid.Int64Range(0, 5e9).Draw(t, "cpu")))
			row.Function = rapid.SampledFrom([]string{"resize", "echo"}).Draw(t, "function")
			row.Outcome = rapid.SampledFrom([]string{"answered", "failed", "timeout"}).Draw(t, "outcome")
			return row
		}), 1, 20).Draw(t, "records")
		records = firstOfEach(records)
		tables := make(map[string]string)
		for _, name := range []string{"one", "other"} {
			folder, err := os.MkdirTemp("", "lightcone-billing-test-*")
			if err != nil {
				t.Fatal(err)
			}
			p := newPlace(t, folder)
			split(t, p, records)
			bill := billInShares(t, p, rapid.IntRange(1, 4).Draw(t, "shares"))
			if bill.Disputed != 0 || bill.Totals != sum(records) {
				t.Fatalf("billed %+v with %d disputed, want %+v", bill.Totals, bill.Disputed, sum(records))
			}
			p.invoice(prices)
			tables[name] = fmt.Sprint(string(p.read("bills/dt=2026-11-03/hour=14/bill.csv")), string(p.read("bills/dt=2026-11-03/hour=14/bill.parquet")), withoutReport(p))
			_ = os.RemoveAll(folder)
		}
		if tables["one"] != tables["other"] {
			t.Fatal("two splits of the same records have other bills or invoices")
		}
	})
}

func firstOfEach(records []usage.Row) []usage.Row {
	seen := make(map[[16]byte]bool)
	return slices.DeleteFunc(records, func(r usage.Row) bool {
		again := seen[r.Call]
		seen[r.Call] = true
		return again
	})
}

func sum(records []usage.Row) (total billing.Quantities) {
	for _, r := range records {
		total.Calls++
		total.CPU += r.CPU
		total.BytesIn += r.BytesIn
		total.BytesOut += r.BytesOut
	}
	return total
}

// split stores the records in some objects of some nodes, each at least once, in any
// order.
func split(t *rapid.T, p place, records []usage.Row) {
	copies := slices.Clone(records)
	for range rapid.IntRange(0, 20).Draw(t, "copies") {
		copies = append(copies, records[rapid.IntRange(0, len(records)-1).Draw(t, "copied")])
	}
	copies = rapid.Permutation(copies).Draw(t, "order")
	objects := make(map[int][]usage.Row)
	for _, row := range copies {
		object := rapid.IntRange(0, 4).Draw(t, "object")
		objects[object] = append(objects[object], row)
	}
	for object, rows := range objects {
		p.put(hour, fmt.Sprintf("node-%d", object%2), uint64(object+1), rows)
	}
}

// billInShares bills the hour at once, or by mappers of which some never come.
func billInShares(t *rapid.T, p place, shares int) billing.Bill {
	ctx := context.Background()
	if shares == 1 {
		return p.bill(hour)
	}
	for index := range shares {
		if rapid.Bool().Draw(t, "mapped") {
			if _, err := p.MapShare(ctx, hour, "run-1", billing.Share{Index: index, Of: shares}); err != nil {
				t.Fatal(err)
			}
		}
	}
	bill, err := p.ReduceHour(ctx, hour, "run-1", shares)
	if err != nil {
		t.Fatal(err)
	}
	return bill
}

// withoutReport is all that was written about the month.
func withoutReport(p place) string {
	var all strings.Builder
	tree := p.tree("invoices/")
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		fmt.Fprintln(&all, key, tree[key])
	}
	return all.String()
}

func TestDamagedAndForeignObjectsAreNamedAndTheRestIsBilled(t *testing.T) {
	p := newPlace(t, t.TempDir())
	good := p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	whole := p.read(good)
	negative := calls(hour, 20, 3, "acme", time.Second)
	negative[1].CPU = -1
	nameless := calls(hour, 30, 3, "Acme!", time.Second)
	late := calls(hour, 40, 3, "acme", time.Second)
	late[2].Start = hour.Add(time.Hour).UnixMicro()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/3] ^= 4
	want := map[string]string{
		p.put(hour, "node-b", 1, negative): "1 are of less than nothing",
		p.put(hour, "node-b", 2, nameless): `tenant "Acme!"`,
		p.put(hour, "node-b", 3, late):     "1 do not start in the hour",
	}
	for name, content := range map[string][]byte{
		"node=node-a/00000000000000000002.parquet": whole,              // another's name
		"node=node-c/00000000000000000001.parquet": whole[:1000],       // cut short
		"node=node-c/00000000000000000002.parquet": nil,                // empty
		"node=node-a/readme.txt":                   []byte("hello"),    // foreign
		"node=node-c/00000000000000000003.parquet": []byte("PAR1PAR1"), // hardly a file
		"node=node-c/00000000000000000004.parquet": flipped,
	} {
		key := usage.HourPrefix(hour) + name
		p.write(key, content)
		want[key] = ""
	}
	for _, shares := range []int{1, 3} {
		bill, err := p.ReduceHour(t.Context(), hour, "run-1", shares)
		if err != nil {
			t.Fatal(err)
		}
		if bill.Totals != sum(calls(hour, 0, 10, "acme", time.Second)) || len(bill.Objects) != 1 || bill.Objects[0].Key != good {
			t.Errorf("billed %+v of %+v", bill.Totals, bill.Objects)
		}
		if len(bill.Refused) != len(want) {
			t.Errorf("%d objects were refused, want %d: %+v", len(bill.Refused), len(want), bill.Refused)
		}
		for _, refused := range bill.Refused {
			if reason, known := want[refused.Key]; !known || !strings.Contains(refused.Reason, reason) || refused.Reason == "" {
				t.Errorf("%s was refused because %s", refused.Key, refused.Reason)
			}
		}
	}
	if left := p.tree(usage.HourPrefix(hour)); len(left) != len(want)+1 {
		t.Errorf("%d objects are left, want %d", len(left), len(want)+1)
	}
}

func TestAMapperThatSawOtherObjectsIsMappedAgain(t *testing.T) {
	p := newPlace(t, t.TempDir())
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	for index := range 2 {
		if _, err := p.MapShare(t.Context(), hour, "run-1", billing.Share{Index: index, Of: 2}); err != nil {
			t.Fatal(err)
		}
		p.put(hour, "node-b", uint64(index+1), calls(hour, 5*index, 10, "acme", time.Second)) // comes between the mappers, and after
	}
	bill, err := p.ReduceHour(t.Context(), hour, "run-1", 2)
	if err != nil {
		t.Fatal(err)
	}
	if bill.Totals.Calls != 15 {
		t.Errorf("%d calls billed, want 15", bill.Totals.Calls)
	}
	if left := p.tree("bills/dt=2026-11-03/hour=14/run="); len(left) != 0 {
		t.Errorf("partials are left: %v", slices.Collect(maps.Keys(left)))
	}
}

func TestAnHourWhoseBilledObjectIsGoneIsNotBilledAgain(t *testing.T) {
	p := newPlace(t, t.TempDir())
	key := p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.put(hour, "node-a", 2, calls(hour, 10, 10, "acme", time.Second))
	before := p.bill(hour)
	if err := p.Bucket.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := p.BillHour(t.Context(), hour); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("the error is %v, want one that names %s", err, key)
	}
	after, err := billing.ReadBill(t.Context(), p.Bucket, hour)
	if err != nil || !reflect.DeepEqual(*after, before) {
		t.Errorf("the bill is now %+v (%v)", after, err)
	}
}

func TestAnEmptyHourHasABill(t *testing.T) {
	p := newPlace(t, t.TempDir())
	if bill := p.bill(hour); bill.Totals != (billing.Quantities{}) {
		t.Errorf("billed %+v", bill.Totals)
	}
	if revision := p.invoice(prices); revision.Total != "0.00" {
		t.Errorf("invoiced %s", revision.Total)
	}
}

func TestAnEstimateIsTheMostThatABillComesTo(t *testing.T) {
	p := newPlace(t, t.TempDir())
	rows := calls(hour, 0, 10, "acme", time.Second)
	p.put(hour, "node-a", 1, rows)
	p.put(hour, "node-a", 2, rows[:3])
	p.write(usage.HourPrefix(hour)+"x", nil)
	most, refused, err := p.EstimateHour(t.Context(), hour)
	if err != nil || most != sum(append(slices.Clone(rows), rows[:3]...)) || len(refused) != 1 {
		t.Errorf("estimated %+v without %+v (%v)", most, refused, err)
	}
	if written := p.tree("bills/"); len(written) != 0 {
		t.Errorf("it wrote %v", slices.Collect(maps.Keys(written)))
	}
}

// A partial is JSON that another process reads: it has to come back as it was.
func TestAPartialSurvivesItsFile(t *testing.T) {
	p := newPlace(t, t.TempDir())
	rows := calls(hour, 0, 50, "acme", time.Second)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	p.put(hour, "node-a", 1, rows)
	partial, err := p.MapShare(t.Context(), hour, "run.1", billing.Share{Index: 1, Of: 3})
	if err != nil {
		t.Fatal(err)
	}
	var read billing.Partial
	if err := json.Unmarshal(p.read("bills/dt=2026-11-03/hour=14/run=run.1/share-1-of-3.json"), &read); err != nil || !reflect.DeepEqual(read, *partial) {
		t.Errorf("read %+v (%v), wrote %+v", read, err, partial)
	}
}

func TestSharesAndRunsThatCannotBeUsed(t *testing.T) {
	p := newPlace(t, t.TempDir())
	for _, share := range []billing.Share{{Index: 0, Of: 0}, {Index: 3, Of: 3}, {Index: -1, Of: 3}, {Index: 0, Of: 1001}} {
		if _, err := p.MapShare(t.Context(), hour, "run", share); err == nil {
			t.Errorf("share %+v was mapped", share)
		}
	}
	for _, run := range []string{"", "..", "a/b", "a b", strings.Repeat("x", 201)} {
		if _, err := p.ReduceHour(t.Context(), hour, run, 1); err == nil {
			t.Errorf("run %q was reduced", run)
		}
	}
}
