package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"lightcone/client"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
)

// usageFlags is the command line of `lightcone usage`.
type usageFlags struct {
	callerFlags
	from, to string
	strict   bool
}

func newUsageCommand() *cobra.Command {
	var flags usageFlags
	command := &cobra.Command{
		Use:   "usage",
		Short: "Show what your calls used: this month, or from one time to another",
		Long: `Show what the calls of the key's tenant used, by function: those that have reached
the bucket, and those that still lie where they were answered. It is added up by the
hour, UTC. When some of those who keep usage do not answer, it shows what there is, and
says so; --strict fails then.

The key is taken from --key, else --key-file, else $LIGHTCONE_KEY, else
` + defaultKeyFile + `.`,
		Example: `  lightcone usage
  lightcone usage --from 2026-11-01 --to 2026-11-15T12:00:00Z`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error { return showUsage(command, flags) },
	}
	set := command.Flags()
	set.StringVar(&flags.from, "from", "", "the first `TIME` or date (default: the month's beginning)")
	set.StringVar(&flags.to, "to", "", "the `TIME` or date before which it ends (default: now)")
	set.BoolVar(&flags.strict, "strict", false, "fail when some of the usage may be missing")
	flags.callerFlags.register(set)
	return command
}

func showUsage(command *cobra.Command, flags usageFlags) error {
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	key, err := findKey(flags.callerFlags, os.Getenv(envKey), os.ReadFile)
	if err != nil {
		return err
	}
	policy := client.DefaultPolicy
	policy.Attempts = singleAttempts
	caller, err := client.New(client.Options{API: flags.api, Key: key, Parallel: 1, Policy: policy})
	if err != nil {
		return commandline.Usagef("--api: %w", err)
	}
	defer caller.Close()
	used, err := caller.Usage(ctx, flags.from, flags.to, flags.strict)
	if err != nil {
		return err
	}
	return printUsage(command.OutOrStdout(), used)
}

func printUsage(w io.Writer, used client.Usage) error {
	if _, err := fmt.Fprintf(w, "from %s to %s\n", used.From.Format(time.RFC3339), used.To.Format(time.RFC3339)); err != nil {
		return err
	}
	rows := [][]string{{"FUNCTION", "CALLS", "CPU SECONDS", "BYTES IN", "BYTES OUT"}}
	row := func(name string, sums client.UsageSums) []string {
		return []string{name, strconv.FormatInt(sums.Calls, 10), strconv.FormatFloat(sums.CPU.Seconds(), 'f', 6, 64), strconv.FormatInt(sums.BytesIn, 10), strconv.FormatInt(sums.BytesOut, 10)}
	}
	for _, f := range used.Functions {
		rows = append(rows, row(string(f.Function), f.UsageSums))
	}
	if err := table(w, append(rows, row("total", used.Totals))); err != nil || used.Harvest >= 1 {
		return err
	}
	_, err := fmt.Fprintf(w, "Only %.0f %% of those who keep usage answered: what the others have not stored yet is missing.\n", 100*used.Harvest)
	return err
}
