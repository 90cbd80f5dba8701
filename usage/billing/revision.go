package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"lightcone"
	"lightcone/usage/store"
)

// BilledHour is an hour's bill as a revision has used it.
type BilledHour struct {
	Hour  string `json:"hour"`
	Table string `json:"table_sha256"`
}

// Revision is a state of a month's invoices. It was committed when its own document,
// invoices/month=…/revision=0001.json, was written, which is done last: an invoice or a
// table that no such document names counts for nothing.
type Revision struct {
	Month    string       `json:"month"`
	Number   int          `json:"revision"`
	Previous int          `json:"previous"` // the revision that this one follows, 0 for none; one less than the number
	Attempt  int          `json:"attempt"`  // whose invoices and tables are the revision's, from 1: see InvoiceKey
	Currency string       `json:"currency"`
	Total    string       `json:"total"`
	Prices   string       `json:"prices_sha256"`
	Charges  string       `json:"charges_sha256"` // of the revision's table
	Invoices []string     `json:"invoices"`       // tenants whose invoice changed: those of the others are an earlier revision's
	Hours    []BilledHour `json:"hours"`
}

func monthFolder(month string) string { return "invoices/month=" + month + "/" }

// documentKey is the same for all who follow one revision: of them, one can commit.
func documentKey(month string, number int) string {
	return fmt.Sprintf("%srevision=%04d.json", monthFolder(month), number)
}

// file is the name of an invoice or a table. A later attempt than the first has names of
// its own: what another run has written, that was interrupted or is still at it, stays.
func (r *Revision) file(extension string) string {
	if r.Attempt > 1 {
		return fmt.Sprintf("revision=%04d-%d.%s", r.Number, r.Attempt, extension)
	}
	return fmt.Sprintf("revision=%04d.%s", r.Number, extension)
}

func (r *Revision) tableKey(extension string) string { return monthFolder(r.Month) + r.file(extension) }

// InvoiceKey is the key of a tenant's invoice in the revision:
// invoices/month=…/tenant=…/revision=0001.json, or revision=0001-2.json if the second attempt
// at it was the one that was committed.
func (r *Revision) InvoiceKey(tenant string) string {
	return monthFolder(r.Month) + "tenant=" + tenant + "/" + r.file("json")
}

// charges reads a revision's table.
func (r Region) charges(ctx context.Context, revision *Revision) ([]Charge, error) {
	if revision.Number == 0 {
		return nil, nil
	}
	key := revision.tableKey("parquet")
	table, err := r.Bucket.Read(ctx, key, longestTable)
	if err != nil {
		return nil, err
	}
	if digest := lightcone.DigestOf(table).String(); digest != revision.Charges {
		return nil, fmt.Errorf("%q has the digest %s, its revision says %s: it was changed", key, digest, revision.Charges)
	}
	return decodeTable[Charge](table)
}

// commit writes a revision: the invoices, the tables, and last the document that
// says that they are there, and whose name only one of those who follow the same revision
// gets. Invoices and tables that others have begun to write are left to them.
func (r Region) commit(ctx context.Context, month time.Time, next *Revision, invoices []Invoice, charges []Charge, table []byte) error {
	for next.Attempt = 1; ; next.Attempt++ {
		err := r.writeRevision(ctx, next, invoices, charges, table)
		if !errors.Is(err, store.ErrExists) {
			return err
		}
		last, lastErr := LastRevision(ctx, r.Bucket, month)
		if lastErr != nil {
			return lastErr
		}
		if last.Number != next.Previous {
			return fmt.Errorf("month %s: another run has made revision %d meanwhile: run again", next.Month, last.Number)
		}
	}
}

// invoicesAtOnce is how many invoices are being written: a hundred thousand of them
// must not wait for each other's round trips.
const invoicesAtOnce = 16

func (r Region) writeRevision(ctx context.Context, next *Revision, invoices []Invoice, charges []Charge, table []byte) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(invoicesAtOnce)
	for i := range invoices {
		group.Go(func() error {
			content, err := encodeDocument(invoices[i])
			if err != nil {
				return err
			}
			return r.Bucket.WriteNew(groupCtx, next.InvoiceKey(invoices[i].Tenant), content)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	lines, err := encodeCharges(charges)
	if err != nil {
		return err
	}
	document, err := encodeDocument(next)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		key     string
		content []byte
	}{{next.tableKey("parquet"), table}, {next.tableKey("csv"), lines}, {documentKey(next.Month, next.Number), document}} {
		if err := r.Bucket.WriteNew(ctx, file.key, file.content); err != nil {
			return err
		}
	}
	return nil
}

var revisionShape = regexp.MustCompile(`^revision=([0-9]{4,9})\.json$`)

// LastRevision is the month's last committed revision; its Number is 0 if there is
// none.
func LastRevision(ctx context.Context, bucket *store.Bucket, month time.Time) (*Revision, error) {
	name := month.Format(monthLayout)
	folder, number := monthFolder(name), 0
	err := bucket.List(ctx, folder+"revision=", func(o store.Object) error {
		if parts := revisionShape.FindStringSubmatch(o.Key[len(folder):]); parts != nil {
			found, err := strconv.Atoi(parts[1])
			number = max(number, found)
			return err
		}
		return nil
	})
	if err != nil || number == 0 {
		return new(Revision), err
	}
	content, err := bucket.Read(ctx, documentKey(name, number), longestTable)
	if err != nil {
		return nil, err
	}
	revision := new(Revision)
	if err := json.Unmarshal(content, revision); err != nil {
		return nil, fmt.Errorf("%q: %w", documentKey(name, number), err)
	}
	return revision, nil
}
