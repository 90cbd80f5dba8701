package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/client"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
	"lightcone/queue/operate"
)

// deadLetterPages are the dead letters' pages, by pattern.
func deadLetterPages(letters operate.DeadLetters, logger *slog.Logger) map[string]http.Handler {
	routes := operate.Routes(letters, logger)
	return map[string]http.Handler{"/v1/deadletters": routes, "/v1/deadletters/": routes}
}

func newDeadLetterCommand() *cobra.Command {
	flags := new(operatorFlags)
	command := &cobra.Command{
		Use:   "deadletter",
		Short: "See to queued calls that were given up",
		Long: `See to queued calls that were given up, because all their attempts failed or they
grew too old. Each is kept for 14 days, whole: it can be queued again.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	flags.register(command.PersistentFlags())
	command.AddCommand(
		newDeadLetterListCommand(flags), newDeadLetterShowCommand(flags),
		newDeadLetterActCommand(flags, "redrive", "Queue dead calls again, with all their attempts", "redriven", (*operate.Client).Redrive),
		newDeadLetterActCommand(flags, "drop", "Remove dead letters for good", "dropped", (*operate.Client).Drop),
	)
	return command
}

// operateLetters runs act against the dead letters of the management plane that the
// command's flags, or the environment, name.
func (o *operatorFlags) operateLetters(command *cobra.Command, act func(context.Context, *operate.Client) error) error {
	key, err := o.operator(command, os.Getenv)
	if err != nil {
		return err
	}
	letters, err := operate.NewClient(o.url, key.Text())
	if err != nil {
		return commandline.Usagef("--manage-url: %w", err)
	}
	defer letters.Close()
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	return act(ctx, letters)
}

func newDeadLetterListCommand(flags *operatorFlags) *cobra.Command {
	var tenant string
	command := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, the oldest first",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return flags.operateLetters(command, func(ctx context.Context, letters *operate.Client) error {
				rows := [][]string{{"ID", "TENANT", "FUNCTION", "DIED", "ATTEMPTS", "INPUT", "ERROR"}}
				for after, more := "", true; more; more = after != "" {
					found, next, err := letters.List(ctx, lightcone.TenantID(tenant), after)
					if err != nil {
						return err
					}
					for _, l := range found {
						rows = append(rows, []string{
							l.ID, string(l.Tenant), string(l.Function), l.DiedAt.Format(time.RFC3339), fmt.Sprint(l.Attempts), client.Size(l.InputBytes), l.Error,
						})
					}
					after = next
				}
				return table(command.OutOrStdout(), rows)
			})
		},
	}
	command.Flags().StringVar(&tenant, "tenant", "", "only those of this tenant")
	return command
}

func newDeadLetterShowCommand(flags *operatorFlags) *cobra.Command {
	var input string
	command := &cobra.Command{
		Use:   "show ID",
		Short: "Print a dead letter, as JSON",
		Args:  commandline.Takes("ID"),
		RunE: func(command *cobra.Command, args []string) error {
			id, err := callIDOf(args[0])
			if err != nil {
				return err
			}
			return flags.operateLetters(command, func(ctx context.Context, letters *operate.Client) error {
				letter, err := letters.Show(ctx, id)
				if err != nil {
					return err
				}
				if input != "" {
					content, err := letters.Input(ctx, id)
					if err != nil {
						return err
					}
					if err := os.WriteFile(input, content, 0o600); err != nil {
						return fmt.Errorf("--input: %w", err)
					}
				}
				text, err := json.MarshalIndent(letter, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "%s\n", text)
				return err
			})
		},
	}
	command.Flags().StringVar(&input, "input", "", "also write the call's input to this `file`")
	return command
}

// newDeadLetterActCommand does something to each of several dead letters.
func newDeadLetterActCommand(flags *operatorFlags, verb, short, done string, act func(*operate.Client, context.Context, lightcone.CallID) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ID...",
		Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return commandline.Usagef("the argument ID is missing")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			var ids []lightcone.CallID
			for _, arg := range args {
				id, err := callIDOf(arg)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return flags.operateLetters(command, func(ctx context.Context, letters *operate.Client) error {
				var failed []error
				for _, id := range ids {
					if err := act(letters, ctx, id); err != nil {
						failed = append(failed, fmt.Errorf("%s: %w", id, err))
						continue
					}
					if _, err := fmt.Fprintf(command.OutOrStdout(), "%s %s\n", done, id); err != nil {
						return err
					}
				}
				return errors.Join(failed...)
			})
		},
	}
}

// callIDOf reads an id from the command line.
func callIDOf(text string) (lightcone.CallID, error) {
	id, err := lightcone.ParseCallID(text)
	if err != nil {
		return id, commandline.Usagef("%w", err)
	}
	return id, nil
}
