package main

import (
	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/functions"
	"lightcone/functions/echo"
)

// newFunctionCommand is how a supervisor starts the functions that live in this
// binary. People call functions through the front door instead.
func newFunctionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:    "function",
		Short:  "Be a function: what a supervisor starts",
		Hidden: true,
	}
	command.AddCommand(&cobra.Command{
		Use:   "echo",
		Short: "Answer every input with itself",
		Args:  commandline.Takes(),
		RunE:  func(*cobra.Command, []string) error { return functions.Serve(echo.Handle) },
	})
	return command
}
