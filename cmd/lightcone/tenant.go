package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/identity"
	"lightcone/identity/management"
)

func newTenantCommand() *cobra.Command {
	flags := new(operatorFlags)
	command := &cobra.Command{
		Use:   "tenant",
		Short: "Make, limit and disable customers",
		Args:  commandline.Takes(),
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	flags.register(command.PersistentFlags())
	command.AddCommand(
		newTenantCreateCommand(flags), newTenantListCommand(flags), newTenantShowCommand(flags),
		newTenantStateCommand(flags, "disable", "Refuse all of a tenant's keys from now on", true),
		newTenantStateCommand(flags, "enable", "Let a disabled tenant's keys be used again", false),
		newTenantQuotaCommand(flags), newTenantCallbackSecretCommand(flags),
	)
	return command
}

func newTenantCreateCommand(flags *operatorFlags) *cobra.Command {
	var name string
	command := &cobra.Command{
		Use:     "create TENANT",
		Short:   "Make a tenant, without limits and without keys",
		Example: `  lightcone tenant create acme --name "Acme Ltd"`,
		Args:    commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				tenant, err := client.CreateTenant(ctx, lightcone.TenantID(args[0]), name)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "made tenant %s\n", tenant.ID)
				return err
			})
		},
	}
	command.Flags().StringVar(&name, "name", "", "its name, for people")
	return command
}

func newTenantListCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tenants",
		Args:  commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				rows := [][]string{{"TENANT", "STATE", "LIMITS", "NAME"}}
				for next, more := lightcone.TenantID(""), true; more; more = next != "" {
					var page []identity.Tenant
					var err error
					if page, next, err = client.Tenants(ctx, next, management.MostPerPage); err != nil {
						return err
					}
					for _, tenant := range page {
						rows = append(rows, []string{string(tenant.ID), stateOf(tenant.Disabled), limitsText(tenant.Quota), tenant.Name})
					}
				}
				return table(command.OutOrStdout(), rows)
			})
		},
	}
}

func stateOf(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}

// limitsText is a quota in a line: what limits nothing is left out.
func limitsText(q lightcone.Quota) string {
	var words []string
	if q.CallsPerSecond >= 0 {
		rate := fmt.Sprintf("%v calls/s", q.CallsPerSecond)
		if q.Burst >= 0 {
			rate += fmt.Sprintf(" (burst %d)", q.Burst)
		}
		words = append(words, rate)
	}
	if q.ConcurrentCalls >= 0 {
		words = append(words, fmt.Sprintf("%d at once", q.ConcurrentCalls))
	}
	if q.CPUPerMonth >= 0 {
		words = append(words, fmt.Sprintf("%v CPU s/month", q.CPUPerMonth.Seconds()))
	}
	if q.BytesPerMonth >= 0 {
		words = append(words, fmt.Sprintf("%d bytes/month", q.BytesPerMonth))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func newTenantShowCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show TENANT",
		Short: "Print a tenant's document, as JSON",
		Args:  commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				tenant, _, err := client.Tenant(ctx, lightcone.TenantID(args[0]))
				if err != nil {
					return err
				}
				text, err := json.MarshalIndent(tenant, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "%s\n", text)
				return err
			})
		},
	}
}

func newTenantStateCommand(flags *operatorFlags, verb, short string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " TENANT",
		Short: short,
		Args:  commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				if err := client.EditTenant(ctx, lightcone.TenantID(args[0]), management.Edit{Disabled: &disabled}, 0); err != nil {
					return err
				}
				_, err := fmt.Fprintf(command.OutOrStdout(), "tenant %s is %s\n", args[0], stateOf(disabled))
				return err
			})
		},
	}
}

