package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"lightcone/bulk"
	"lightcone/client"
	"lightcone/cmd/internal/commandline"
	"lightcone/functions"
	supervisor "lightcone/functions/runtime"
	"lightcone/internal/run"
)

// bulkTenant is whose calls a share's are: the operator's own.
const bulkTenant = "bulk"

// bulkFlags are the flags of `lightcone bulk run`.
type bulkFlags struct {
	in, out, function, job string
	params                 []string
	share, shares, slots   int
}

// bulkSettings are the environment variables that stand for flags: the first
// that is set counts. $LIGHTCONE_BULK_PARAMS stands for every --param at once.
var bulkSettings = map[string][]string{
	"in":       {"LIGHTCONE_BULK_IN"},
	"out":      {"LIGHTCONE_BULK_OUT"},
	"function": {"LIGHTCONE_BULK_FUNCTION"},
	"job":      {"LIGHTCONE_BULK_JOB", "NOMAD_JOB_ID"},
	"share":    {"LIGHTCONE_BULK_SHARE", "NOMAD_ALLOC_INDEX"},
	"shares":   {"LIGHTCONE_BULK_SHARES"},
	"slots":    {"LIGHTCONE_BULK_SLOTS"},
}

const envBulkParams = "LIGHTCONE_BULK_PARAMS"

func newBulkCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "bulk",
		Short: "Call a function on a whole folder or bucket, in shares",
		Args:  commandline.Takes(),
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newBulkRunCommand(new(bulkFlags)), newBulkStatusCommand())
	return command
}

func newBulkRunCommand(flags *bulkFlags) *cobra.Command {
	command := &cobra.Command{
		Use:   "run",
		Short: "Work through one share of a folder or bucket",
		Long: `Call a function on every object of a folder or bucket prefix, with processes of
its own, and write each answer under the same name in another, with the extension
that fits what came back. One share of several is done; Nomad starts them all
(jobs/resize-bulk.nomad.hcl).

Stopped, or killed at any moment, a share carries on when the same command is
given again with the same job. Objects that cannot be worked on are listed in
.bulk/JOB/failures-SHARE.ndjson below the output, and do not stop the others.

Flags may be given as environment variables: --in as LIGHTCONE_BULK_IN and so
forth, every --param together as LIGHTCONE_BULK_PARAMS=width=300&format=webp. The
share is else NOMAD_ALLOC_INDEX, and the job NOMAD_JOB_ID.`,
		Example: `  lightcone bulk run --job small --param width=300 --in photos --out small
  lightcone bulk run --job small --param width=300 --in 's3://pictures?prefix=photos/' --out 's3://pictures?prefix=small/' --share 0 --shares 3`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			params, err := bulkSetup(command, flags, os.Getenv)
			if err != nil {
				return err
			}
			ctx, release := run.UntilSignal(command.Context())
			defer release()
			return bulkRun(ctx, command, *flags, params)
		},
	}
	f := command.Flags()
	f.StringVarP(&flags.in, "in", "i", "", "the input: a `folder`, file:///path or s3://bucket?prefix=folder/")
	f.StringVarP(&flags.out, "out", "o", "", "the output: a `folder`, file:///path or s3://bucket?prefix=folder/")
	f.StringVar(&flags.function, "function", "resize", "`NAME` of a function that comes with Lightcone")
	f.StringArrayVarP(&flags.params, "param", "p", nil, "a parameter of the function, as `name=value`; may be repeated")
	f.StringVar(&flags.job, "job", "", "`name` of the job: what it has finished is not done again")
	f.IntVar(&flags.share, "share", 0, "which share this is, from 0")
	f.IntVar(&flags.shares, "shares", 1, "how many shares there are")
	f.IntVar(&flags.slots, "slots", runtime.GOMAXPROCS(0), "calls at once; one a core is best")
	return command
}

// bulkSetup completes the flags from the environment, checks them, and reads the
// function's parameters.
func bulkSetup(command *cobra.Command, flags *bulkFlags, getenv func(string) string) (url.Values, error) {
	for name, variables := range bulkSettings {
		for _, variable := range variables {
			flag := command.Flags().Lookup(name)
			if value := getenv(variable); value != "" && !flag.Changed {
				if err := command.Flags().Set(name, value); err != nil {
					return nil, commandline.Usagef("the environment variable %s: %w", variable, err)
				}
			}
		}
	}
	for name, value := range map[string]string{"in": flags.in, "out": flags.out, "job": flags.job} {
		if value == "" {
			return nil, commandline.Usagef("--%s (or $%s) is missing", name, bulkSettings[name][0])
		}
	}
	if err := bulk.ValidateJob(flags.job); err != nil {
		return nil, commandline.Usagef("--job: %w", err)
	}
	if flags.shares < 1 || flags.share < 0 || flags.share >= flags.shares {
		return nil, commandline.Usagef("--share %d --shares %d: want at least one share, and this one from 0 to one less than that", flags.share, flags.shares)
	}
	if err := checkSlots(flags.slots); err != nil {
		return nil, err
	}
	if fromEnvironment := getenv(envBulkParams); len(flags.params) == 0 && fromEnvironment != "" {
		params, err := url.ParseQuery(fromEnvironment)
		if err != nil {
			return nil, commandline.Usagef("the environment variable %s: %w; want such as width=300&format=webp", envBulkParams, err)
		}
		return params, nil
	}
	return parseParams(flags.params)
}

