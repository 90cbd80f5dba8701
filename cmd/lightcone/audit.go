package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/identity"
	"lightcone/identity/management"
)

func newAuditCommand() *cobra.Command {
	flags := new(operatorFlags)
	command := &cobra.Command{
		Use:   "audit",
		Short: "Read and verify the trail of management changes, and reconcile usage",
		Args:  commandline.Takes(),
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	flags.register(command.PersistentFlags())
	command.AddCommand(newAuditListCommand(flags), newAuditVerifyCommand(flags), newAuditUsageCommand())
	return command
}

func newAuditListCommand(flags *operatorFlags) *cobra.Command {
	var after uint64
	command := &cobra.Command{
		Use:   "list",
		Short: "List who changed what, and when",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				rows := [][]string{{"ENTRY", "TIME", "OPERATOR", "ACTION", "SUBJECT"}}
				for next, more := after, true; more; more = next != 0 {
					var page []identity.Entry
					var err error
					if page, next, err = client.Audit(ctx, next, management.MostPerPage); err != nil {
						return err
					}
					for _, entry := range page {
						rows = append(rows, []string{strconv.FormatUint(entry.Sequence, 10), timeText(entry.Time), entry.Actor, entry.Action, entry.Subject})
					}
				}
				return table(command.OutOrStdout(), rows)
			})
		},
	}
	command.Flags().Uint64Var(&after, "after", 0, "the number of the entry after which to begin")
	return command
}

func newAuditVerifyCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that no entry of the trail is missing or altered",
		Long: `Check that no entry of the audit trail is missing, altered or out of its place:
each holds the hash of the one before. Note the hash that is printed: a trail that
somebody made anew as a whole has another.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				found, err := client.VerifyAudit(ctx)
				if err != nil {
					return err
				}
				if found.Finding != "" {
					return fmt.Errorf("the audit trail is not whole at entry %d: %s", found.Entry, found.Finding)
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "the audit trail is whole: %d entries, the last with the hash %v\n", found.Verified, found.Hash)
				return err
			})
		},
	}
}
