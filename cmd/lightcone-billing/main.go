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
	"os"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
)

func main() { os.Exit(commandline.Execute(newRoot(os.Getenv, time.Now), os.Args[1:])) }

func newRoot(getenv func(string) string, now func() time.Time) *cobra.Command {
	root := commandline.NewRoot("lightcone-billing", "Makes bills and invoices of usage records")
	flags := &flags{getenv: getenv, now: now}
	root.AddCommand(newRunCommand(flags), newEstimateCommand(flags), newMapCommand(flags), newReduceCommand(flags))
	return root
}
