package billing

import (
	"fmt"
	"math/bits"

	"github.com/cockroachdb/apd/v3"
)

// exact is arithmetic wide enough that nothing here is rounded: a quantity of 19
// digits times a price of 36, a few times added. Anything inexact is an error.
var exact = apd.Context{
	Precision: 100, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent,
	Traps: apd.DefaultTraps | apd.Inexact, Rounding: apd.RoundHalfUp,
}

// rounding is the one rule by which money is rounded, once for each line: to the
// nearest of the currency's smallest units, a half away from zero.
var rounding = func() apd.Context {
	context := exact
	context.Traps &^= apd.Inexact
	return context
}()

// baseUnits is a quantity in what is counted: nanoseconds, bytes or calls.
func baseUnits(quantity *apd.Decimal, perUnit int64) (int64, error) {
	var product apd.Decimal
	if _, err := exact.Mul(&product, quantity, apd.New(perUnit, 0)); err != nil {
		return 0, fmt.Errorf("%v: %w", quantity, err)
	}
	whole, err := product.Int64()
	if err != nil {
		return 0, fmt.Errorf("%v: want a multiple of 1/%d, and not over %d", quantity, perUnit, int64(1<<63-1)/perUnit)
	}
	return whole, nil
}

// units is a count in the unit that is priced, exactly, without trailing zeros.
func units(count, perUnit int64) *apd.Decimal {
	exponent := int32(0)
	for rest := perUnit; rest > 1; rest /= 10 {
		exponent--
	}
	reduced, _ := new(apd.Decimal).Reduce(apd.New(count, exponent))
	return reduced
}

// text writes a decimal without an exponent.
func text(d *apd.Decimal) string { return d.Text('f') }

// Part is what a tier comes to: a part of a line, not rounded.
type Part struct {
	Quantity string `json:"quantity"`
	Price    string `json:"price"`
	Amount   string `json:"amount"`
}

// Line is a meter's part of an invoice, under one version of the prices.
type Line struct {
	Meter      string `json:"meter"`
	PricesFrom string `json:"prices_from"`
	Unit       string `json:"unit"`
	Quantity   string `json:"quantity"`
	Free       string `json:"free"` // of the quantity
	Tiers      []Part `json:"tiers"`
	Amount     string `json:"amount"` // rounded

	amount *apd.Decimal
}

// priceMonth makes an invoice's lines from what a tenant used in a month under each
// version of the prices. A month's tiers and free units go on from one version to
// the next: what was used under the first has filled them.
func priceMonth(list *PriceList, byVersion []Quantities) ([]Line, error) {
	var lines []Line
	for _, meter := range meters {
		var before int64
		for i := range list.Versions {
			count := meter.quantity(byVersion[i])
			if count == 0 {
				continue
			}
			version := &list.Versions[i]
			line, err := meter.of(version).price(before, count, meter.perUnit, *list.Decimals)
			if err != nil {
				return nil, fmt.Errorf("%s from %s: %w", meter.name, version.From, err)
			}
			line.Meter, line.PricesFrom, line.Unit = meter.name, version.From, meter.unit
			lines = append(lines, line)
			sum, carry := bits.Add64(uint64(before), uint64(count), 0)
			if before = int64(sum); carry != 0 || before < 0 {
				return nil, fmt.Errorf("%s: more in a month than can be counted", meter.name)
			}
		}
	}
	return lines, nil
}

// price prices the quantity from before to before+count.
func (m *Meter) price(before, count, perUnit int64, decimals int32) (Line, error) {
	free, err := baseUnits(&m.Free.Decimal, perUnit)
	if err != nil {
		return Line{}, err
	}
	end := before + count
	unpaid := overlap(before, end, 0, free)
	line := Line{Quantity: text(units(count, perUnit)), Free: text(units(unpaid, perUnit)), Tiers: []Part{}}
	sum := new(apd.Decimal)
	for _, tier := range m.Tiers {
		from, err := baseUnits(&tier.From.Decimal, perUnit)
		if err != nil {
			return Line{}, err
		}
		upTo := end
		if tier.UpTo != nil {
			if upTo, err = baseUnits(&tier.UpTo.Decimal, perUnit); err != nil {
				return Line{}, err
			}
		}
		within := overlap(max(before, free), end, from, upTo)
		if within == 0 {
			continue
		}
		quantity, amount := units(within, perUnit), new(apd.Decimal)
		if _, err := exact.Mul(amount, quantity, &tier.Price.Decimal); err != nil {
			return Line{}, err
		}
		if _, err := exact.Add(sum, sum, amount); err != nil {
			return Line{}, err
		}
		line.Tiers = append(line.Tiers, Part{Quantity: text(quantity), Price: text(&tier.Price.Decimal), Amount: text(amount)})
	}
	line.amount = new(apd.Decimal)
	if _, err := rounding.Quantize(line.amount, sum, -decimals); err != nil {
		return Line{}, err
	}
	line.Amount = text(line.amount)
	return line, nil
}

// overlap is how much two ranges have in common.
func overlap(from, to, otherFrom, otherTo int64) int64 {
	return max(0, min(to, otherTo)-max(from, otherFrom))
}
