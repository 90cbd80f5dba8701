package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lightcone/usage/billing"
)

// batch bills hours and makes the invoices of months. It says what came of each, and
// remembers what it had to leave.
type batch struct {
	region  billing.Region
	out     io.Writer
	bill    func(context.Context, time.Time) (billing.Bill, error)
	refused int   // objects that were set aside
	failed  error // about late records, which are no reason to make no invoices
}

func (b *batch) billHour(ctx context.Context, hour time.Time) error {
	bill, err := b.bill(ctx, hour)
	if err == nil {
		b.refused += printBill(b.out, bill)
	}
	return err
}

// billLate bills the hours before the given one to which records have come since, and says
// which months are to be invoiced.
func (b *batch) billLate(ctx context.Context, before time.Time) ([]time.Time, error) {
	late, err := b.region.Late(ctx, before)
	if err != nil {
		return nil, err
	}
	for _, hour := range late.Hours {
		if err := b.billHour(ctx, hour); err != nil {
			b.failed = errors.Join(b.failed, err)
		}
		if ctx.Err() != nil {
			return nil, b.failed
		}
	}
	for _, archived := range late.Archived {
		hour, unbilled := billing.HourText(archived.Hour), archived.Unbilled()
		_, _ = fmt.Fprintf(b.out, "hour %s: not billed again, for what was billed is in the archive: %d objects have come since, of which %d are of records, such as %s\n",
			hour, len(archived.Came), unbilled, archived.Came[0])
		if unbilled > 0 {
			b.failed = errors.Join(b.failed, fmt.Errorf("hour %s: %d objects of records are not billed: run `lightcone archive restore --hour %s`, and bill it again", hour, unbilled, hour))
		}
	}
	return late.Months, nil
}

// invoice makes the months' invoices and says so. It fails when something was left, and
// could not be billed.
func (b *batch) invoice(ctx context.Context, list *billing.PriceList, text []byte, months []time.Time) error {
	failed := b.failed
	for _, month := range months {
		revision, err := b.region.InvoiceMonth(ctx, list, text, month)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		printRevision(b.out, revision)
	}
	if b.refused > 0 {
		failed = errors.Join(failed, fmt.Errorf("%d objects were set aside and not billed; they are named above, and in the bill", b.refused))
	}
	return failed
}

// printBill says what an hour came to, and how many of its objects were set aside.
func printBill(out io.Writer, bill billing.Bill) (refused int) {
	stored := int64(0)
	for _, object := range bill.Objects {
		stored += object.Rows
	}
	_, _ = fmt.Fprintf(out, "hour %s: %d calls billed of %d records in %d objects; CPU %.3f s, %d bytes in, %d bytes out\n",
		bill.Hour, bill.Totals.Calls, stored, len(bill.Objects), time.Duration(bill.Totals.CPU).Seconds(), bill.Totals.BytesIn, bill.Totals.BytesOut)
	if bill.Disputed > 0 {
		_, _ = fmt.Fprintf(out, "hour %s: %d calls have records that differ; each is billed at the least of them\n", bill.Hour, bill.Disputed)
	}
	if bill.Strays > 0 {
		_, _ = fmt.Fprintf(out, "hour %s: %d calls have an id of another hour than their start\n", bill.Hour, bill.Strays)
	}
	for _, object := range bill.Refused {
		_, _ = fmt.Fprintf(out, "hour %s: set aside %s: %s\n", bill.Hour, object.Key, object.Reason)
	}
	return len(bill.Refused)
}

func printRevision(out io.Writer, revision *billing.Revision) {
	_, _ = fmt.Fprintf(out, "month %s: revision %d, %s %s in all\n", revision.Month, revision.Number, revision.Total, revision.Currency)
	for i, tenant := range revision.Invoices {
		if i == mostListed {
			_, _ = fmt.Fprintf(out, "and %d more\n", len(revision.Invoices)-mostListed)
			break
		}
		_, _ = fmt.Fprintln(out, revision.InvoiceKey(tenant))
	}
}

const mostListed = 20
