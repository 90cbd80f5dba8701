package billing_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lightcone/usage"
)

var benchRecords = flag.Int("records", 1_000_000, "records in the hour that BenchmarkHour bills")

// BenchmarkHour bills an hour from its objects to bill.json: list, read, inspect, copy,
// fold, write. CPU time is what counts on a machine that others use, too.
func BenchmarkHour(b *testing.B) {
	const each = 200_000 // what the ledger puts into an object, about
	p, random := newPlace(b, b.TempDir()), rand.New(rand.NewPCG(1, 2))
	rows := make([]usage.Row, each)
	for sequence := range max(1, *benchRecords/each) {
		for i := range rows {
			at := hour.Add(time.Duration(random.Int64N(int64(time.Hour))))
			rows[i] = usage.Row{
				Tenant: fmt.Sprintf("tenant-%d", random.IntN(100_000)), Function: "resize", Outcome: "answered", CPU: 8e6 + random.Int64N(4e6),
				BytesIn: random.Int64N(1 << 20), BytesOut: random.Int64N(20_000), Start: at.UnixMicro(), Duration: 9e6,
			}
			binary.BigEndian.PutUint64(rows[i].Call[:8], uint64(at.UnixMilli())<<16|random.Uint64N(1<<16))
			binary.BigEndian.PutUint64(rows[i].Call[8:], random.Uint64())
		}
		p.put(hour, "node-a", uint64(sequence+1), rows)
	}
	before, calls := cpuTime(b), int64(0)
	for b.Loop() {
		calls += p.bill(hour).Totals.Calls
	}
	used := cpuTime(b) - before
	b.ReportMetric(float64(calls)/used.Seconds(), "records/s/core")
	b.ReportMetric(peakMemory(b), "MiB-peak")
}

func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// peakMemory is the most that the process has had resident, the making of the records
// included.
func peakMemory(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kibibytes, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kibibytes / 1024
}
