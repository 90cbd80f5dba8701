// Command lightcone-billing is the billing batch's executable. It makes an hour's
// bill and a month's invoices of the usage records in a bucket, at once or as
// mappers and a reducer that a scheduler starts.
//
// It parses the command line, wires package billing to DuckDB and says what came of
// it. What is billed, and how, is package billing's. It has cgo for DuckDB, so it
// is apart from the static binary; `lightcone audit usage` and `lightcone archive`
// need none and are there.
//
// Exit codes: 0 all of it was billed, 1 it failed, or objects had to be set aside
// (the rest is billed, and each is named), 2 the command line was not understood.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(execute(newRoot(os.Getenv, time.Now), os.Args[1:])) }

func newRoot(getenv func(string) string, now func() time.Time) *cobra.Command {
	root := &cobra.Command{
		Use:           "lightcone-billing",
		Short:         "Makes bills and invoices of usage records",
		SilenceUsage:  true, // a failure is one sentence, not a page
		SilenceErrors: true, // execute prints them
		Args:          cobra.ArbitraryArgs,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", args[0])
			}
			return command.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%w", err) })
	flags := &flags{getenv: getenv, now: now}
	root.AddCommand(newRunCommand(flags), newEstimateCommand(flags), newMapCommand(flags), newReduceCommand(flags))
	return root
}

// execute runs the command line, tells what failed, and picks the exit code.
func execute(root *cobra.Command, args []string) int {
	root.SetArgs(args)
	command, err := root.ExecuteC()
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(root.ErrOrStderr(), "lightcone-billing: %v\nRun `%s --help` for what it takes.\n", err, command.CommandPath())
		return exitUsage
	default:
		fmt.Fprintf(root.ErrOrStderr(), "lightcone-billing: %v\n", err)
		return exitFailed
	}
}

// usageError is a command line that was not understood.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }

func (u *usageError) Unwrap() error { return u.err }

// usagef is a usage error, formatted like fmt.Errorf.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// noArguments refuses what is neither a command nor a flag.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("the argument %q is one too many", args[0])
	}
	return nil
}