// quotaFlags are the limits by their flags: the names that documents give them.
var quotaFlags = []struct {
	flag, usage string
	set         func(d *identity.QuotaDocument, text string) error
}{
	{"calls-per-second", "sustained rate", func(d *identity.QuotaDocument, text string) error { return limit(&d.CallsPerSecond, text) }},
	{"burst", "calls that may come at once (as many as in a second, unless given)", func(d *identity.QuotaDocument, text string) error { return limit(&d.Burst, text) }},
	{"concurrent-calls", "calls in progress", func(d *identity.QuotaDocument, text string) error { return limit(&d.ConcurrentCalls, text) }},
	{"cpu-seconds-per-month", "CPU time of functions", func(d *identity.QuotaDocument, text string) error { return limit(&d.CPUSecondsPerMonth, text) }},
	{"bytes-per-month", "bytes in and out", func(d *identity.QuotaDocument, text string) error { return limit(&d.BytesPerMonth, text) }},
}

// limit reads a flag's number as a document has it, so that both take the same.
func limit[N any](field **N, text string) error {
	*field = nil
	if text == noLimitWord {
		return nil
	}
	return json.Unmarshal([]byte(text), field)
}

const noLimitWord = "none"

func newTenantQuotaCommand(flags *operatorFlags) *cobra.Command {
	command := &cobra.Command{
		Use:   "quota TENANT",
		Short: "Limit what a tenant may use",
		Long: `Limit what a tenant may use. Each limit is a number, and 0 allows nothing; "none"
takes a limit away. Limits that are not named stay as they are. Should somebody
else change the tenant at the same time, nothing is changed and you are told.`,
		Example: `  lightcone tenant quota acme --calls-per-second 20 --burst 50
  lightcone tenant quota acme --cpu-seconds-per-month 3600 --calls-per-second none`,
		Args: commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				tenant, version, err := client.Tenant(ctx, lightcone.TenantID(args[0]))
				if err != nil {
					return err
				}
				limits := identity.DocumentOf(tenant.Quota)
				if err := changeQuota(command, &limits); err != nil {
					return err
				}
				quota, err := limits.Quota()
				if err != nil {
					return commandline.Usagef("%w", err)
				}
				if err := client.EditTenant(ctx, tenant.ID, management.Edit{Quota: &quota}, version); err != nil {
					return err
				}
				_, err = fmt.Fprintf(command.OutOrStdout(), "tenant %s: limits: %s\n", tenant.ID, limitsText(quota))
				return err
			})
		},
	}
	for _, limit := range quotaFlags {
		command.Flags().String(limit.flag, "", limit.usage+": a `number`, or "+noLimitWord)
	}
	return command
}

// changeQuota sets the limits that the command's flags name.
func changeQuota(command *cobra.Command, quota *identity.QuotaDocument) error {
	named := false
	for _, limit := range quotaFlags {
		flag := command.Flags().Lookup(limit.flag)
		if !flag.Changed {
			continue
		}
		named = true
		if text := flag.Value.String(); text == "null" || limit.set(quota, text) != nil {
			return commandline.Usagef("--%s %s: want a number (whole, unless it is a rate or seconds), or %s", limit.flag, text, noLimitWord)
		}
	}
	if !named {
		return commandline.Usagef("no limit is named: give at least one, such as --%s 20", quotaFlags[0].flag)
	}
	return nil
}

func newTenantCallbackSecretCommand(flags *operatorFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "callback-secret TENANT",
		Short: "Print what a tenant verifies its callbacks with",
		Long: `Print what a tenant verifies the signatures of its callbacks with, as libraries for
Standard Webhooks take it. It is derived from the region's key and the tenant's id, so it is
the same each time; whoever has it can forge the tenant's callbacks.`,
		Args: commandline.Takes("TENANT"),
		RunE: func(command *cobra.Command, args []string) error {
			return flags.operate(command, os.Getenv, func(ctx context.Context, client *management.Client) error {
				secret, err := client.CallbackSecret(ctx, lightcone.TenantID(args[0]))
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(command.OutOrStdout(), secret)
				return err
			})
		},
	}
}
