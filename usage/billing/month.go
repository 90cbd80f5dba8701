package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"

	"lightcone"
	"lightcone/usage/store"
)

// InvoiceMonth makes a month's invoices from its bills. If they are those of the last
// revision, and so are the prices, it writes nothing and returns that revision.
// Of runs that invoice a month at the same time, one makes the next revision; the others
// fail, and are to be run again.
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
	previous, err := r.charges(ctx, last)
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
		invoices[i].Month, invoices[i].Revision, invoices[i].Hours = next.Month, next.Number, spans
		next.Invoices = append(next.Invoices, invoices[i].Tenant)
	}
	return next, r.commit(ctx, month, next, invoices, charges, table)
}

// bills lists the month's hours that have been billed, with their bills.
func (r Region) bills(ctx context.Context, month time.Time) ([]time.Time, []*Bill, error) {
	var hours []time.Time
	err := r.Bucket.List(ctx, billsPrefix+"dt="+month.Format(monthLayout)+"-", func(o store.Object) error {
		if hour, err := time.Parse(billsPrefix+hourShape+"bill.json", o.Key); err == nil {
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
