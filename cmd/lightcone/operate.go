package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lightcone/cmd/internal/commandline"
	"lightcone/identity"
	"lightcone/identity/management"
	"lightcone/internal/run"
)

// operatorFlags say where the management plane is and who asks it.
type operatorFlags struct {
	url, keyFile string
}

const (
	defaultManageURL       = "http://127.0.0.1:8081" // of `lightcone dev`
	defaultOperatorKeyFile = "lightcone-data/operator.key"
)

func (o *operatorFlags) register(f *pflag.FlagSet) {
	f.StringVar(&o.url, "manage-url", defaultManageURL, "where the management listener answers; also $LIGHTCONE_MANAGE_URL")
	f.StringVar(&o.keyFile, "operator-key-file", defaultOperatorKeyFile, "`file` with the operator's key; also $LIGHTCONE_OPERATOR_KEY_FILE")
}

// operate runs act against the management plane that the command's flags, or the
// environment, name.
func (o *operatorFlags) operate(command *cobra.Command, getenv func(string) string, act func(context.Context, *management.Client) error) error {
	key, err := o.operator(command, getenv)
	if err != nil {
		return err
	}
	client, err := management.NewClient(o.url, key)
	if err != nil {
		return commandline.Usagef("--manage-url: %w", err)
	}
	defer client.Close()
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	return act(ctx, client)
}

// operator completes the flags from the environment, and reads the operator's key.
func (o *operatorFlags) operator(command *cobra.Command, getenv func(string) string) (identity.Key, error) {
	for _, name := range []string{"manage-url", "operator-key-file"} {
		if flag := command.Flags().Lookup(name); !flag.Changed && getenv(settingOf(name)) != "" {
			if err := command.Flags().Set(name, getenv(settingOf(name))); err != nil {
				return identity.Key{}, commandline.Usagef("the environment variable %s: %w", settingOf(name), err)
			}
		}
	}
	text, err := secretFile(o.keyFile)
	if err != nil {
		return identity.Key{}, fmt.Errorf("--operator-key-file: %w", err)
	}
	key, err := identity.ParseKey([]byte(text))
	if err != nil {
		return identity.Key{}, fmt.Errorf("--operator-key-file %s: %w", o.keyFile, err)
	}
	return key, nil
}

// table prints rows in columns.
func table(w io.Writer, rows [][]string) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(columns, "\t")
			}
			fmt.Fprint(columns, cell)
		}
		fmt.Fprintln(columns)
	}
	return columns.Flush()
}
