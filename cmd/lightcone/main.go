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

	"lightcone/cmd/internal/commandline"
	supervisor "lightcone/functions/runtime"
)

func main() {
	supervisor.BecomeFunctionIfAsked()
	os.Exit(commandline.Execute(newRoot(), os.Args[1:]))
}

func newRoot() *cobra.Command {
	root := commandline.NewRoot("lightcone", "A serverless-style function runtime")
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

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which Lightcone this is",
		Args:  commandline.Takes(),
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
