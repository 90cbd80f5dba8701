package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/apd/v3"
	"golang.org/x/sync/errgroup"

	"lightcone"
	"lightcone/usage/store"
)

const monthLayout = "2006-01"

// ParseMonth reads a month, in UTC, such as 2026-11.
func ParseMonth(text string) (time.Time, error) {
	month, err := time.Parse(monthLayout, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("month %q: want a year and a month, such as 2026-11", text)
	}
	return month, nil
}

// MonthOf is the month that an hour is in, in UTC.
func MonthOf(hour time.Time) time.Time {
	return time.Date(hour.UTC().Year(), hour.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Span is some hours in a row, from the first to the last.
type Span struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// spansOf groups hours, which are in order.
func spansOf(hours []time.Time) []Span {
	spans := []Span{}
	for i, hour := range hours {
		if i == 0 || !hours[i-1].Add(time.Hour).Equal(hour) {
			spans = append(spans, Span{From: HourText(hour)})
		}
		spans[len(spans)-1].To = HourText(hour)
	}
	return spans
}

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

// HoursWithUsage are the hours of a month of which there are objects, or a bill.
func (r Region) HoursWithUsage(ctx context.Context, month time.Time) ([]time.Time, error) {
	found := make(map[time.Time]bool)
	for _, prefix := range []string{"usage/", "bills/"} {
		err := r.Bucket.List(ctx, prefix+"dt="+month.Format(monthLayout)+"-", func(o store.Object) error {
			if len(o.Key) > len(prefix+hourShape) {
				if hour, err := time.Parse(hourShape, o.Key[len(prefix):len(prefix+hourShape)]); err == nil {
					found[hour] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Keys(found), time.Time.Compare), nil
}

func monthFolder(month time.Time) string { return "invoices/month=" + month.Format(monthLayout) + "/" }

func revisionKey(month time.Time, number int, extension string) string {
	return fmt.Sprintf("%srevision=%04d.%s", monthFolder(month), number, extension)
}

// InvoiceKey is the key of a tenant's invoice in a revision.
func InvoiceKey(month time.Time, tenant string, number int) string {
	return fmt.Sprintf("%stenant=%s/revision=%04d.json", monthFolder(month), tenant, number)
}

// InvoiceMonth makes a month's invoices from its bills. If they are those of the last
// revision, and so are the prices, it writes nothing and returns that revision.
// Nobody else may invoice the month meanwhile.
func (r Region) InvoiceMonth(ctx context.Context, list *PriceList, pricesText []byte, month time.Time) (*Revision, error) {
	last, err := LastRevision(ctx, r.Bucket, month)
	if err != nil {
		return nil, err
	}
	next := &Revision{
		Month: month.Format(monthLayout), Number: last.Number + 1, Previous: last.Number, Currency: list.Currency,
		Prices: lightcone.DigestOf(pricesText).String(),
	}
	hours, bills, err := r.bills(ctx, month)
	if err != nil {
		return nil, err
	}
	for i, hour := range hours {
		next.Hours = append(next.Hours, BilledHour{Hour: HourText(hour), Table: bills[i].Table})
	}
	switch {
	case len(hours) == 0:
		return nil, fmt.Errorf("month %s: no hour of it has been billed", next.Month)
	case last.Number > 0 && last.Currency != list.Currency:
		return nil, fmt.Errorf("month %s was invoiced in %s, and the price list is in %s", next.Month, last.Currency, list.Currency)
	case last.Prices == next.Prices && slices.Equal(last.Hours, next.Hours):
		return last, nil
	}
	tenants, err := r.monthUse(ctx, list, hours, bills, last)
	if err != nil {
		return nil, fmt.Errorf("month %s: %w", next.Month, err)
	}
	previous, err := r.charges(ctx, month, last)
	if err != nil {
		return nil, err
	}
	invoices, charges, err := invoiceTenants(list, tenants, previous, last.Number)
	if err != nil {
		return nil, fmt.Errorf("month %s: %w", next.Month, err)
	}
	table, err := encodeTable(charges)
	if err != nil {
		return nil, err
	}
	next.Charges = lightcone.DigestOf(table).String()
	if next.Charges == last.Charges && slices.Equal(last.Hours, next.Hours) {
		return last, nil
	}
	next.Total = totalOf(list, charges)
	spans := spansOf(hours)
	for i := range invoices {
		invoices[i].Month, invoices[i].Hours = next.Month, spans
		next.Invoices = append(next.Invoices, invoices[i].Tenant)
	}
	return next, r.commit(ctx, month, next, invoices, charges, table)
}

// bills lists the month's hours that have been billed, with their bills.
func (r Region) bills(ctx context.Context, month time.Time) ([]time.Time, []*Bill, error) {
	var hours []time.Time
	err := r.Bucket.List(ctx, "bills/dt="+month.Format(monthLayout)+"-", func(o store.Object) error {
		if hour, err := time.Parse("bills/"+hourShape+"bill.json", o.Key); err == nil {
			hours = append(hours, hour)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	bills := make([]*Bill, len(hours))
	for i, hour := range hours {
		if bills[i], err = ReadBill(ctx, r.Bucket, hour); err != nil {
			return nil, nil, err
		}
	}
	return hours, bills, nil
}

// monthUse adds up the month's bills by tenant.
func (r Region) monthUse(ctx context.Context, list *PriceList, hours []time.Time, bills []*Bill, last *Revision) (map[string]*tenantMonth, error) {
	before := make(map[string]bool)
	for _, hour := range last.Hours {
		before[hour.Hour] = true
	}
	tenants := make(map[string]*tenantMonth)
	for i, hour := range hours {
		version, err := list.at(hour)
		if err != nil {
			return nil, err
		}
		rows, err := readRows(ctx, r.Bucket, hour, bills[i])
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			tenant := tenants[row.Tenant]
			if tenant == nil {
				tenant = newTenantMonth(row.Tenant, list)
				tenants[row.Tenant] = tenant
			}
			if err := tenant.add(row, version, before[HourText(hour)]); err != nil {
				return nil, err
			}
		}
	}
	return tenants, nil
}

func newTenantMonth(tenant string, list *PriceList) *tenantMonth {
	return &tenantMonth{
		tenant: tenant, use: make(map[[2]string]Quantities),
		byVersion: make([]Quantities, len(list.Versions)), restated: make([]Quantities, len(list.Versions)),
	}
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

// invoiceTenants prices every tenant's month. It returns the invoices that differ from
// those before, and the charges of all tenants, in the order of their names.
func invoiceTenants(list *PriceList, tenants map[string]*tenantMonth, previous []Charge, against int) (changed []Invoice, charges []Charge, err error) {
	before := make(map[string][]Charge)
	for _, charge := range previous {
		before[charge.Tenant] = append(before[charge.Tenant], charge)
		if tenants[charge.Tenant] == nil { // all that it used has turned out to be nothing
			tenants[charge.Tenant] = newTenantMonth(charge.Tenant, list)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		tenant := tenants[name]
		invoice, err := tenant.invoice(list, before[name], against)
		if err != nil {
			return nil, nil, err
		}
		now, err := chargesOf(&invoice)
		if err != nil {
			return nil, nil, err
		}
		charges = append(charges, now...)
		if !slices.Equal(now, before[name]) {
			changed = append(changed, invoice)
		}
	}
	return changed, charges, nil
}

// chargesOf are an invoice's lines for the month's table.
func chargesOf(invoice *Invoice) ([]Charge, error) {
	use, err := json.Marshal(invoice.Use)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	digest := lightcone.DigestOf(use).String()
	charges := make([]Charge, 0, len(invoice.Lines))
	for _, line := range invoice.Lines {
		charges = append(charges, Charge{
			Tenant: invoice.Tenant, Meter: line.Meter, PricesFrom: line.PricesFrom, Unit: line.Unit,
			Quantity: line.Quantity, Free: line.Free, Amount: line.Amount, Currency: invoice.Currency, Use: digest,
		})
	}
	return charges, nil
}

func totalOf(list *PriceList, charges []Charge) string {
	total := zero(list)
	for _, charge := range charges {
		amount, _, err := apd.NewFromString(charge.Amount)
		if err != nil {
			panic(fmt.Sprintf("the amount %q that was just written: %v", charge.Amount, err))
		}
		mustAdd(total, amount)
	}
	return text(total)
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
