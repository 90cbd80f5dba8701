package billing_test

import (
	"context"
	"encoding/json"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone/usage"
	"lightcone/usage/billing"
)

// tiered has a price that depends on the month's quantity.
var tiered = strings.Replace(prices, `{"free": "0", "tiers": [{"from": "0", "price": "1"}]}`,
	`{"free": "5", "tiers": [{"from": "0", "up_to": "20", "price": "1.005"}, {"from": "20", "price": "0.333"}]}`, 1)

func (p place) invoiceOf(tenant string, revision int) billing.Invoice {
	p.t.Helper()
	var invoice billing.Invoice
	if err := json.Unmarshal(p.read((&billing.Revision{Month: "2026-11", Number: revision}).InvoiceKey(tenant)), &invoice); err != nil {
		p.t.Fatal(err)
	}
	return invoice
}

func TestTheSameUsageMakesNoNewRevision(t *testing.T) {
	p := newPlace(t, t.TempDir())
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.bill(hour)
	if revision := p.invoice(prices); revision.Number != 1 || revision.Total != "10.00" {
		t.Errorf("revision %d is of %s", revision.Number, revision.Total)
	}
	before := p.tree("")
	p.bill(hour)
	p.invoice(prices)
	p.invoice(" " + prices) // another file of the same prices
	if difference := cmp.Diff(before, p.tree("")); difference != "" {
		t.Errorf("billing again changed something:\n%s", difference)
	}
}

func TestALateRecordIsADebitAndAChangedOneACredit(t *testing.T) {
	p := newPlace(t, t.TempDir())
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.put(hour, "node-a", 2, calls(hour, 10, 10, "globex", time.Second))
	p.bill(hour)
	p.invoice(prices)

	p.put(hour, "node-a", 3, calls(hour, 20, 2, "acme", time.Second))
	p.put(hour.Add(time.Hour), "node-a", 4, calls(hour.Add(time.Hour), 0, 3, "acme", time.Second))
	p.bill(hour)
	p.bill(hour.Add(time.Hour))
	if revision := p.invoice(prices); revision.Number != 2 || !cmp.Equal(revision.Invoices, []string{"acme"}) {
		t.Errorf("revision %d is of %v", revision.Number, revision.Invoices)
	}
	late := p.invoiceOf("acme", 2)
	debit := billing.Adjustment{Kind: "debit", Against: 1, Meter: "cpu_second", PricesFrom: "2026-01-01", Was: "10.00", Is: "12.00", Difference: "2.00"}
	if !cmp.Equal(late.Adjustments, []billing.Adjustment{debit}) || late.Previous != "10.00" || late.NewHours != "3.00" || late.Total != "15.00" {
		t.Errorf("%+v", late)
	}
	if span := (billing.Span{From: "2026-11-03T14", To: "2026-11-03T15"}); !cmp.Equal(late.Hours, []billing.Span{span}) {
		t.Errorf("it is of the hours %v", late.Hours)
	}

	p.invoice(strings.Replace(prices, `"price": "1"`, `"price": "0.5"`, 1))
	credit := billing.Adjustment{Kind: "credit", Against: 2, Meter: "cpu_second", PricesFrom: "2026-01-01", Was: "15.00", Is: "7.50", Difference: "-7.50"}
	if cheaper := p.invoiceOf("acme", 3); !cmp.Equal(cheaper.Adjustments, []billing.Adjustment{credit}) || cheaper.Total != "7.50" || cheaper.NewHours != "0.00" {
		t.Errorf("%+v", cheaper)
	}
}

func TestATenantWhoseUseHasVanishedGetsAllOfItBack(t *testing.T) {
	p := newPlace(t, t.TempDir())
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.bill(hour)
	p.invoice(prices)
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "globex", time.Second))
	p.bill(hour)
	p.invoice(prices)
	gone := p.invoiceOf("acme", 2)
	if gone.Total != "0.00" || len(gone.Adjustments) != 1 || gone.Adjustments[0].Difference != "-10.00" {
		t.Errorf("%+v", gone)
	}
}

