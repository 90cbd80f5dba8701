package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lightcone/usage"
	"lightcone/usage/billing"
	"lightcone/usage/billing/duckdb"
	"lightcone/usage/store"
)

const (
	objectRecords = 180_000     // in a segment of the usual length, about
	dayRecords    = 864_000_000 // 10 000 a second
	usualMemory   = 1024        // MiB, the default of lightcone-billing
	littleMemory  = 128         // MiB, the least that it takes
	usageNodes    = 4           // that record at the same time
)

// measureBilling measures an hour of records: the fold alone, on one core, and the
// whole of `lightcone-billing run` on all of them.
func measureBilling(ctx context.Context, s settings, r *report, dir string) error {
	hour := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	bucket := filepath.Join(dir, "bucket")
	fmt.Printf("  (an hour of %d records, in objects of %d by %d nodes)\n", s.records, objectRecords, usageNodes)
	calls, err := makeHour(ctx, bucket, hour, s.records, 0)
	if err != nil {
		return err
	}
	if err := measureFold(ctx, s, r, "", bucket, hour, calls); err != nil {
		return err
	}
	if err := measureHour(ctx, s, r, bucket, hour); err != nil {
		return err
	}
	copied := filepath.Join(dir, "copied")
	if err := os.RemoveAll(bucket); err != nil {
		return err
	}
	if calls, err = makeHour(ctx, copied, hour, s.records, 100); err != nil {
		return err
	}
	return measureFold(ctx, s, r, ", 1 % stored twice", copied, hour, calls)
}

// makeHour fills a bucket with the objects that the ledgers of some nodes would ship.
// Of as many records as oneIn says, one is there once more; 0 means none. It returns how
// many calls they are of.
func makeHour(ctx context.Context, folder string, hour time.Time, records, oneIn int) (calls int, err error) {
	bucket, err := store.Open(ctx, folder)
	if err != nil {
		return 0, err
	}
	defer bucket.Close()
	random, encoder := rand.New(rand.NewPCG(3, 4)), usage.NewEncoder()
	objects := (records + objectRecords - 1) / objectRecords
	slots := (objects + usageNodes - 1) / usageNodes // of the hour; every node has a segment in each
	var again []usage.Row
	for i := range objects {
		slot := time.Hour * time.Duration(i/usageNodes) / time.Duration(slots)
		next := time.Hour * time.Duration(i/usageNodes+1) / time.Duration(slots)
		size := min(objectRecords, records-i*objectRecords)
		again = again[:min(len(again), size)]
		calls += size - len(again)
		rows := append(again, rowsOf(random, hour.Add(slot), hour.Add(next), size-len(again))...)
		again = nil
		for at := oneIn; oneIn > 0 && at < len(rows); at += oneIn {
			again = append(again, rows[at])
		}
		object := usage.Object{Node: fmt.Sprint("gw-", i%usageNodes), Hour: hour, Sequence: uint64(i)}
		var content bytes.Buffer
		if _, err := encoder.Encode(&content, object, slices.Values(rows)); err != nil {
			return 0, err
		}
		if err := bucket.Write(ctx, object.Key(), content.Bytes()); err != nil {
			return 0, err
		}
	}
	return calls, nil
}

// foldEnv makes this program fold an hour's objects on one core, as package
// usage/billing/duckdb does: a foldOrder as JSON.
const foldEnv = "LIGHTCONE_BENCH_FOLD"

type foldOrder struct {
	Files   []string
	Hour    time.Time
	Scratch string
	Once    bool // each call once, or every record
}

// folding is what came of it.
type folding struct {
	Calls int64
	CPU   time.Duration // of the fold alone
}

// serveFold is the process of one fold.
func serveFold(text string) error {
	var order foldOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	ctx := context.Background()
	folder, err := duckdb.Open(ctx, duckdb.Config{Memory: usualMemory << 20, Threads: 1, Scratch: order.Scratch})
	if err != nil {
		return err
	}
	defer folder.Close()
	var rows []billing.Row
	used, err := cpuFor(func() error {
		if !order.Once {
			rows, err = folder.Sum(ctx, order.Files)
			return err
		}
		folded, err := folder.Fold(ctx, order.Files, order.Hour, billing.Share{Of: 1})
		rows = folded.Rows
		return err
	})
	if err != nil {
		return err
	}
	done := folding{CPU: used}
	for _, row := range rows {
		done.Calls += row.Calls
	}
	return json.NewEncoder(os.Stdout).Encode(done)
}

