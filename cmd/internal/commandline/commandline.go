// Package commandline is the frame of Lightcone's executables' command lines: the root
// command, what is said when something fails, and the exit codes.
//
// A failure is one sentence on standard error, and a command line that was not
// understood points to the help. It knows no command: those are each executable's own.
//
// Exit codes: 0 it worked, 1 it failed, 2 the command line was not understood.
package commandline

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	OK            = 0
	Failed        = 1
	NotUnderstood = 2
)

// NewRoot makes the root command of an executable, which prints the help by itself and
// refuses commands that are none.
func NewRoot(name, short string) *cobra.Command {
	root := &cobra.Command{
		Use:           name,
		Short:         short,
		SilenceUsage:  true, // a failure is one sentence, not a page
		SilenceErrors: true, // Execute prints them
		Args:          cobra.ArbitraryArgs,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return Usagef("there is no command %q", args[0])
			}
			return command.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usagef("%w", err) })
	return root
}

// Execute runs the command line, tells what failed, and picks the exit code.
func Execute(root *cobra.Command, args []string) int {
	root.SetArgs(args)
	command, err := root.ExecuteC()
	var usage *usageError
	switch {
	case err == nil:
		return OK
	case errors.As(err, &usage):
		fmt.Fprintf(root.ErrOrStderr(), "%s: %v\nRun `%s --help` for what it takes.\n", root.Name(), err, command.CommandPath())
		return NotUnderstood
	default:
		fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), err)
		return Failed
	}
}

// usageError is a command line that was not understood.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }

func (u *usageError) Unwrap() error { return u.err }

// Usagef is the error about a command line that was not understood, formatted like
// fmt.Errorf.
func Usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// Takes checks that a command got exactly the named arguments.
func Takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return Usagef("the argument %s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return Usagef("the argument %q is one too many", args[len(names)])
		}
		return nil
	}
}
