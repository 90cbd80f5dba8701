package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lightcone/cmd/internal/commandline"
)

// settingPrefix begins the environment variables that stand for flags.
const settingPrefix = "LIGHTCONE_"

// settingOf is the environment variable that stands for a flag.
func settingOf(flag string) string {
	return settingPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// heedEnvironment lets every flag of a service's command be given as an
// environment variable, which is how a job specification configures it; a flag on
// the command line goes first. A variable with the prefix that no flag knows is
// an error: a setting that is misspelt must not pass for its default.
func heedEnvironment(command *cobra.Command, environment []string) error {
	known := settingsOf(command)
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, settingPrefix) || slices.Contains(foreignSettings, name) {
			continue
		}
		flag, ours := known[name]
		if !ours {
			return commandline.Usagef("the environment variable %s is not a setting of `%s`; want one of %s", name, command.CommandPath(), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if flag.Changed {
			continue
		}
		if err := command.Flags().Set(flag.Name, value); err != nil {
			return commandline.Usagef("the environment variable %s: %w", name, err)
		}
	}
	return nil
}

// foreignSettings have the prefix and are not a service's.
var foreignSettings = []string{"LIGHTCONE_KEY", "LIGHTCONE_MANAGE_URL", "LIGHTCONE_SOCKET"}

// settingsOf are a command's flags by their environment variables.
func settingsOf(command *cobra.Command) map[string]*pflag.Flag {
	settings := make(map[string]*pflag.Flag)
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "help" {
			settings[settingOf(flag.Name)] = flag
		}
	})
	return settings
}

// serviceCommand makes a command whose flags the environment may set, too.
func serviceCommand(use, short, long string, run func(*cobra.Command) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Long: long + "\n\nEach flag may be given as an environment variable instead: --max-wait as LIGHTCONE_MAX_WAIT.",
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := heedEnvironment(command, os.Environ()); err != nil {
				return err
			}
			return run(command)
		},
	}
}

// required names the first of the flags that was not given.
func required(command *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if command.Flags().Lookup(name).Value.String() == "" {
			return commandline.Usagef("--%s (or %s) is missing", name, settingOf(name))
		}
	}
	return nil
}

// secretFile reads a one-line secret, such as a key.
func secretFile(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", fmt.Errorf("the file %s is empty, and should hold a secret", name)
	}
	return secret, nil
}
