package usage

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"lightcone"
	"lightcone/internal/testbed"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimFolder); dir != "" {
		appendForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

// past is the hour that most records of the tests start in: over, and remembered.
var past = HourOf(time.Now()).Add(-5 * time.Hour)

// record is the n-th record of a test: all its fields follow from n, and its call
// id from nothing else.
func record(n int) lightcone.UsageRecord {
	r := lightcone.UsageRecord{
		Tenant: lightcone.TenantID([]string{"acme", "globex", "a"}[n%3]), Function: lightcone.FunctionName([]string{"resize", "echo"}[n%2]),
		Outcome: outcomes[1+n%3], Used: lightcone.Usage{CPU: time.Duration(n) * 1001, BytesIn: int64(n) * 7, BytesOut: int64(n) * 3},
		Start: past.Add(time.Duration(n) * 37 * time.Microsecond), Duration: time.Duration(n) * 1003,
	}
	source := rand.New(rand.NewPCG(1, uint64(n)))
	binary.BigEndian.PutUint64(r.Call[:], uint64(r.Start.UnixMilli())<<16|source.Uint64()&0xffff)
	binary.BigEndian.PutUint64(r.Call[8:], source.Uint64())
	return r
}

func records(from, to int) []lightcone.UsageRecord {
	all := make([]lightcone.UsageRecord, 0, to-from)
	for n := from; n < to; n++ {
		all = append(all, record(n))
	}
	return all
}

// configFor is a small ledger's in dir, that ships into a folder of dir.
func configFor(t testing.TB, dir string) (Config, *testbed.Log) {
	t.Helper()
	log := new(testbed.Log)
	return Config{
		Dir: dir, Node: "gw-1", SealBytes: leastSegment, SealAge: 50 * time.Millisecond, SyncEvery: 5 * time.Millisecond,
		MaxDiskBytes: 100 * leastSegment, Logger: slog.New(slog.NewTextHandler(log, nil)), Metrics: prometheus.NewRegistry(),
	}, log
}

// begin opens a ledger that is stopped with the test.
func begin(t testing.TB, config Config) *Ledger {
	t.Helper()
	l, err := Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = halt(l) })
	return l
}

// halt stops a ledger, within a bound that no test needs.
func halt(l *Ledger) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return l.Stop(ctx)
}

// put appends records and counts them answered.
func put(t testing.TB, l *Ledger, all []lightcone.UsageRecord) {
	t.Helper()
	for i := range all {
		if err := l.Append(&all[i]); err != nil {
			t.Fatal(err)
		}
		if err := l.Answered(all[i].Start); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until a condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
