// Command lightcone is Lightcone's one static binary: the services, and the
// commands of those who call and operate them. Run it without arguments for the
// list.
//
// It parses commands, wires services together and says what came of it. What
// the commands do lives in the packages it imports.
//
// Exit codes: 0 it worked, 1 it failed, 2 the command line was not understood.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	supervisor "lightcone/functions/runtime"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	supervisor.BecomeFunctionIfAsked()
	os.Exit(execute(newRoot(), os.Args[1:]))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "lightcone",
		Short:         "A serverless-style function runtime",
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
	root.AddCommand(
		newDevCommand(),
		newCallCommand(),
		newInvocationCommand(),
		newUsageCommand(),
		newBulkCommand(),
		newGatewayCommand(new(gatewayFlags)),
		newWorkerCommand(new(workerFlags)),
		newIdentityCommand(new(identityFlags)),
		newSchedulerCommand(new(schedulerFlags)),
		newQueueCommand(new(queueNodeFlags)),
		newTenantCommand(),
		newKeyCommand(),
		newAuditCommand(),
		newDeadLetterCommand(),
		newArchiveCommand(),
		newKeysCommand(),
		newFunctionCommand(),
		newPlanCommand(),
		newVersionCommand(),
	)
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
		fmt.Fprintf(root.ErrOrStderr(), "lightcone: %v\nRun `%s --help` for what it takes.\n", err, command.CommandPath())
		return exitUsage
	default:
		fmt.Fprintf(root.ErrOrStderr(), "lightcone: %v\n", err)
		return exitFailed
	}
}

// usageError is a command line that was not understood.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }

func (u *usageError) Unwrap() error { return u.err }

// usagef is a usage error, formatted like fmt.Errorf.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// takes checks that a command got exactly the named arguments.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("the argument %s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("the argument %q is one too many", args[len(names)])
		}
		return nil
	}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which Lightcone this is",
		Args:  takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("this binary was built without build information; build it with `make build`")
			}
			_, err := fmt.Fprintln(command.OutOrStdout(), versionLine(info))
			return err
		},
	}
}

// versionLine is the commit, its time, and the Go that built it.
func versionLine(info *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		revision = "of an unknown commit"
	} else {
		revision = revision[:min(12, len(revision))] + " of " + settings["vcs.time"]
	}
	if settings["vcs.modified"] == "true" {
		revision += ", with local changes"
	}
	return fmt.Sprintf("lightcone %s, %s %s/%s", revision, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}
