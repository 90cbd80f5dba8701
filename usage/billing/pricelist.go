package billing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Decimal is an exact decimal number of a price list, written as JSON's "0.0125" or
// 0.0125: at most 18 digits before the point and 18 after it, and no exponent.
type Decimal struct{ apd.Decimal }

var decimalShape = regexp.MustCompile(`^-?[0-9]{1,18}(\.[0-9]{1,18})?$`)

// UnmarshalJSON reads the number's digits, which never pass through a float.
func (d *Decimal) UnmarshalJSON(text []byte) error {
	digits := string(bytes.Trim(text, `"`))
	if !decimalShape.MatchString(digits) {
		return fmt.Errorf("%s is no decimal number of at most 18 digits before the point and 18 after it", text)
	}
	_, _, err := d.SetString(digits)
	return err
}

// PriceList says what usage costs.
type PriceList struct {
	Currency string   `json:"currency"` // three capital letters (ISO 4217)
	Decimals *int32   `json:"decimals"` // digits behind the point that amounts are rounded to: 2 for EUR
	Versions []Prices `json:"versions"` // in the order of time, without gaps
}

// Prices hold for calls that start between two dates, UTC.
type Prices struct {
	From        string `json:"from"`  // the first day, such as 2026-01-01
	Until       string `json:"until"` // the day after the last; empty in the last version: until further notice
	CPUSecond   *Meter `json:"cpu_second"`
	GigabyteIn  *Meter `json:"gigabyte_in"`  // of 10^9 bytes
	GigabyteOut *Meter `json:"gigabyte_out"` // of 10^9 bytes
	Call        *Meter `json:"call"`

	from, until time.Time // until is zero for further notice
}

// Meter is what a unit costs, by the quantity that a tenant has used in the month.
// Each unit is priced by the tier that it falls into. The first Free units of the
// month cost nothing; they count towards the tiers.
type Meter struct {
	Free  Decimal `json:"free"`
	Tiers []Tier  `json:"tiers"` // from 0, without gaps; the last has no end
}

// Tier is the price of a unit between two quantities of a month.
type Tier struct {
	From  Decimal  `json:"from"`
	UpTo  *Decimal `json:"up_to"`
	Price Decimal  `json:"price"`
}

// The meters, in the order of an invoice's lines.
var meters = []struct {
	name     string
	unit     string
	perUnit  int64 // of what is counted; a power of ten
	of       func(*Prices) *Meter
	quantity func(Quantities) int64
}{
	{"cpu_second", "CPU second", 1e9, func(p *Prices) *Meter { return p.CPUSecond }, func(q Quantities) int64 { return q.CPU }},
	{"gigabyte_in", "GB in", 1e9, func(p *Prices) *Meter { return p.GigabyteIn }, func(q Quantities) int64 { return q.BytesIn }},
	{"gigabyte_out", "GB out", 1e9, func(p *Prices) *Meter { return p.GigabyteOut }, func(q Quantities) int64 { return q.BytesOut }},
	{"call", "call", 1, func(p *Prices) *Meter { return p.Call }, func(q Quantities) int64 { return q.Calls }},
}

