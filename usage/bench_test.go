package usage

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// benchmarkConfig is a ledger as in production, that has room for all that a
// benchmark appends.
func benchmarkConfig(b *testing.B) Config {
	return Config{
		Dir: b.TempDir(), Node: "gw-1", SealAge: time.Hour, MaxDiskBytes: 64 << 30,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
}

func BenchmarkAppendManyGoroutines(b *testing.B) {
	l := begin(b, benchmarkConfig(b))
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		r := record(2)
		for pb.Next() {
			if err := l.Append(&r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	data := segmentOf(b, records(0, 100_000))
	o := Object{Node: "gw-1", Hour: past, Sequence: 1}
	var into bytes.Buffer
	if _, err := NewEncoder().Encode(&into, o, rowsOf(data, seedOf("gw-1", 1), hourNumber(past))); err != nil {
		b.Fatal(err)
	}
	rows := 0
	for b.Loop() {
		if err := Decode(into.Bytes(), o, func(*Row) error { rows++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
