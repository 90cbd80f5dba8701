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
// invoices/month=…/revision=0001.json, was written, which is done last.
type Revision struct {
	Month    string       `json:"month"`
	Number   int          `json:"revision"`
	Previous int          `json:"previous"` // the revision that this one follows, 0 for none
	Currency string       `json:"currency"`
	Total    string       `json:"total"`
	Prices   string       `json:"prices_sha256"`
	Charges  string       `json:"charges_sha256"` // of revision=….parquet
	Invoices []string     `json:"invoices"`       // tenants whose invoice changed: those of the others are an earlier revision's
	Hours    []BilledHour `json:"hours"`
}

func monthFolder(month time.Time) string { return "invoices/month=" + month.Format(monthLayout) + "/" }

func revisionKey(month time.Time, number int, extension string) string {
	return fmt.Sprintf("%srevision=%04d.%s", monthFolder(month), number, extension)
}

// InvoiceKey is the key of a tenant's invoice in a revision.
func InvoiceKey(month time.Time, tenant string, number int) string {
	return fmt.Sprintf("%stenant=%s/revision=%04d.json", monthFolder(month), tenant, number)
}

// charges reads a revision's table.
func (r Region) charges(ctx context.Context, month time.Time, revision *Revision) ([]Charge, error) {
	if revision.Number == 0 {
		return nil, nil
	}
	key := revisionKey(month, revision.Number, "parquet")
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
// says that they are there. A number that an interrupted run has begun to use for other
// invoices is passed over.
func (r Region) commit(ctx context.Context, month time.Time, next *Revision, invoices []Invoice, charges []Charge, table []byte) error {
	for {
		err := r.writeRevision(ctx, month, next, invoices, charges, table)
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
		next.Number++
	}
}

// invoicesAtOnce is how many invoices are being written: a hundred thousand of them
// must not wait for each other's round trips.
const invoicesAtOnce = 16

func (r Region) writeRevision(ctx context.Context, month time.Time, next *Revision, invoices []Invoice, charges []Charge, table []byte) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(invoicesAtOnce)
	for i := range invoices {
		invoices[i].Revision = next.Number
		group.Go(func() error {
			content, err := encodeDocument(invoices[i])
			if err != nil {
				return err
			}
			return r.Bucket.WriteNew(groupCtx, InvoiceKey(month, invoices[i].Tenant, next.Number), content)
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
		extension string
		content   []byte
	}{{"parquet", table}, {"csv", lines}, {"json", document}} {
		if err := r.Bucket.WriteNew(ctx, revisionKey(month, next.Number, file.extension), file.content); err != nil {
			return err
		}
	}
	return nil
}

var revisionShape = regexp.MustCompile(`^revision=([0-9]{4,9})\.json$`)

// LastRevision is the month's last committed revision; its Number is 0 if there is
// none.
func LastRevision(ctx context.Context, bucket *store.Bucket, month time.Time) (*Revision, error) {
	folder, number := monthFolder(month), 0
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
	content, err := bucket.Read(ctx, revisionKey(month, number, "json"), longestTable)
	if err != nil {
		return nil, err
	}
	revision := new(Revision)
	if err := json.Unmarshal(content, revision); err != nil {
		return nil, fmt.Errorf("%q: %w", revisionKey(month, number, "json"), err)
	}
	return revision, nil
}