// ParsePriceList reads a price list in JSON. Its error names the first field that
// cannot be used.
func ParsePriceList(text []byte) (*PriceList, error) {
	if err := refuseTwins(json.NewDecoder(bytes.NewReader(text)), ""); err != nil {
		return nil, fmt.Errorf("price list: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	list := new(PriceList)
	if err := decoder.Decode(list); err != nil {
		return nil, fmt.Errorf("price list: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("price list: there is more behind its end")
	}
	if err := list.complete(); err != nil {
		return nil, fmt.Errorf("price list: %w", err)
	}
	return list, nil
}

// refuseTwins refuses a field that is there twice: encoding/json would take the last.
func refuseTwins(decoder *json.Decoder, path string) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	delimiter, _ := token.(json.Delim)
	seen := make(map[string]bool)
	for index := 0; (delimiter == '{' || delimiter == '[') && decoder.More(); index++ {
		field := fmt.Sprintf("%s[%d]", path, index)
		if delimiter == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			if field = fmt.Sprint(name); path != "" {
				field = path + "." + field
			}
			if seen[field] {
				return fmt.Errorf("%s is there twice", field)
			}
			seen[field] = true
		}
		if err := refuseTwins(decoder, field); err != nil {
			return err
		}
	}
	if delimiter != 0 {
		_, err = decoder.Token() // what closes it
	}
	return err
}

var currencyShape = regexp.MustCompile(`^[A-Z]{3}$`)

const mostDecimals = 9

// complete checks the list, and reads its dates.
func (l *PriceList) complete() error {
	switch {
	case !currencyShape.MatchString(l.Currency):
		return fmt.Errorf("currency %q: want three capital letters, such as EUR", l.Currency)
	case l.Decimals == nil || *l.Decimals < 0 || *l.Decimals > mostDecimals:
		return fmt.Errorf("decimals: want 0 to %d, such as 2 for cents", mostDecimals)
	case len(l.Versions) == 0:
		return errors.New("versions: there is none")
	}
	for i := range l.Versions {
		if err := l.completeVersion(i); err != nil {
			return err
		}
	}
	return nil
}

func (l *PriceList) completeVersion(i int) (err error) {
	version, field := &l.Versions[i], fmt.Sprintf("versions[%d]", i)
	if version.from, err = time.Parse(time.DateOnly, version.From); err != nil {
		return fmt.Errorf("%s.from %q: want a date, such as 2026-01-01", field, version.From)
	}
	last := i == len(l.Versions)-1
	if version.Until != "" || !last {
		if version.until, err = time.Parse(time.DateOnly, version.Until); err != nil {
			return fmt.Errorf("%s.until %q: want a date, such as 2026-07-01; only the last version may be without", field, version.Until)
		}
		if !version.until.After(version.from) {
			return fmt.Errorf("%s.until %s is not after its from, %s", field, version.Until, version.From)
		}
	}
	if i > 0 {
		switch previous := l.Versions[i-1]; {
		case version.from.After(previous.until):
			return fmt.Errorf("%s.from %s leaves a gap after versions[%d].until, %s", field, version.From, i-1, previous.Until)
		case version.from.Before(previous.until):
			return fmt.Errorf("%s.from %s overlaps versions[%d], which holds until %s", field, version.From, i-1, previous.Until)
		}
	}
	for _, meter := range meters {
		if err := meter.of(version).check(meter.perUnit); err != nil {
			return fmt.Errorf("%s.%s%w", field, meter.name, err)
		}
	}
	return nil
}

// check says what is wrong with a meter; the error begins behind the meter's name.
func (m *Meter) check(perUnit int64) error {
	switch {
	case m == nil || len(m.Tiers) == 0:
		return errors.New(".tiers: there is none; a tier of price 0 makes it free")
	case m.Free.Negative:
		return fmt.Errorf(".free %v is negative", &m.Free)
	}
	if _, err := baseUnits(&m.Free.Decimal, perUnit); err != nil {
		return fmt.Errorf(".free %w", err)
	}
	end := new(apd.Decimal)
	for i, tier := range m.Tiers {
		field := fmt.Sprintf(".tiers[%d]", i)
		switch order := tier.From.Cmp(end); {
		case tier.Price.Negative:
			return fmt.Errorf("%s.price %v is negative", field, &tier.Price)
		case order > 0:
			return fmt.Errorf("%s.from %v leaves a gap after %v", field, &tier.From, end)
		case order < 0:
			return fmt.Errorf("%s.from %v overlaps what comes before it, up to %v", field, &tier.From, end)
		case tier.UpTo == nil && i < len(m.Tiers)-1:
			return fmt.Errorf("%s.up_to is missing; only the last tier may be without", field)
		case tier.UpTo == nil:
			continue
		case i == len(m.Tiers)-1:
			return fmt.Errorf("%s.up_to %v: the last tier has no end, or more would have no price", field, tier.UpTo)
		case tier.UpTo.Cmp(&tier.From.Decimal) <= 0:
			return fmt.Errorf("%s.up_to %v is not above its from, %v", field, tier.UpTo, &tier.From)
		}
		if _, err := baseUnits(&tier.UpTo.Decimal, perUnit); err != nil {
			return fmt.Errorf("%s.up_to %w", field, err)
		}
		end = &tier.UpTo.Decimal
	}
	return nil
}

// at is the index of the version that holds at a time.
func (l *PriceList) at(t time.Time) (int, error) {
	for i, version := range l.Versions {
		if !t.Before(version.from) && (version.until.IsZero() || t.Before(version.until)) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("price list: no version holds at %s", t.UTC().Format(time.RFC3339))
}
