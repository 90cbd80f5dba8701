package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/internal/retry"
	"lightcone/usage/billing"
)

func newRunCommand(flags *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "run",
		Short: "Bill an hour or a month, and make the month's invoices",
		Long: `Bill an hour, or every hour of a month that has usage, and make the invoices of the
month. The hour's bill goes to bills/dt=…/hour=…/, the invoices to
invoices/month=…/tenant=…/, in the same bucket.

Run again on the same usage and prices, it changes nothing. When late records have
come, or prices have changed, invoices get a new revision, with a credit or debit for
each line that was billed otherwise before.

With --hour last, earlier hours to which records have come since, or which were never billed,
are billed too: those of the same month, and, in its first 15 days, of the one before.

Objects that are damaged or foreign are named, and left where they are; the rest is
billed, and the exit code is 1.`,
		Example: `  lightcone-billing run --bucket lightcone-data/usage/store --prices usage/billing/prices.json --hour 2026-11-03T14
  lightcone-billing run --bucket 's3://usage?region=eu-central-1' --prices usage/billing/prices.json --month 2026-11`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := flags.complete(command); err != nil {
				return err
			}
			if (flags.hour == "") == (flags.month == "") {
				return commandline.Usagef("want either --hour or --month")
			}
			list, text, err := flags.priceList()
			if err != nil {
				return err
			}
			return flags.with(command, func(ctx context.Context, region billing.Region) error {
				hours, month, err := flags.hoursToBill(ctx, region)
				if err != nil {
					return err
				}
				b := &batch{region: region, out: command.OutOrStdout(), bill: region.BillHour}
				for _, hour := range hours {
					if err := b.billHour(ctx, hour); err != nil {
						return err
					}
				}
				months := []time.Time{month}
				if flags.hour == lastHour {
					if months, err = b.billLate(ctx, hours[0]); err != nil {
						return err
					}
				}
				return b.invoice(ctx, list, text, months)
			})
		},
	}
	flags.register(command)
	command.Flags().StringVar(&flags.prices, "prices", "", "the price list: a JSON `file`")
	command.Flags().StringVar(&flags.month, "month", "", "the `month` to bill, in UTC, such as 2026-11")
	return command
}

// hoursToBill are the hours that the command line names, and their month.
func (f *flags) hoursToBill(ctx context.Context, region billing.Region) ([]time.Time, time.Time, error) {
	if f.month == "" {
		hour, err := f.theHour()
		return []time.Time{hour}, billing.MonthOf(hour), err
	}
	month, err := billing.ParseMonth(f.month)
	if err != nil {
		return nil, time.Time{}, commandline.Usagef("--month: %w", err)
	}
	hours, err := region.HoursToBill(ctx, month)
	return hours, month, err
}

func newEstimateCommand(flags *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "estimate",
		Short: "Say the most that an hour can come to, quickly, and write nothing",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := flags.complete(command); err != nil {
				return err
			}
			hour, err := flags.theHour()
			if err != nil {
				return err
			}
			return flags.with(command, func(ctx context.Context, region billing.Region) error {
				most, refused, err := region.EstimateHour(ctx, hour)
				if err != nil {
					return err
				}
				out := command.OutOrStdout()
				for _, object := range refused {
					_, _ = fmt.Fprintf(out, "would be set aside: %s: %s\n", object.Key, object.Reason)
				}
				_, err = fmt.Fprintf(out, "hour %s: at most %d calls; CPU %.3f s, %d bytes in, %d bytes out\n",
					billing.HourText(hour), most.Calls, time.Duration(most.CPU).Seconds(), most.BytesIn, most.BytesOut)
				return err
			})
		},
	}
	flags.register(command)
	return command
}

func newMapCommand(flags *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "map",
		Short: "Fold one share of an hour's calls, for a reduce",
		Long: `Fold one share of an hour's calls. A scheduler starts as many of these as there are
shares, each with its own share (in Nomad, NOMAD_ALLOC_INDEX) and all with the same
run, and one reduce.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			hour, err := flags.completeRun(command)
			if err != nil {
				return err
			}
			return flags.with(command, func(ctx context.Context, region billing.Region) error {
				partial, err := region.MapShare(ctx, hour, flags.run, billing.Share{Index: flags.share, Of: flags.shares})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "hour %s, share %v: %d objects, %d sums\n", partial.Hour, partial.Share, len(partial.Objects), len(partial.Rows))
				return err
			})
		},
	}
	flags.register(command)
	flags.registerRun(command)
	command.Flags().IntVar(&flags.share, "share", 0, "which share this is, from 0")
	return command
}

func newReduceCommand(flags *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "reduce",
		Short: "Add up an hour's shares, and make the month's invoices",
		Long: `Add up the shares that the mappers of the same run have folded. It waits for them; a
share that has not come by then, or is of other objects than there are now, it folds
by itself. So it does with earlier hours to which records have come since, after --hour last.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			hour, err := flags.completeRun(command)
			if err != nil {
				return err
			}
			list, text, err := flags.priceList()
			if err != nil {
				return err
			}
			return flags.with(command, func(ctx context.Context, region billing.Region) error {
				if err := flags.awaitMappers(ctx, region, hour); err != nil {
					return err
				}
				b := &batch{region: region, out: command.OutOrStdout(), bill: func(ctx context.Context, hour time.Time) (billing.Bill, error) {
					return region.ReduceHour(ctx, hour, flags.run, flags.shares)
				}}
				if err := b.billHour(ctx, hour); err != nil {
					return err
				}
				months := []time.Time{billing.MonthOf(hour)}
				if flags.hour == lastHour {
					if months, err = b.billLate(ctx, hour); err != nil {
						return err
					}
				}
				return b.invoice(ctx, list, text, months)
			})
		},
	}
	flags.register(command)
	flags.registerRun(command)
	command.Flags().StringVar(&flags.prices, "prices", "", "the price list: a JSON `file`")
	command.Flags().DurationVar(&flags.wait, "wait", 10*time.Minute, "how long to wait for the mappers")
	return command
}

// registerRun adds the flags of mappers and reducer.
func (f *flags) registerRun(command *cobra.Command) {
	command.Flags().StringVar(&f.run, "run", "", "`name` that mappers and reducer of one run share; in Nomad, the job's id")
	command.Flags().IntVar(&f.shares, "shares", 1, "how many shares there are")
}

const betweenLooks = 2 * time.Second

// awaitMappers waits until all shares are there, or the time is over.
func (f *flags) awaitMappers(ctx context.Context, region billing.Region, hour time.Time) error {
	for deadline := f.now().Add(f.wait); f.now().Before(deadline); {
		mapped, err := region.Mapped(ctx, hour, f.run, f.shares)
		if err != nil || mapped >= f.shares {
			return err
		}
		if err := retry.Pause(ctx, min(betweenLooks, deadline.Sub(f.now()))); err != nil {
			return err
		}
	}
	return nil
}
