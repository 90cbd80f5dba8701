package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	var err error
	known := make(map[string]*pflag.Flag)
	command.Flags().VisitAll(func(flag *pflag.Flag) { known[settingOf(flag.Name)] = flag })
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, settingPrefix) || slices.Contains(foreignSettings, name) {
			continue
		}
		flag, ours := known[name]
		if !ours {
			return usagef("the environment variable %s is not a setting of `%s`; its flags are, in capitals: %s", name, command.CommandPath(), strings.Join(settingsOf(command), ", "))
		}
		if flag.Changed {
			continue
		}
		if err = command.Flags().Set(flag.Name, value); err != nil {
			return usagef("the environment variable %s: %w", name, err)
		}
	}
	return nil
}

// foreignSettings have the prefix and are not a service's.
var foreignSettings = []string{"LIGHTCONE_KEY", "LIGHTCONE_SOCKET"}

func settingsOf(command *cobra.Command) []string {
	var names []string
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "help" {
			names = append(names, settingOf(flag.Name))
		}
	})
	return names
}

// serviceCommand makes a command whose flags the environment may set, too.
func serviceCommand(use, short, long string, run func(*cobra.Command) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Long: long + "\n\nEach flag may be given as an environment variable instead: --max-wait as LIGHTCONE_MAX_WAIT.",
		Args: takes(),
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
			return usagef("--%s (or %s) is missing", name, settingOf(name))
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