// Whatever comes when: previous total, adjustments and new hours add up to the new
// total, and the last total is that of a month that was billed once, in the end.
func TestRevisionsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		folder, err := os.MkdirTemp("", "lightcone-billing-test-*")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(folder) }()
		p, all := newPlace(t, folder), []usage.Row{}
		number, last := 0, 0
		for sequence := range rapid.IntRange(1, 5).Draw(t, "runs") {
			start := hour.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "hour")) * time.Hour)
			rows := calls(start, number, rapid.IntRange(1, 4).Draw(t, "calls"), rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant"),
				time.Duration(rapid.Int64Range(0, 12e9).Draw(t, "cpu")))
			number, all = number+len(rows), append(all, rows...)
			p.put(start, "node-a", uint64(sequence+1), rows)
			p.bill(start)
			revision := p.invoice(tiered)
			for _, tenant := range revision.Invoices {
				addsUp(t, p.invoiceOf(tenant, revision.Number))
			}
			last = revision.Number
		}
		once := newPlace(t, folder+"/once")
		for i := range 3 {
			start := hour.Add(time.Duration(i) * time.Hour)
			var rows []usage.Row
			for _, row := range all {
				if usage.HourOf(time.UnixMicro(row.Start)).Equal(start) {
					rows = append(rows, row)
				}
			}
			if len(rows) > 0 {
				once.put(start, "node-a", uint64(i+1), rows)
				once.bill(start)
			}
		}
		committed, err := billing.LastRevision(context.Background(), p.Bucket, billing.MonthOf(hour))
		if err != nil || committed.Number != last {
			t.Fatalf("the last revision is %d (%v), want %d", committed.Number, err, last)
		}
		if revision := once.invoice(tiered); revision.Total != committed.Total {
			t.Fatalf("billed at once, the month is %s; in parts, %s", revision.Total, committed.Total)
		}
	})
}

func addsUp(t *rapid.T, invoice billing.Invoice) {
	t.Helper()
	sum := amount(invoice.Previous)
	sum.Add(sum, amount(invoice.NewHours))
	for _, adjustment := range invoice.Adjustments {
		sum.Add(sum, amount(adjustment.Difference))
	}
	lines := new(big.Rat)
	for _, line := range invoice.Lines {
		lines.Add(lines, amount(line.Amount))
	}
	if total := amount(invoice.Total); sum.Cmp(total) != 0 || lines.Cmp(total) != 0 {
		t.Fatalf("it does not add up: %+v", invoice)
	}
}

func amount(text string) *big.Rat {
	parsed, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	return parsed
}

// A run that was killed has written some invoices of a revision and not the revision.
// The next one, with more usage, leaves them and is another attempt at it.
func TestARevisionThatWasNotCommittedIsAttemptedAgain(t *testing.T) {
	p := newPlace(t, t.TempDir())
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.bill(hour)
	p.invoice(prices)
	for _, extension := range []string{"json", "csv", "parquet"} {
		if err := p.Bucket.Delete(t.Context(), "invoices/month=2026-11/revision=0001."+extension); err != nil {
			t.Fatal(err)
		}
	}
	abandoned := p.tree("invoices/")
	p.put(hour, "node-a", 2, calls(hour, 10, 1, "acme", time.Second))
	p.bill(hour)
	revision := p.invoice(prices)
	if revision.Number != 1 || revision.Previous != 0 || revision.Attempt != 2 || revision.Total != "11.00" {
		t.Errorf("made %+v", revision)
	}
	var invoice billing.Invoice
	if err := json.Unmarshal(p.read(revision.InvoiceKey("acme")), &invoice); err != nil || invoice.Total != "11.00" || len(invoice.Adjustments) != 0 || invoice.Previous != "0.00" {
		t.Errorf("it follows %+v (%v)", invoice, err)
	}
	for key, content := range abandoned {
		if string(p.read(key)) != content {
			t.Errorf("%s was changed", key)
		}
	}
}

