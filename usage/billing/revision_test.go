package billing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"lightcone/usage/billing"
)

// interrupted is a context that has something else done first when it is looked at for the
// n-th time: the bucket looks at it before whatever it does.
type interrupted struct {
	context.Context
	left int // looks
	by   func()
}

// Err is context.Context's.
func (i *interrupted) Err() error {
	if i.left--; i.left == 0 {
		i.by()
	}
	return i.Context.Err()
}

// Whatever a run has done when another, which knows of more bills, makes all of a revision:
// no two revisions follow the same one, the one that is late says so, and when it is run
// again, all has been charged once.
func TestOfTwoRunsThatFollowOneRevisionOneCommits(t *testing.T) {
	list, err := billing.ParsePriceList([]byte(prices))
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for step, met := 1, true; met; step++ {
		p := newPlace(t, t.TempDir())
		p.put(hour, "node-a", 1, calls(hour, 0, 10, "acme", time.Second))
		p.bill(hour)
		p.invoice(prices)
		p.put(hour, "node-a", 2, calls(hour, 10, 1, "acme", time.Second))
		p.bill(hour)
		met = false
		ctx := &interrupted{Context: t.Context(), left: step, by: func() {
			met = true
			p.put(hour.Add(time.Hour), "node-a", 3, calls(hour.Add(time.Hour), 0, 4, "acme", time.Second))
			p.bill(hour.Add(time.Hour))
			p.invoice(prices)
		}}
		_, err := p.InvoiceMonth(ctx, list, []byte(prices), billing.MonthOf(hour))
		if err != nil {
			lost++
			if !strings.Contains(err.Error(), "another run has made revision 2 meanwhile: run again") {
				t.Errorf("at step %d: %v", step, err)
			}
			p.invoice(prices)
		}
		if !met {
			break
		}
		for number, key := range p.committed() {
			if number != key {
				t.Errorf("at step %d: revision %d follows revision %d", step, number, key-1)
			}
		}
		last, err := billing.LastRevision(t.Context(), p.Bucket, billing.MonthOf(hour))
		if err != nil || last.Total != "15.00" {
			t.Errorf("at step %d: the month comes to %+v (%v), want 15.00", step, last, err)
		}
		var invoice billing.Invoice
		if err := json.Unmarshal(p.read(last.InvoiceKey("acme")), &invoice); err != nil || invoice.Total != "15.00" || invoice.Previous != "10.00" {
			t.Errorf("at step %d: the last invoice is %+v (%v)", step, invoice, err)
		}
	}
	if lost < 4 {
		t.Errorf("a run was late %d times: nobody met another between its invoices and its revision", lost)
	}
}

// committed are the numbers of the month's revisions, and by what they follow, which they
// should have.
func (p place) committed() map[int]int {
	p.t.Helper()
	numbers := make(map[int]int)
	for key, content := range p.tree("invoices/month=2026-11/revision=") {
		var revision billing.Revision
		if !strings.HasSuffix(key, ".json") {
			continue
		}
		if err := json.Unmarshal([]byte(content), &revision); err != nil || key != fmt.Sprintf("invoices/month=2026-11/revision=%04d.json", revision.Number) {
			p.t.Fatalf("%s: %+v (%v)", key, revision, err)
		}
		numbers[revision.Number] = revision.Previous + 1
	}
	return numbers
}
