package billing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// FunctionUse is what a tenant used of a function in a month.
type FunctionUse struct {
	Function string `json:"function"`
	Outcome  string `json:"outcome"`
	Quantities
}

// Adjustment is a credit or debit: what a line that was billed before has become,
// over the same hours.
type Adjustment struct {
	Kind       string `json:"kind"`    // "credit", in the tenant's favour, or "debit"
	Against    int    `json:"against"` // the revision that it corrects
	Meter      string `json:"meter"`
	PricesFrom string `json:"prices_from"`
	Was        string `json:"was"`
	Is         string `json:"is"`
	Difference string `json:"difference"` // is - was
}

// Invoice is what a tenant owes for a month, so far as it has been billed:
// invoices/month=2026-11/tenant=…/revision=0001.json (see Revision.InvoiceKey). Amounts are
// decimal, in Currency.
type Invoice struct {
	Tenant      string        `json:"tenant"`
	Month       string        `json:"month"` // such as 2026-11, UTC
	Revision    int           `json:"revision"`
	Currency    string        `json:"currency"`
	Hours       []Span        `json:"hours"` // that are billed
	Use         []FunctionUse `json:"use"`
	Lines       []Line        `json:"lines"`
	Adjustments []Adjustment  `json:"adjustments"` // to hours that an earlier revision has billed
	Previous    string        `json:"previous"`    // total of the revision before, 0 if there is none
	NewHours    string        `json:"new_hours"`   // due for hours that no revision has billed before
	Total       string        `json:"total"`       // the lines' sum = Previous + the adjustments' differences + NewHours
}

// Charge is a line of a month's table, by tenant.
type Charge struct {
	Tenant     string `parquet:"tenant,dict"`
	Meter      string `parquet:"meter,dict"`
	PricesFrom string `parquet:"prices_from,dict"`
	Unit       string `parquet:"unit,dict"`
	Quantity   string `parquet:"quantity"` // in Unit
	Free       string `parquet:"free"`     // of the quantity
	Amount     string `parquet:"amount"`   // rounded
	Currency   string `parquet:"currency,dict"`
	Use        string `parquet:"use_sha256"` // of the invoice's Use: what does not show in the charges
}

// tenantMonth is what a tenant used in a month.
type tenantMonth struct {
	tenant    string
	use       map[[2]string]Quantities // by function and outcome
	byVersion []Quantities             // of all hours, under each version of the prices
	restated  []Quantities             // of the hours that the previous revision has billed
}

func (t *tenantMonth) add(row Row, version int, billedBefore bool) error {
	quantities := row.quantities()
	use := t.use[[2]string{row.Function, row.Outcome}]
	if err := use.add(quantities); err != nil {
		return fmt.Errorf("tenant %s: %w", row.Tenant, err)
	}
	t.use[[2]string{row.Function, row.Outcome}] = use
	if err := t.byVersion[version].add(quantities); err != nil {
		return fmt.Errorf("tenant %s: %w", row.Tenant, err)
	}
	if billedBefore {
		return t.restated[version].add(quantities)
	}
	return nil
}

// invoice prices a tenant's month. previous are its charges in the revision before,
// which is number against (0 = there is none). The number of the invoice itself, and
// its hours, are the caller's to fill in.
func (t *tenantMonth) invoice(list *PriceList, previous []Charge, against int) (Invoice, error) {
	invoice := Invoice{Tenant: t.tenant, Currency: list.Currency, Use: []FunctionUse{}, Adjustments: []Adjustment{}}
	for _, key := range slices.SortedFunc(maps.Keys(t.use), func(a, b [2]string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	}) {
		invoice.Use = append(invoice.Use, FunctionUse{Function: key[0], Outcome: key[1], Quantities: t.use[key]})
	}
	var err error
	if invoice.Lines, err = priceMonth(list, t.byVersion); err != nil {
		return Invoice{}, fmt.Errorf("tenant %s: %w", t.tenant, err)
	}
	restated, err := priceMonth(list, t.restated)
	if err != nil {
		return Invoice{}, fmt.Errorf("tenant %s: %w", t.tenant, err)
	}
	total, before, corrected := zero(list), zero(list), zero(list)
	for _, line := range invoice.Lines {
		mustAdd(total, line.amount)
	}
	was := make(map[[2]string]*apd.Decimal)
	for _, charge := range previous {
		amount, _, err := apd.NewFromString(charge.Amount)
		if err != nil {
			return Invoice{}, fmt.Errorf("tenant %s: the amount %q of revision %d: %w", t.tenant, charge.Amount, against, err)
		}
		was[[2]string{charge.Meter, charge.PricesFrom}] = amount
		mustAdd(before, amount)
	}
	is := make(map[[2]string]*apd.Decimal)
	for _, line := range restated {
		is[[2]string{line.Meter, line.PricesFrom}] = line.amount
		mustAdd(corrected, line.amount)
	}
	if against > 0 {
		invoice.Adjustments = adjust(list, was, is, against)
	}
	invoice.Previous, invoice.Total = text(before), text(total)
	invoice.NewHours = text(difference(total, corrected))
	return invoice, nil
}

// adjust lists what became of the lines that were billed before.
func adjust(list *PriceList, was, is map[[2]string]*apd.Decimal, against int) []Adjustment {
	keys := make(map[[2]string]bool)
	for key := range was {
		keys[key] = true
	}
	for key := range is {
		keys[key] = true
	}
	adjustments := []Adjustment{}
	for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b [2]string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	}) {
		old, now := cmp.Or(was[key], zero(list)), cmp.Or(is[key], zero(list))
		changed := difference(now, old)
		if changed.IsZero() {
			continue
		}
		kind := "debit"
		if changed.Negative {
			kind = "credit"
		}
		adjustments = append(adjustments, Adjustment{
			Kind: kind, Against: against, Meter: key[0], PricesFrom: key[1], Was: text(old), Is: text(now), Difference: text(changed),
		})
	}
	return adjustments
}

// zero is no money, with the currency's digits.
func zero(list *PriceList) *apd.Decimal { return apd.New(0, -*list.Decimals) }

// mustAdd adds rounded amounts: a hundred digits hold as many as there can be.
func mustAdd(sum, more *apd.Decimal) {
	if _, err := exact.Add(sum, sum, more); err != nil {
		panic(fmt.Sprintf("add %v and %v: %v", sum, more, err))
	}
}

func difference(a, b *apd.Decimal) *apd.Decimal {
	d := new(apd.Decimal)
	if _, err := exact.Sub(d, a, b); err != nil {
		panic(fmt.Sprintf("subtract %v from %v: %v", b, a, err))
	}
	return d
}