func measureFold(ctx context.Context, s settings, r *report, which, bucket string, hour time.Time, calls int) error {
	files, err := filepath.Glob(filepath.Join(bucket, filepath.FromSlash(usage.HourPrefix(hour)), "node=*", "*.parquet"))
	if err != nil {
		return err
	}
	var rates [2][]float64
	for range s.rounds {
		for i, once := range []bool{false, true} {
			text, err := json.Marshal(foldOrder{Files: files, Hour: hour, Scratch: filepath.Join(bucket, "scratch"), Once: once})
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			batch, err := runBatch(ctx, "", []string{foldEnv + "=" + string(text)}, self)
			if err != nil {
				return err
			}
			var done folding
			if err := json.Unmarshal([]byte(batch.output), &done); err != nil {
				return fmt.Errorf("a fold said %q: %w", batch.output, err)
			}
			if want := []int{s.records, calls}[i]; done.Calls != int64(want) {
				return fmt.Errorf("a fold counted %d calls, want %d", done.Calls, want)
			}
			rates[i] = append(rates[i], float64(s.records)/done.CPU.Seconds()/1e6)
		}
	}
	if which == "" {
		r.add(usageSection, "every record added up by DuckDB, a core", "M/s", "at least 10", rates[0]...)
	}
	r.add(usageSection, "each call billed once, a core"+which, "M/s", "at least 2", rates[1]...)
	r.add(usageSection, "  once : every record", "x", "", ratios(rates[1], rates[0])...)
	return nil
}

// measureHour bills the whole hour, with the usual memory and with little.
func measureHour(ctx context.Context, s settings, r *report, bucket string, hour time.Time) error {
	const mebi = 1024
	bill := func(memory int) (batch, error) {
		done, err := runBatch(ctx, bucket, nil, "bin/lightcone-billing", "run", "--bucket", bucket, "--scratch", bucket, "--prices", "usage/billing/prices.json",
			"--hour", billing.HourText(hour), "--memory", strconv.Itoa(memory))
		if err == nil && !strings.Contains(done.output, fmt.Sprintf(": %d calls billed of %d records", s.records, s.records)) {
			err = fmt.Errorf("of %d calls, it billed: %s", s.records, done.output)
		}
		return done, err
	}
	first, err := bill(usualMemory) // it writes the invoices; later runs find them as they should be
	if err != nil {
		return err
	}
	var rates, day, most, littleRates, littleMost, littleSpilt []float64
	for range s.rounds {
		usual, err := bill(usualMemory)
		if err != nil {
			return err
		}
		little, err := bill(littleMemory)
		if err != nil {
			return err
		}
		if totals(usual.output) != totals(first.output) || totals(little.output) != totals(first.output) {
			return fmt.Errorf("three bills of one hour differ:\n%s%s%s", first.output, usual.output, little.output)
		}
		rates = append(rates, float64(s.records)/usual.cpu.Seconds()/1e6)
		day = append(day, usual.wall.Minutes()*dayRecords/float64(s.records))
		most = append(most, usual.most/mebi)
		littleRates = append(littleRates, float64(s.records)/little.cpu.Seconds()/1e6)
		littleMost, littleSpilt = append(littleMost, little.most/mebi), append(littleSpilt, little.spilt/mebi/mebi)
	}
	r.add(usageSection, "lightcone-billing run, inspection and all, a core", "M/s", "", rates...)
	r.add(usageSection, "  a day of 864000000 records at that pace, all cores", "minutes", "minutes", day...)
	r.add(usageSection, "  the most memory, of 1024 MiB for DuckDB", "MiB", "", most...)
	r.add(usageSection, "the same with 128 MiB for DuckDB, a core", "M/s", "", littleRates...)
	r.add(usageSection, "  the most memory", "MiB", "bounded", littleMost...)
	r.add(usageSection, "  the most that was spilt to the disk", "MiB", "", littleSpilt...)
	return nil
}

// totals is the line of a bill.
func totals(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	return line
}

// batch is what a process that ended by itself has said and used.
type batch struct {
	output string
	cpu    time.Duration
	wall   time.Duration
	most   float64 // KiB resident at once
	spilt  float64 // bytes in the scratch folder at once that did not fit in memory
}

// runBatch runs a command to its end, and watches its memory and what it spills to a
// scratch folder, if it has one.
func runBatch(ctx context.Context, scratch string, env []string, name string, args ...string) (batch, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), env...)
	var output, complaints bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaints
	began := time.Now()
	if err := command.Start(); err != nil {
		return batch{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	done := batch{}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			done.most, done.spilt = max(done.most, peakKiB(command.Process.Pid)), max(done.spilt, spilt(scratch))
		case err := <-ended:
			if err != nil {
				return batch{}, errors.Join(fmt.Errorf("%s %s: %s", name, strings.Join(args, " "), complaints.String()), err)
			}
			done.output, done.wall = output.String(), time.Since(began)
			done.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
			return done, nil
		}
	}
}

// spilt is how many bytes lightcone-billing has in a scratch folder for want of memory.
func spilt(scratch string) (bytes float64) {
	if scratch == "" {
		return 0
	}
	files, _ := filepath.Glob(filepath.Join(scratch, "lightcone-billing-spill-*", "*")) // the pattern is well-formed
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			bytes += float64(info.Size())
		}
	}
	return bytes
}

// peakKiB is the most that a process has had resident since it began; 0 once it has ended.
func peakKiB(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	if fields := strings.Fields(rest); found && len(fields) > 0 {
		kibibytes, _ := strconv.ParseFloat(fields[0], 64)
		return kibibytes
	}
	return 0
}
