package billing

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// testdata/prices.txt: what is wrong with a price list; testdata/lines.txt: what
// usage costs.
func TestPriceLists(t *testing.T) {
	datadriven.RunTest(t, "testdata/prices.txt", func(t *testing.T, d *datadriven.TestData) string {
		_, err := ParsePriceList([]byte(d.Input))
		if err != nil {
			return err.Error() + "\n"
		}
		return "ok\n"
	})
}

func TestTheExampleIsAPriceList(t *testing.T) {
	text, err := os.ReadFile("prices.json")
	if err == nil {
		_, err = ParsePriceList(text)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestLines(t *testing.T) {
	var list *PriceList
	datadriven.RunTest(t, "testdata/lines.txt", func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "prices" {
			var err error
			if list, err = ParsePriceList([]byte(d.Input)); err != nil {
				return err.Error() + "\n"
			}
			return "ok\n"
		}
		byVersion := make([]Quantities, len(list.Versions))
		for line := range strings.Lines(d.Input) {
			fields := strings.Fields(line) // version, calls, CPU ns, bytes in, bytes out
			version, _ := strconv.Atoi(fields[0])
			for i, into := range []*int64{&byVersion[version].Calls, &byVersion[version].CPU, &byVersion[version].BytesIn, &byVersion[version].BytesOut} {
				*into, _ = strconv.ParseInt(fields[i+1], 10, 64)
			}
		}
		lines, err := priceMonth(list, byVersion)
		if err != nil {
			return err.Error() + "\n"
		}
		var out strings.Builder
		for _, line := range lines {
			fmt.Fprintf(&out, "%s from %s: %s %s, %s free: %s\n", line.Meter, line.PricesFrom, line.Quantity, line.Unit, line.Free, line.Amount)
			for _, part := range line.Tiers {
				fmt.Fprintf(&out, "  %s x %s = %s\n", part.Quantity, part.Price, part.Amount)
			}
		}
		return out.String()
	})
}

// Every unit of a quantity is priced by the tier it falls into, whatever the versions
// that the month is cut into: compared with a sum over big.Rat of all units.
func TestPricesAreThoseOfEveryUnit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		free := rapid.IntRange(0, 30).Draw(t, "free")
		bounds, at := []int{0}, 0
		for range rapid.IntRange(0, 3).Draw(t, "tiers") {
			at += rapid.IntRange(1, 20).Draw(t, "width")
			bounds = append(bounds, at)
		}
		meter := Meter{}
		mustParse(t, strconv.Itoa(free), &meter.Free)
		prices := make([]int, len(bounds))
		for i, bound := range bounds {
			prices[i] = rapid.IntRange(0, 999).Draw(t, "price")
			tier := Tier{}
			mustParse(t, strconv.Itoa(bound), &tier.From)
			mustParse(t, fmt.Sprintf("0.%03d", prices[i]), &tier.Price)
			if i+1 < len(bounds) {
				tier.UpTo = new(Decimal)
				mustParse(t, strconv.Itoa(bounds[i+1]), tier.UpTo)
			}
			meter.Tiers = append(meter.Tiers, tier)
		}
		if err := meter.check(1); err != nil {
			t.Fatal(err)
		}
		before, count := rapid.IntRange(0, 50).Draw(t, "before"), rapid.IntRange(1, 50).Draw(t, "count")
		line, err := meter.price(int64(before), int64(count), 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		thousandths := 0
		for unit := before; unit < before+count; unit++ {
			for i := range bounds {
				if unit >= free && unit >= bounds[i] && (i+1 == len(bounds) || unit < bounds[i+1]) {
					thousandths += prices[i]
				}
			}
		}
		want := (thousandths + 5) / 10 // to the nearest hundredth, a half up
		if got, _ := new(big.Rat).SetString(line.Amount); got.Cmp(big.NewRat(int64(want), 100)) != 0 {
			t.Fatalf("%d units from %d cost %s, want %d hundredths", count, before, line.Amount, want)
		}
	})
}

func mustParse(t *rapid.T, number string, into *Decimal) {
	if err := json.Unmarshal([]byte(number), into); err != nil {
		t.Fatal(err)
	}
}

func FuzzParsePriceList(f *testing.F) {
	f.Add([]byte(`{"currency": "EUR", "decimals": 2, "versions": []}`))
	f.Add([]byte(`{"currency": "EUR", "decimals": 2, "versions": [{"from": "2026-01-01", "until": "", "cpu_second": {"free": "1", "tiers": [{"from": "0", "price": "0.1"}]}}]}`))
	f.Add([]byte(`[[[[{"a": 1, "a": 2}]]]]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParsePriceList(text)
		if err != nil {
			return
		}
		use := make([]Quantities, len(list.Versions))
		for i := range use {
			use[i] = Quantities{Calls: 1, CPU: 2, BytesIn: 3, BytesOut: 4}
		}
		lines, err := priceMonth(list, use)
		if err != nil {
			t.Fatalf("a list that was accepted does not price: %v", err)
		}
		for _, line := range lines {
			if line.amount.Negative {
				t.Errorf("%s costs %s", line.Meter, line.Amount)
			}
		}
	})
}
