package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lightcone/client"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
)

// callerFlags say where Lightcone is and with which key it is called.
type callerFlags struct{ api, key, keyFile string }

func (c *callerFlags) register(set *pflag.FlagSet) {
	set.StringVar(&c.api, "api", "http://127.0.0.1:8080", "where Lightcone answers")
	set.StringVar(&c.key, "key", "", "the API key (other users of this machine can see it: prefer a file)")
	set.StringVar(&c.keyFile, "key-file", "", "a file with the API key in its first line")
}

func newInvocationCommand() *cobra.Command {
	flags := new(callerFlags)
	command := &cobra.Command{
		Use:   "invocation",
		Short: "Watch, fetch and cancel queued calls",
		Long: `Watch, fetch and cancel queued calls, by the ids that ` + "`lightcone call --async`" + `
and X-Call-Id tell. Any key of the tenant whose calls they are will do.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	flags.register(command.PersistentFlags())
	command.AddCommand(
		newInvocationStateCommand(flags, "show", "Print how a queued call is, as JSON", (*client.Client).Invocation),
		newInvocationStateCommand(flags, "cancel", "Take a queued call back, if it has not ended, and print how it is then", (*client.Client).Cancel),
		newInvocationResultCommand(flags),
	)
	return command
}

// with runs act with a client that the flags name.
func (c *callerFlags) with(command *cobra.Command, act func(context.Context, *client.Client) error) error {
	key, err := findKey(*c, os.Getenv(envKey), os.ReadFile)
	if err != nil {
		return err
	}
	policy := client.DefaultPolicy
	policy.Attempts = singleAttempts
	caller, err := client.New(client.Options{API: c.api, Key: key, Policy: policy})
	if err != nil {
		return commandline.Usagef("--api: %w", err)
	}
	defer caller.Close()
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	return act(ctx, caller)
}

func newInvocationStateCommand(flags *callerFlags, verb, short string, ask func(*client.Client, context.Context, string) (client.Invocation, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Args:  commandline.Takes("ID"),
		RunE: func(command *cobra.Command, args []string) error {
			id, err := callIDOf(args[0])
			if err != nil {
				return err
			}
			return flags.with(command, func(ctx context.Context, caller *client.Client) error {
				invocation, err := ask(caller, ctx, id.String())
				if err != nil {
					return err
				}
				text, err := json.MarshalIndent(invocation, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "%s\n", text)
				return err
			})
		},
	}
}

func newInvocationResultCommand(flags *callerFlags) *cobra.Command {
	var out string
	var wait bool
	command := &cobra.Command{
		Use:     "result ID",
		Short:   "Fetch what came of a queued call",
		Example: "  lightcone invocation result 01M854NZSJK9NAECQBKF3HM523 --wait --out small.jpg",
		Args:    commandline.Takes("ID"),
		RunE: func(command *cobra.Command, args []string) error {
			id, err := callIDOf(args[0])
			if err != nil {
				return err
			}
			return flags.with(command, func(ctx context.Context, caller *client.Client) error {
				keep, flush, err := outputOf(command, callFlags{in: id.String(), out: out})
				if err != nil {
					return err
				}
				fetch := caller.Result
				if wait {
					fetch = caller.Outcome
				}
				answer, err := fetch(ctx, id.String(), keep)
				if err != nil {
					return err
				}
				if err := flush(); err != nil {
					return err
				}
				answer.Took, answer.Attempts = 0, 0 // the fetching's, and not the call's
				_, err = fmt.Fprintln(command.ErrOrStderr(), callLine(answer))
				return err
			})
		},
	}
	command.Flags().StringVarP(&out, "out", "o", "-", "the output: a file, a folder, or - for standard output")
	command.Flags().BoolVar(&wait, "wait", false, "wait until the call has ended")
	return command
}
