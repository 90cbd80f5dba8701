package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
	"lightcone/usage/billing"
	"lightcone/usage/billing/duckdb"
	"lightcone/usage/store"
)

// flags are those of all commands; each registers what it takes.
type flags struct {
	getenv func(string) string
	now    func() time.Time

	bucket, scratch string
	memory, threads int
	prices          string
	hour, month     string
	run             string
	share, shares   int
	wait            time.Duration
}

// settings are the environment variables that stand for flags: the first that is
// set counts.
var settings = map[string][]string{
	"bucket":  {"LIGHTCONE_BILLING_BUCKET"},
	"scratch": {"LIGHTCONE_BILLING_SCRATCH"},
	"memory":  {"LIGHTCONE_BILLING_MEMORY"},
	"threads": {"LIGHTCONE_BILLING_THREADS"},
	"prices":  {"LIGHTCONE_BILLING_PRICES"},
	"hour":    {"LIGHTCONE_BILLING_HOUR"},
	"run":     {"LIGHTCONE_BILLING_RUN", "NOMAD_JOB_ID"},
	"share":   {"LIGHTCONE_BILLING_SHARE", "NOMAD_ALLOC_INDEX"},
	"shares":  {"LIGHTCONE_BILLING_SHARES"},
	"wait":    {"LIGHTCONE_BILLING_WAIT"},
}

const (
	leastMemory = 128 // MiB; less, and DuckDB cannot even spill
	lastHour    = "last"
)

// register adds the flags that every command takes.
func (f *flags) register(command *cobra.Command) {
	set := command.Flags()
	set.StringVar(&f.bucket, "bucket", "", "where usage and bills are: a `folder`, file:///path or s3://bucket?region=…")
	set.StringVar(&f.hour, "hour", "", "the `hour` to bill, in UTC, such as 2026-11-03T14; `last` is the one that ended last")
	set.StringVar(&f.scratch, "scratch", os.TempDir(), "`folder` for copies of an hour's records, and what does not fit in memory")
	set.IntVar(&f.memory, "memory", 1024, "`MiB` of memory to fold in; beyond it, the scratch folder is used")
	set.IntVar(&f.threads, "threads", runtime.GOMAXPROCS(0), "cores to fold with")
}

// complete takes from the environment what the command line does not say, and checks
// what every command needs.
func (f *flags) complete(command *cobra.Command) error {
	for name, variables := range settings {
		flag := command.Flags().Lookup(name)
		for _, variable := range variables {
			if value := f.getenv(variable); flag != nil && value != "" && !flag.Changed {
				if err := command.Flags().Set(name, value); err != nil {
					return commandline.Usagef("the environment variable %s: %w", variable, err)
				}
			}
		}
	}
	switch {
	case f.bucket == "":
		return commandline.Usagef("--bucket (or $%s) is missing", settings["bucket"][0])
	case f.memory < leastMemory:
		return commandline.Usagef("--memory %d: want at least %d", f.memory, leastMemory)
	case f.threads < 1:
		return commandline.Usagef("--threads %d: want at least 1", f.threads)
	}
	return nil
}

// completeRun checks what mappers and their reducer need.
func (f *flags) completeRun(command *cobra.Command) (hour time.Time, err error) {
	if err := f.complete(command); err != nil {
		return time.Time{}, err
	}
	if f.run == "" {
		return time.Time{}, commandline.Usagef("--run (or $%s) is missing", settings["run"][0])
	}
	f.run = strings.ReplaceAll(f.run, "/", ".") // a periodic job's id has one
	return f.theHour()
}

// theHour is the hour to bill. It has to have begun; while it is not over, it is billed so
// far, and again when more of it is there.
func (f *flags) theHour() (time.Time, error) {
	current := f.now().UTC().Truncate(time.Hour)
	if f.hour == lastHour {
		return current.Add(-time.Hour), nil
	}
	hour, err := billing.ParseHour(f.hour)
	if err != nil {
		return time.Time{}, commandline.Usagef("--hour: %w", err)
	}
	if hour.After(current) {
		return time.Time{}, commandline.Usagef("--hour %s has not begun: it is %s now", f.hour, billing.HourText(current))
	}
	return hour, nil
}

// priceList reads the prices.
func (f *flags) priceList() (*billing.PriceList, []byte, error) {
	if f.prices == "" {
		return nil, nil, commandline.Usagef("--prices (or $%s) is missing", settings["prices"][0])
	}
	text, err := os.ReadFile(f.prices)
	if err != nil {
		return nil, nil, fmt.Errorf("read the price list: %w", err)
	}
	list, err := billing.ParsePriceList(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.prices, err)
	}
	return list, text, nil
}

// with opens the bucket and DuckDB, until do has returned or a signal has come.
func (f *flags) with(command *cobra.Command, do func(context.Context, billing.Region) error) (err error) {
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	bucket, err := store.Open(ctx, f.bucket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()
	spill, err := os.MkdirTemp(f.scratch, "lightcone-billing-spill-*")
	if err != nil {
		return fmt.Errorf("make a scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(spill)) }()
	folder, err := duckdb.Open(ctx, duckdb.Config{Memory: int64(f.memory) << 20, Threads: f.threads, Scratch: spill})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	return do(ctx, billing.Region{Bucket: bucket, Folder: folder, Scratch: f.scratch})
}
