package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/identity"
	"lightcone/identity/management"
)

func newKeyCommand() *cobra.Command {
	flags := new(operatorFlags)
	command := &cobra.Command{
		Use:   "key",
		Short: "Issue, list and revoke the keys of customers",
		Args:  commandline.Takes(),
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	flags.register(command.PersistentFlags())
	command.AddCommand(newKeyCreateCommand(flags), newKeyListCommand(flags), newKeyRevokeCommand(flags))
	return command
}

func newKeyCreateCommand(flags *operatorFlags) *cobra.Command {
	var scopes []string
	var expires time.Duration
	command := &cobra.Command{
		Use:   "create TENANT",
		Short: "Issue a key; it is printed now and never again",
		Long: `Issue a key to a tenant. The key is printed on standard output, and nowhere else
and never again: Lightcone keeps a digest of it.`,
		Example: `  lightcone key create acme --scope resize > acme.key
  lightcone key create acme --scope '*' --expires 720h`,
		Args: commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			scope, err := parseScopes(scopes)
			if err != nil {
				return err
			}
			if expires < 0 {
				return commandline.Usagef("--expires %v: want more than 0", expires)
			}
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				var at time.Time
				if expires > 0 {
					at = time.Now().Add(expires)
				}
				key, record, err := client.IssueKey(ctx, lightcone.TenantID(args[0]), scope, at)
				if err != nil {
					return err
				}
				fmt.Fprintf(command.ErrOrStderr(), "issued key %s\n", record.ID)
				_, err = fmt.Fprintln(command.OutOrStdout(), key.Text())
				return err
			})
		},
	}
	f := command.Flags()
	f.StringSliceVar(&scopes, "scope", nil, "the functions that it may call, separated by commas; * is all, those of tomorrow included")
	f.DurationVar(&expires, "expires", 0, "how long it can be used, such as 720h (default: until it is revoked)")
	return command
}

// parseScopes reads --scope.
func parseScopes(words []string) (identity.Scopes, error) {
	if len(words) == 0 {
		return identity.Scopes{}, commandline.Usagef("--scope is missing: name the functions that the key may call, or '*' for all")
	}
	var scopes identity.Scopes
	for _, word := range words {
		if word == "*" {
			scopes.All = true
			continue
		}
		function := lightcone.FunctionName(word)
		if err := function.Validate(); err != nil {
			return identity.Scopes{}, commandline.Usagef("--scope: %w", err)
		}
		scopes.Functions = append(scopes.Functions, function)
	}
	if scopes.All && len(scopes.Functions) > 0 {
		return identity.Scopes{}, commandline.Usagef("--scope: * is all functions, and also some are named: choose one")
	}
	return scopes, nil
}

func newKeyListCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list TENANT",
		Short: "List a tenant's keys",
		Args:  commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				rows := [][]string{{"KEY", "STATE", "FUNCTIONS", "MADE", "EXPIRES"}}
				now := time.Now()
				for next, more := identity.KeyID(""), true; more; more = next != "" {
					var page []management.KeyDocument
					var err error
					if page, next, err = client.Keys(ctx, lightcone.TenantID(args[0]), next, management.MostPerPage); err != nil {
						return err
					}
					for _, key := range page {
						rows = append(rows, []string{string(key.ID), keyState(key, now), functionsText(key.Scopes), timeText(key.Created), expiryText(key.Expires)})
					}
				}
				return table(command.OutOrStdout(), rows)
			})
		},
	}
}

func keyState(key management.KeyDocument, now time.Time) string {
	switch {
	case key.Revoked:
		return "revoked"
	case key.Expires != nil && !now.Before(*key.Expires):
		return "expired"
	default:
		return "valid"
	}
}

func functionsText(scopes identity.Scopes) string {
	if scopes.All {
		return "*"
	}
	var names []string
	for _, function := range scopes.Functions {
		names = append(names, string(function))
	}
	return strings.Join(names, ",")
}

func timeText(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func expiryText(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return timeText(*at)
}

func newKeyRevokeCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke KEY-ID",
		Short: "Revoke a key, for good",
		Long: `Revoke a key, for good. Gateways refuse it within a second or two, as long as they
hear of it through Redis or Consul.`,
		Args: commandline.Takes("KEY-ID"),
		RunE: func(command *cobra.Command, args []string) error {
			id := identity.KeyID(args[0])
			if id.Validate() != nil { // and not repeated: it may be a whole key
				return commandline.Usagef("that is no key's id: give the 16 characters between the underscores of a key, or what `lightcone key list` shows")
			}
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				if err := client.RevokeKey(ctx, id); err != nil {
					return err
				}
				_, err := fmt.Fprintf(command.OutOrStdout(), "revoked key %s\n", id)
				return err
			})
		},
	}
}
