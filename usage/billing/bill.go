package billing

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"lightcone"
)

// Row is what one tenant used of one function in calls that ended alike.
type Row struct {
	Tenant   string `parquet:"tenant,dict" json:"tenant"`
	Function string `parquet:"function,dict" json:"function"`
	Outcome  string `parquet:"outcome,dict" json:"outcome"`
	Calls    int64  `parquet:"calls" json:"calls"`
	CPU      int64  `parquet:"cpu_ns" json:"cpu_ns"`       // nanoseconds
	BytesIn  int64  `parquet:"bytes_in" json:"bytes_in"`   // bytes
	BytesOut int64  `parquet:"bytes_out" json:"bytes_out"` // bytes
}

func compareRows(a, b Row) int {
	return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Function, b.Function), strings.Compare(a.Outcome, b.Outcome))
}

// validate says whether a row can be of records that the ledger wrote.
func (r Row) validate() error {
	if err := lightcone.TenantID(r.Tenant).Validate(); err != nil {
		return err
	}
	if err := lightcone.FunctionName(r.Function).Validate(); err != nil {
		return fmt.Errorf("tenant %s: %w", r.Tenant, err)
	}
	switch lightcone.Outcome(r.Outcome) {
	case lightcone.OutcomeAnswered, lightcone.OutcomeFailed, lightcone.OutcomeTimeout:
		return nil
	default:
		return fmt.Errorf("tenant %s: outcome %q is unknown", r.Tenant, r.Outcome)
	}
}

// Quantities are what is counted and billed.
type Quantities struct {
	Calls    int64 `json:"calls"`
	CPU      int64 `json:"cpu_ns"`
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}

// add adds to each quantity, unless one would overflow.
func (q *Quantities) add(other Quantities) error {
	for _, pair := range []struct {
		sum  *int64
		more int64
	}{{&q.Calls, other.Calls}, {&q.CPU, other.CPU}, {&q.BytesIn, other.BytesIn}, {&q.BytesOut, other.BytesOut}} {
		if pair.more < 0 || *pair.sum > math.MaxInt64-pair.more {
			return fmt.Errorf("%d and %d more are no quantity that can be billed", *pair.sum, pair.more)
		}
		*pair.sum += pair.more
	}
	return nil
}

func (r Row) quantities() Quantities {
	return Quantities{Calls: r.Calls, CPU: r.CPU, BytesIn: r.BytesIn, BytesOut: r.BytesOut}
}

// addRows adds the rows of shares, which have no call in common. The result is in
// the order of tenants, functions and outcomes.
func addRows(shares ...[]Row) ([]Row, error) {
	all := slices.Concat(shares...)
	slices.SortFunc(all, compareRows)
	sums := make([]Row, 0, len(all))
	for _, row := range all {
		if len(sums) == 0 || compareRows(sums[len(sums)-1], row) != 0 {
			sums = append(sums, Row{Tenant: row.Tenant, Function: row.Function, Outcome: row.Outcome})
		}
		last := &sums[len(sums)-1]
		sum := last.quantities()
		if err := sum.add(row.quantities()); err != nil {
			return nil, fmt.Errorf("tenant %s, function %s: %w", row.Tenant, row.Function, err)
		}
		last.Calls, last.CPU, last.BytesIn, last.BytesOut = sum.Calls, sum.CPU, sum.BytesIn, sum.BytesOut
	}
	return sums, nil
}

// BilledObject is an object of records, and what became of them.
type BilledObject struct {
	Key    string `json:"key"`
	Rows   int64  `json:"rows"`   // records in it
	Billed int64  `json:"billed"` // of which calls that are billed on its account: the first object, by key, that a call is in
}

// Refused is an object that could not be trusted, and was set aside: it stays where
// it is and none of it is billed.
type Refused struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// Bill is the report on an hour that was billed: bills/dt=…/hour=…/bill.json. The
// rows are beside it, as Parquet and CSV.
type Bill struct {
	Hour     string         `json:"hour"` // such as 2026-11-03T14, UTC
	Totals   Quantities     `json:"totals"`
	Disputed int64          `json:"disputed"` // calls whose records differ; each is billed at the least of them
	Strays   int64          `json:"strays"`   // calls whose id is of another hour than their start
	Objects  []BilledObject `json:"objects"`
	Refused  []Refused      `json:"refused"`
	Table    string         `json:"table_sha256"` // of bill.parquet: this report belongs to no other
}
