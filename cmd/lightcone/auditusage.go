package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
	"lightcone/usage/archive"
	"lightcone/usage/billing"
	"lightcone/usage/store"
)

// auditUsageFlags are the flags of `lightcone audit usage`.
type auditUsageFlags struct{ bucket, archive, hour string }

func newAuditUsageCommand() *cobra.Command {
	flags := new(auditUsageFlags)
	command := &cobra.Command{
		Use:   "usage",
		Short: "Check that what was answered was stored and billed, once",
		Long: `Compare, for each node, the calls of an hour that it has answered by its own count with
the records that are stored and those that are billed. Every difference is printed with
the node, the sequence of the object, and the number of records; the exit code is then 1.

Name the archive as well, if the hour's records may be there.`,
		Example: `  lightcone audit usage --bucket lightcone-data/usage/store --hour 2026-11-03T14`,
		Args:    commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if flags.bucket == "" {
				return commandline.Usagef("--bucket is missing")
			}
			hour, err := billing.ParseHour(flags.hour)
			if err != nil {
				return commandline.Usagef("--hour: %w", err)
			}
			ctx, release := run.UntilSignal(command.Context())
			defer release()
			result, err := flags.reconcile(ctx, hour)
			if err != nil {
				return err
			}
			rows := [][]string{{"NODE", "ANSWERED", "INTERRUPTED", "RECORDED", "STORED", "BILLED"}}
			for _, n := range result.Nodes {
				rows = append(rows, []string{n.Node, countText(n.Answered), countText(n.Interrupted), countText(n.Recorded), countText(n.Stored), countText(n.Billed)})
			}
			if err := table(command.OutOrStdout(), rows); err != nil {
				return err
			}
			for _, finding := range result.Findings {
				_, _ = fmt.Fprintln(command.OutOrStdout(), finding)
			}
			if len(result.Findings) > 0 {
				return fmt.Errorf("hour %s: %d differences", result.Hour, len(result.Findings))
			}
			return nil
		},
	}
	command.Flags().StringVar(&flags.bucket, "bucket", "", "where usage and bills are: a `folder`, file:///path or s3://bucket?region=…")
	command.Flags().StringVar(&flags.archive, "archive", "", "where old records are kept: a `folder`, file:///path or s3://bucket?region=…")
	command.Flags().StringVar(&flags.hour, "hour", "", "the `hour`, in UTC, such as 2026-11-03T14")
	return command
}

func countText(n int64) string { return strconv.FormatInt(n, 10) }

// reconcile opens what it needs and compares.
func (f *auditUsageFlags) reconcile(ctx context.Context, hour time.Time) (result *billing.Reconciliation, err error) {
	bucket, err := store.Open(ctx, f.bucket)
	if err != nil {
		return nil, fmt.Errorf("--bucket: %w", err)
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()
	archived := make(map[string]int64)
	if f.archive != "" {
		cold, err := store.Open(ctx, f.archive)
		if err != nil {
			return nil, fmt.Errorf("--archive: %w", err)
		}
		defer func() { err = errors.Join(err, cold.Close()) }()
		held, err := archive.Archive{Hot: bucket, Cold: cold}.Objects(ctx)
		if err != nil {
			return nil, err
		}
		for key, object := range held {
			archived[key] = object.Rows
		}
	}
	return billing.Reconcile(ctx, bucket, archived, hour)
}
