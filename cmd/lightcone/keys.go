package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lightcone"
)

// regionKeys is the Nomad variable from which the services of a region take their
// keys, as `nomad var put -in=json` reads it.
type regionKeys struct {
	Path  string
	Items struct {
		Callers     string `json:"callers"`      // JSON: see caller
		FleetKey    string `json:"fleet_key"`    // gateways and schedulers show it to workers
		OperatorKey string `json:"operator_key"` // the management listeners' key
	}
}

func newKeysCommand() *cobra.Command {
	var folder, tenant string
	command := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys of a region",
		Long: `Make the keys of a region, once: demo.key for calls, operator.key for the
management listeners, fleet.key between services, and keys.json, the Nomad
variable from which the services take them:

  nomad var put -in=json @keys.json

Keys that are there already are kept; keys.json is made of them anew.`,
		Args: takes(),
		RunE: func(command *cobra.Command, _ []string) error { return makeKeys(folder, lightcone.TenantID(tenant)) },
	}
	f := command.Flags()
	f.StringVar(&folder, "out", "lightcone-keys", "`folder` for the files")
	f.StringVar(&tenant, "tenant", "demo", "the tenant whose key demo.key is")
	return command
}

func makeKeys(folder string, tenant lightcone.TenantID) error {
	if err := tenant.Validate(); err != nil {
		return usagef("--tenant: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the keys' folder: %w", err)
	}
	demo, err := keyFile(filepath.Join(folder, "demo.key"))
	if err != nil {
		return err
	}
	operator, err := keyFile(filepath.Join(folder, "operator.key"))
	if err != nil {
		return err
	}
	fleet, err := fleetKeyFile(filepath.Join(folder, "fleet.key"))
	if err != nil {
		return err
	}
	callers, err := json.Marshal([]caller{{ID: demo.ID(), SHA256: demo.Digest(), Tenant: tenant}})
	if err != nil {
		return err
	}
	variable := regionKeys{Path: "nomad/jobs"}
	variable.Items.Callers = string(callers)
	variable.Items.FleetKey, variable.Items.OperatorKey = fleet, operator.Text()
	document, err := json.MarshalIndent(variable, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(filepath.Join(folder, "keys.json"), string(document)+"\n")
}

// fleetKeyFile reads the fleet's key, or makes one where there is none.
func fleetKeyFile(name string) (string, error) {
	if key, err := secretFile(name); !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	key := base64.RawURLEncoding.EncodeToString(random[:])
	return key, writeSecret(name, key+"\n")
}
