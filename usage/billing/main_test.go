package billing_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/usage"
	"lightcone/usage/billing"
	"lightcone/usage/billing/duckdb"
	"lightcone/usage/store"
)

// duck is one DuckDB for all tests: starting it takes longer than a fold.
var duck *duckdb.Folder

func TestMain(m *testing.M) {
	if os.Getenv(victimFolder) != "" {
		if err := becomeVictim(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	scratch, err := os.MkdirTemp("", "lightcone-billing-test-*")
	if err == nil {
		duck, err = duckdb.Open(context.Background(), duckdb.Config{Memory: 256 << 20, Threads: 2, Scratch: scratch})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.Cleanup(func(code int) {
		_ = duck.Close()
		_ = os.RemoveAll(scratch)
		os.Exit(code)
	}))
}

// tester is what testing and rapid have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

var hour = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)

// place is a region in a folder of its own.
type place struct {
	billing.Region
	t tester
}

func newPlace(t tester, folder string) place {
	t.Helper()
	bucket, err := store.Open(context.Background(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return place{t: t, Region: billing.Region{Bucket: bucket, Folder: duck, Scratch: os.TempDir()}}
}

func (p place) ctx() context.Context { return context.Background() }

// call makes the record of one call, told apart by a number, in the hour from start.
func call(start time.Time, number int, tenant string, cpu time.Duration) usage.Row {
	at := start.Add(time.Duration(number) * time.Second % time.Hour)
	row := usage.Row{
		Tenant: tenant, Function: "resize", Outcome: "answered", CPU: int64(cpu), BytesIn: 1000, BytesOut: 100,
		Start: at.UnixMicro(), Duration: int64(cpu),
	}
	binary.BigEndian.PutUint64(row.Call[:8], uint64(at.UnixMilli())<<16)
	binary.BigEndian.PutUint64(row.Call[8:], uint64(number))
	return row
}

// calls makes the records of several calls.
func calls(start time.Time, first, n int, tenant string, cpu time.Duration) []usage.Row {
	rows := make([]usage.Row, n)
	for i := range rows {
		rows[i] = call(start, first+i, tenant, cpu)
	}
	return rows
}

// put stores rows as an object of the ledger's, and returns its key.
func (p place) put(start time.Time, node string, sequence uint64, rows []usage.Row) string {
	p.t.Helper()
	object := usage.Object{Node: node, Hour: start, Sequence: sequence}
	var content bytes.Buffer
	if _, err := usage.NewEncoder().Encode(&content, object, slices.Values(rows)); err != nil {
		p.t.Fatal(err)
	}
	p.write(object.Key(), content.Bytes())
	return object.Key()
}

func (p place) write(key string, content []byte) {
	p.t.Helper()
	if err := p.Bucket.Write(p.ctx(), key, content); err != nil {
		p.t.Fatal(err)
	}
}

func (p place) read(key string) []byte {
	p.t.Helper()
	content, err := p.Bucket.Read(p.ctx(), key, 1<<30)
	if err != nil {
		p.t.Fatal(err)
	}
	return content
}

// tree is everything below a prefix, by key.
func (p place) tree(prefix string) map[string]string {
	p.t.Helper()
	found := make(map[string]string)
	err := p.Bucket.List(context.Background(), prefix, func(o store.Object) error {
		found[o.Key] = string(p.read(o.Key))
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

func (p place) bill(start time.Time) billing.Bill {
	p.t.Helper()
	bill, err := p.BillHour(context.Background(), start)
	if err != nil {
		p.t.Fatal(err)
	}
	return bill
}

// prices cost 1 for a CPU second and nothing else.
const prices = `{"currency": "EUR", "decimals": 2, "versions": [{"from": "2026-01-01", "until": "",
  "cpu_second": {"free": "0", "tiers": [{"from": "0", "price": "1"}]},
  "gigabyte_in": {"free": "0", "tiers": [{"from": "0", "price": "0"}]},
  "gigabyte_out": {"free": "0", "tiers": [{"from": "0", "price": "0"}]},
  "call": {"free": "0", "tiers": [{"from": "0", "price": "0"}]}}]}`

func (p place) invoice(pricesText string) *billing.Revision {
	p.t.Helper()
	list, err := billing.ParsePriceList([]byte(pricesText))
	if err != nil {
		p.t.Fatal(err)
	}
	revision, err := p.InvoiceMonth(context.Background(), list, []byte(pricesText), billing.MonthOf(hour))
	if err != nil {
		p.t.Fatal(err)
	}
	return revision
}
