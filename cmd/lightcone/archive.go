package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
	"lightcone/usage/archive"
	"lightcone/usage/billing"
	"lightcone/usage/store"
)

// archiveFlags say where records are, and where they are kept when they are old.
type archiveFlags struct{ bucket, archive string }

const day = 24 * time.Hour

func newArchiveCommand() *cobra.Command {
	flags := new(archiveFlags)
	command := &cobra.Command{
		Use:   "archive",
		Short: "Keep old usage records in cold storage, verify them, and bring them back",
		Args:  commandline.Takes(),
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.PersistentFlags().StringVar(&flags.bucket, "bucket", "", "where usage and bills are: a `folder`, file:///path or s3://bucket?region=…")
	command.PersistentFlags().StringVar(&flags.archive, "archive", "", "where old records are kept: a `folder`, file:///path or s3://bucket?region=…")
	command.AddCommand(newArchiveMoveCommand(flags), newArchiveVerifyCommand(flags), newArchiveRestoreCommand(flags),
		newArchiveRetainCommand(flags), newArchiveExpireCommand(flags))
	return command
}

// with opens both buckets, until do has returned or a signal has come.
func (f *archiveFlags) with(command *cobra.Command, do func(context.Context, archive.Archive) error) (err error) {
	if f.bucket == "" || f.archive == "" || f.bucket == f.archive {
		return commandline.Usagef("want --bucket and --archive, and two different ones")
	}
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	hot, err := store.Open(ctx, f.bucket)
	if err != nil {
		return fmt.Errorf("--bucket: %w", err)
	}
	defer func() { err = errors.Join(err, hot.Close()) }()
	cold, err := store.Open(ctx, f.archive)
	if err != nil {
		return fmt.Errorf("--archive: %w", err)
	}
	defer func() { err = errors.Join(err, cold.Close()) }()
	return do(ctx, archive.Archive{Hot: hot, Cold: cold})
}

func newArchiveMoveCommand(flags *archiveFlags) *cobra.Command {
	var days int
	command := &cobra.Command{
		Use:   "move",
		Short: "Move records that are billed and older than some days to the archive",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if days < 1 {
				return commandline.Usagef("--older-than %d: want at least 1 day", days)
			}
			return flags.with(command, func(ctx context.Context, a archive.Archive) error {
				now := time.Now()
				hours, err := billing.HoursWithUsage(ctx, a.Hot, now.Add(-time.Duration(days)*day-time.Hour))
				if err != nil {
					return err
				}
				objects := 0
				for _, hour := range hours {
					moved, err := moveHour(ctx, a, hour, now)
					if err != nil {
						return err
					}
					objects += moved
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "%d objects of %d hours moved\n", objects, len(hours))
				return err
			})
		},
	}
	command.Flags().IntVar(&days, "older-than", 30, "`days` since the end of the records' hour")
	return command
}

// moveHour moves what of an hour has been billed.
func moveHour(ctx context.Context, a archive.Archive, hour, now time.Time) (int, error) {
	bill, err := billing.ReadBill(ctx, a.Hot, hour)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	billed := make(map[string]int64)
	for _, object := range bill.Objects {
		billed[object.Key] = object.Rows
	}
	return a.MoveHour(ctx, hour, billed, now)
}

func newArchiveVerifyCommand(flags *archiveFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that no manifest and no object of the archive is missing or altered",
		Long: `Read the whole archive, and check that no manifest is missing, altered or out of its
place, and that every object is there and the one that was moved. Note the digest that
is printed: an archive that somebody made anew as a whole has another.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return flags.with(command, func(ctx context.Context, a archive.Archive) error {
				found, err := a.Verify(ctx)
				if err != nil {
					return err
				}
				for _, finding := range found.Findings {
					_, _ = fmt.Fprintln(command.OutOrStdout(), finding)
				}
				if len(found.Findings) > 0 {
					return fmt.Errorf("the archive is not whole: %d findings", len(found.Findings))
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "the archive is whole: %d objects, %d manifests, the last with the digest %v\n", found.Objects, found.Manifests, found.Last)
				return err
			})
		},
	}
}

func newArchiveRestoreCommand(flags *archiveFlags) *cobra.Command {
	var hourText string
	command := &cobra.Command{
		Use:   "restore",
		Short: "Copy an hour's records back, to bill it again",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			hour, err := billing.ParseHour(hourText)
			if err != nil {
				return commandline.Usagef("--hour: %w", err)
			}
			return flags.with(command, func(ctx context.Context, a archive.Archive) error {
				restored, err := a.RestoreHour(ctx, hour)
				if err == nil {
					_, err = fmt.Fprintf(command.OutOrStdout(), "%d objects are back\n", restored)
				}
				return err
			})
		},
	}
	command.Flags().StringVar(&hourText, "hour", "", "the `hour`, in UTC, such as 2026-11-03T14")
	return command
}

func newArchiveRetainCommand(flags *archiveFlags) *cobra.Command {
	var days int
	command := &cobra.Command{
		Use:   "retain",
		Short: "Say how long records are kept; it can be lengthened, and not shortened",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return flags.with(command, func(ctx context.Context, a archive.Archive) error { return a.Retain(ctx, days) })
		},
	}
	command.Flags().IntVar(&days, "days", 0, "`days` from the end of the records' hour")
	return command
}

func newArchiveExpireCommand(flags *archiveFlags) *cobra.Command {
	var before string
	command := &cobra.Command{
		Use:   "expire",
		Short: "Delete records that need not be kept any longer",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			end, err := time.Parse(time.DateOnly, before)
			if err != nil {
				return commandline.Usagef("--before %q: want a date, such as 2026-01-01", before)
			}
			return flags.with(command, func(ctx context.Context, a archive.Archive) error {
				deleted, err := a.Expire(ctx, end, time.Now())
				if err == nil {
					_, err = fmt.Fprintf(command.OutOrStdout(), "%d objects deleted\n", deleted)
				}
				return err
			})
		},
	}
	command.Flags().StringVar(&before, "before", "", "the `date`, in UTC, before which records are deleted")
	return command
}