func TestAMonthThatCannotBeInvoicedSaysWhy(t *testing.T) {
	p := newPlace(t, t.TempDir())
	try := func(text, want string) {
		t.Helper()
		list, err := billing.ParsePriceList([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = p.InvoiceMonth(t.Context(), list, []byte(text), billing.MonthOf(hour)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
	try(prices, "no hour of it has been billed")
	p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
	p.bill(hour)
	try(strings.Replace(prices, "2026-01-01", "2026-11-04", 1), "no version holds at 2026-11-03T14:00:00Z")
	p.invoice(prices)
	try(strings.Replace(prices, "EUR", "CHF", 1), "was invoiced in EUR")
	p.write("invoices/month=2026-11/revision=0001.parquet", []byte("other"))
	try(tiered, "it was changed")
	p.write("bills/dt=2026-11-03/hour=14/bill.parquet", []byte("other"))
	try(tiered, "bill the hour again")
}

// Files of somebody else's lie everywhere in the bucket. Those among an hour's records are
// named in its bill, and none of them changes a figure.
func TestForeignFilesAllOverTheBucketChangeNoInvoice(t *testing.T) {
	billed := func(spoil func(place)) (*billing.Revision, []billing.Refused) {
		p := newPlace(t, t.TempDir())
		p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
		p.put(hour.Add(time.Hour), "node-a", 2, calls(hour.Add(time.Hour), 0, 5, "acme", time.Second))
		spoil(p)
		hours, err := p.HoursToBill(p.ctx(), billing.MonthOf(hour))
		if err != nil {
			t.Fatal(err)
		}
		var refused []billing.Refused
		for _, start := range hours {
			refused = append(refused, p.bill(start).Refused...)
		}
		return p.invoice(prices), refused
	}
	want, _ := billed(func(place) {})
	whole := newPlace(t, t.TempDir())
	whole.put(hour, "node-a", 7, calls(hour, 100, 10, "acme", time.Second))
	object := []byte(whole.tree("usage/")[usage.Object{Node: "node-a", Hour: hour, Sequence: 7}.Key()])
	foreign := []string{
		"usage/dt=2026-11-03/hour=14/notes.txt", "usage/dt=2026-11-03/hour=14/node=node-a/7.parquet",
		"usage/dt=2026-11-03/hour=14/node=node-a/00000000000000000007.parquet.bak", "usage/dt=2026-11-03/hour=14/node=NODE/00000000000000000007.parquet",
		"usage/dt=2026-11-03/hour=14/node=node-a/old/00000000000000000007.parquet",
	}
	got, refused := billed(func(p place) {
		for _, key := range append([]string{
			"notes.txt", "usage/notes.txt", "usage/dt=2026-11-03/00000000000000000007.parquet", "usage/dt=2026-11-31/hour=14/node=node-a/00000000000000000007.parquet",
			"usage/dt=2026-11-03/hour=14x/node=node-a/00000000000000000007.parquet", "usage/dt=2026-11-03/hour=24/node=node-a/00000000000000000007.parquet",
			"bills/notes.txt", "bills/dt=2026-11-03/hour=14/bill.parquet.bak", "invoices/notes.txt", "invoices/month=2026-11/notes.txt",
			"invoices/month=2026-11/revision=one.json", "invoices/month=2026-11/tenant=acme/notes.txt", "counts/notes.txt",
		}, foreign...) {
			p.write(key, object)
		}
	})
	if got.Total != want.Total || !cmp.Equal(got.Hours, want.Hours) || got.Number != 1 {
		t.Errorf("invoiced %+v, want %+v", got, want)
	}
	if len(refused) != len(foreign) {
		t.Errorf("%d files are named, want %d: %+v", len(refused), len(foreign), refused)
	}
	for _, r := range refused {
		if !slices.Contains(foreign, r.Key) || !strings.Contains(r.Reason, "a foreign file") {
			t.Errorf("%s was set aside because %s", r.Key, r.Reason)
		}
	}
}