// bulkRun starts the function's processes and works through the share with them.
func bulkRun(ctx context.Context, command *cobra.Command, flags bulkFlags, params url.Values) error {
	logger := slog.New(slog.NewTextHandler(command.ErrOrStderr(), nil))
	spec, err := builtInFunction(flags.function)
	if err != nil {
		return err
	}
	in, err := bulk.Open(ctx, flags.in, false)
	if err != nil {
		return fmt.Errorf("--in: %w", err)
	}
	defer func() { _ = in.Close() }()
	out, err := bulk.Open(ctx, flags.out, true)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer func() { _ = out.Close() }()
	except, err := bulk.Apart(in, out)
	if err != nil {
		return err
	}
	sockets, err := socketFolder(fmt.Sprintf("bulk-%s-%d-of-%d-%s", flags.job, flags.share, flags.shares, flags.out))
	if err != nil {
		return err
	}
	unlock, err := lockShare(sockets+".lock", flags)
	if err != nil {
		return err
	}
	defer unlock()

	group := run.New(logger)
	var worker *supervisor.Supervisor
	err = group.Start(ctx, "supervisor", func(ctx context.Context) (run.Stop, error) {
		worker, err = supervisor.Start(supervisor.Config{
			Functions: []functions.Spec{spec}, Slots: flags.slots, Dir: sockets, Logger: logger, Metrics: prometheus.NewRegistry(),
		})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { return worker.Close() }, waitReady(ctx, worker, logger)
	})
	if err != nil {
		return errors.Join(ctx.Err(), group.Wait(ctx)) // an interrupted share is not a done one
	}
	progress, err := bulk.Run(ctx, bulk.Config{
		In: in, Out: out, Except: except, Job: flags.job, Share: flags.share, Shares: flags.shares,
		Runner: worker, Function: spec, Params: params, Tenant: bulkTenant, Slots: flags.slots, Logger: logger,
	})
	if err = errors.Join(err, group.Stop()); err != nil {
		return err
	}
	return tellShare(command.OutOrStdout(), out, progress)
}

func builtInFunction(name string) (functions.Spec, error) {
	specs, err := builtIn()
	if err != nil {
		return functions.Spec{}, err
	}
	var names []string
	for _, spec := range specs {
		if string(spec.Name) == name {
			return spec, nil
		}
		names = append(names, string(spec.Name))
	}
	return functions.Spec{}, commandline.Usagef("--function %s: want one of %s", name, strings.Join(names, ", "))
}

// lockShare keeps a second process on this machine from taking the first one's
// sockets. The lock goes with the process.
func lockShare(name string, flags bulkFlags) (unlock func(), err error) {
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the share's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("share %d of %d of the job %s runs on this machine already (lock %s: %w): wait for it, or stop it", flags.share, flags.shares, flags.job, name, err)
	}
	return func() { _ = lock.Close() }, nil
}

// tellShare says how a share that is finished went.
func tellShare(w io.Writer, out *bulk.Location, p bulk.Progress) error {
	_, err := fmt.Fprintf(w, "Share %d of %d is finished: %d written, %d there already, %d without output; %s in, %s out, %s of CPU time.\n",
		p.Share, p.Of, p.Done, p.Skipped, p.Failed, client.Size(p.BytesIn), client.Size(p.BytesOut), client.Milliseconds(p.CPU))
	if err == nil && p.Failed > 0 {
		_, err = fmt.Fprintf(w, "Why %d have none is listed in %s, below %s.\n", p.Failed, bulk.FailuresKey(p.Job, p.Share), out)
	}
	return err
}

func newBulkStatusCommand() *cobra.Command {
	var out, job string
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Print how far the shares of a job are",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if out == "" || job == "" {
				return commandline.Usagef("--out and --job are both needed")
			}
			if err := bulk.ValidateJob(job); err != nil {
				return commandline.Usagef("--job: %w", err)
			}
			ctx, release := run.UntilSignal(command.Context())
			defer release()
			location, err := bulk.Open(ctx, out, false)
			if err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			defer func() { _ = location.Close() }()
			all, err := bulk.Status(ctx, location, job)
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(command.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(all)
			}
			return tellStatus(command.OutOrStdout(), all, time.Now())
		},
	}
	f := command.Flags()
	f.StringVarP(&out, "out", "o", "", "the job's output: a `folder`, file:///path or s3://bucket?prefix=folder/")
	f.StringVar(&job, "job", "", "`name` of the job")
	f.BoolVar(&asJSON, "json", false, "print everything as JSON")
	return command
}

// tellStatus prints a line for the job and one for each share that reports.
func tellStatus(w io.Writer, all bulk.Overview, now time.Time) error {
	total := fmt.Sprint(all.Total)
	if !all.Counted || all.Reporting < all.Of {
		total = "at least " + fmt.Sprint(max(all.Total, all.Done+all.Skipped+all.Failed+all.GivenUp))
	}
	_, err := fmt.Fprintf(w, "%d of %s objects: %d written, %d there already, %d without output, %d given up; %s in, %s out, %s of CPU time\n"+
		"%d of %d shares report, %d are finished\n\n",
		all.Done+all.Skipped+all.Failed, total, all.Done, all.Skipped, all.Failed, all.GivenUp,
		client.Size(all.BytesIn), client.Size(all.BytesOut), client.Milliseconds(all.CPU), all.Reporting, all.Of, all.Complete)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SHARE\tTOTAL\tWRITTEN\tTHERE\tWITHOUT\tGIVEN UP\tRUNS\tREPORTED\tSTATE") // Flush has the error
	for _, p := range all.Shares {
		state := "at work"
		if !p.Finished.IsZero() {
			state = "finished"
		} else if p.EndedBy != "" {
			state = "ended early: " + p.EndedBy
		}
		_, _ = fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s ago\t%s\n",
			p.Share, p.Total, p.Done, p.Skipped, p.Failed, p.GivenUp, p.Runs, now.Sub(p.Updated).Round(time.Second), state)
	}
	return table.Flush()
}
