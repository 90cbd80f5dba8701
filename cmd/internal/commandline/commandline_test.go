package commandline_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"lightcone/cmd/internal/commandline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExitCodesAndWhatIsSaid(t *testing.T) {
	for _, test := range []struct {
		args   string
		code   int
		stdout string
		stderr string // all of it
	}{
		{"", commandline.OK, "Sells things", ""},
		{"sell cake", commandline.OK, "sold cake", ""},
		{"buy", commandline.NotUnderstood, "", "shop: there is no command \"buy\"\nRun `shop --help` for what it takes.\n"},
		{"sell", commandline.NotUnderstood, "", "shop: the argument THING is missing\nRun `shop sell --help` for what it takes.\n"},
		{"sell cake tea", commandline.NotUnderstood, "", "shop: the argument \"tea\" is one too many\nRun `shop sell --help` for what it takes.\n"},
		{"sell cake --fast", commandline.NotUnderstood, "", "shop: unknown flag: --fast\nRun `shop sell --help` for what it takes.\n"},
		{"sell stars", commandline.NotUnderstood, "", "shop: for stars: not for sale\nRun `shop sell --help` for what it takes.\n"},
		{"sell bread", commandline.Failed, "", "shop: sold out\n"},
	} {
		root := commandline.NewRoot("shop", "Sells things")
		root.AddCommand(&cobra.Command{
			Use: "sell THING", Args: commandline.Takes("THING"),
			RunE: func(command *cobra.Command, args []string) error {
				switch args[0] {
				case "stars":
					return fmt.Errorf("for stars: %w", commandline.Usagef("not for sale"))
				case "bread":
					return errors.New("sold out")
				}
				_, err := fmt.Fprintln(command.OutOrStdout(), "sold", args[0])
				return err
			},
		})
		var stdout, stderr bytes.Buffer
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		code := commandline.Execute(root, strings.Fields(test.args))
		if code != test.code || !strings.Contains(stdout.String(), test.stdout) || stderr.String() != test.stderr {
			t.Errorf("shop %s: exit code %d, want %d; said %q and %q, want %q", test.args, code, test.code, stdout.String(), stderr.String(), test.stderr)
		}
	}
}
