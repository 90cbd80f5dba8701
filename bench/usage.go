package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/usage"
)

const usageSection = "usage"

// measureUsage is (h): what it costs to write down a call, to bring it to the bucket
// and to bill it.
func measureUsage(ctx context.Context, s settings, r *report) error {
	r.heading("(h) usage: CPU to record, ship and bill a call")
	dir, err := os.MkdirTemp("", "lightcone-bench-usage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := measureLedger(ctx, s, r, dir); err != nil {
		return err
	}
	costs, err := compareGateways(ctx, s, r, modeRecorded, modeWhole)
	if err != nil {
		return err
	}
	r.add(usageSection, "gateway, 256 KB in: with a ledger", "us", "", costs[0]...)
	r.add(usageSection, "  without one", "us", "", costs[1]...)
	r.add(usageSection, "  with : without", "x", "", ratios(costs[0], costs[1])...)
	return measureBilling(ctx, s, r, dir)
}

// ledgerRecords are as many as one segment of the greatest length holds.
const ledgerRecords = 500_000

// measureLedger measures a ledger in this process: first what recording costs, with
// nothing to seal meanwhile, then what it costs to bring all of it to a folder.
func measureLedger(ctx context.Context, s settings, r *report, dir string) error {
	rows := rowsOf(rand.New(rand.NewPCG(1, 2)), time.Now(), time.Now().Add(time.Second), ledgerRecords)
	var recording, allocations, writing, shipping, encoding []float64
	for round := range s.rounds {
		config := usage.Config{
			Dir: filepath.Join(dir, fmt.Sprint("ledger-", round)), Bucket: filepath.Join(dir, fmt.Sprint("bucket-", round)), Node: "bench",
			SealBytes: 64 << 20, SealAge: time.Hour, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		}
		recorded, err := recordAll(ctx, config, rows)
		if err != nil {
			return err
		}
		recording, allocations = append(recording, recorded.cpu), append(allocations, float64(recorded.allocations))
		written, err := writeAll(filepath.Join(dir, "frames"))
		if err != nil {
			return err
		}
		writing = append(writing, written.cpu)
		shipped, err := cpuFor(func() error { return shipAll(ctx, config) })
		if err != nil {
			return err
		}
		shipping = append(shipping, ledgerRecords/shipped.Seconds())
		encoded, err := cpuFor(func() error { return encodeAlone(rows) })
		if err != nil {
			return err
		}
		encoding = append(encoding, ledgerRecords/encoded.Seconds())
		for _, done := range []string{config.Dir, config.Bucket} {
			if err := os.RemoveAll(done); err != nil {
				return err
			}
		}
	}
	r.add(usageSection, "record a call: append it, count it as answered", "ns", "under 3000", recording...)
	r.add(usageSection, "  allocations", "", "0", allocations...)
	r.add(usageSection, "  write(2) of a record's 96 bytes to a file", "ns", "", writing...)
	r.add(usageSection, "  recorded : written", "x", "", ratios(recording, writing)...)
	r.add(usageSection, "shipped, a core: recover, encode, store, read back", "/s", "at least 200000", shipping...)
	r.add(usageSection, "  encoded as Parquet in memory, by parquet-go alone", "/s", "", encoding...)
	r.add(usageSection, "  shipped : encoded", "x", "", ratios(shipping, encoding)...)
	return nil
}

// recordAll appends the rows to a ledger that ships nothing meanwhile, and leaves
// them in its folder.
func recordAll(ctx context.Context, config usage.Config, rows []usage.Row) (cost, error) {
	ledger, err := usage.Open(ctx, config)
	if err != nil {
		return cost{}, err
	}
	records := make([]lightcone.UsageRecord, len(rows))
	for i := range rows {
		records[i] = rows[i].Record()
	}
	next := 0
	found, err := inTurn(nil, len(records), func([]byte) error {
		record := &records[next]
		next++
		return errors.Join(ledger.Full(), ledger.Append(record), ledger.Answered(record.Start))
	})
	ended, end := context.WithCancel(ctx)
	end()
	if ledger.Stop(ended) == nil {
		err = errors.Join(err, errors.New("a ledger that had no time to ship has shipped"))
	}
	return found, err
}

// shipAll brings to the bucket what is in a ledger's folder.
func shipAll(ctx context.Context, config usage.Config) error {
	config.Metrics = prometheus.NewRegistry()
	ledger, err := usage.Open(ctx, config)
	if err != nil {
		return err
	}
	return ledger.Stop(ctx)
}

// writeAll writes as many bytes as records have to a file, each by itself.
func writeAll(path string) (cost, error) {
	file, err := os.Create(path)
	if err != nil {
		return cost{}, err
	}
	frame := make([]byte, 96)
	found, err := inTurn(nil, ledgerRecords, func([]byte) error {
		_, err := file.Write(frame)
		return err
	})
	return found, errors.Join(err, file.Close(), os.Remove(path))
}

// encodeAlone makes Parquet as the ledger does, with nothing of the ledger's.
func encodeAlone(rows []usage.Row) error {
	var into bytes.Buffer
	writer := parquet.NewGenericWriter[usage.Row](&into, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}))
	_, err := writer.Write(rows)
	return errors.Join(err, writer.Close())
}

// cpuFor is the CPU time that this process takes to do something.
func cpuFor(do func() error) (time.Duration, error) {
	began, err := cpuOf(os.Getpid())
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	ended, err := cpuOf(os.Getpid())
	return ended - began, err
}

const usageTenants = 1000

// rowsOf makes the records of n calls of many tenants, which arrive evenly from a time
// to another.
func rowsOf(random *rand.Rand, from, to time.Time, n int) []usage.Row {
	made := make([]usage.Row, n)
	for i := range made {
		at := from.Add(to.Sub(from) * time.Duration(i) / time.Duration(n))
		row := &made[i]
		binary.BigEndian.PutUint64(row.Call[:8], uint64(at.UnixMilli())<<16|random.Uint64N(1<<16))
		binary.BigEndian.PutUint64(row.Call[8:], random.Uint64())
		row.Tenant, row.Function, row.Outcome = fmt.Sprintf("tenant-%d", random.IntN(usageTenants)), "resize", "answered"
		row.CPU, row.BytesIn, row.BytesOut = 8e6+random.Int64N(4000)*1000, random.Int64N(1<<20), random.Int64N(20_000)
		row.Start, row.Duration = at.UnixMicro(), row.CPU+random.Int64N(1e6)
	}
	return made
}
