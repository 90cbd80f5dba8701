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
		Callers     string `json:"callers"`                    // JSON: see caller
		FleetKey    string `json:"fleet_key"`                  // gateways and schedulers show it to workers
		OperatorKey string `json:"operator_key"`               // the management listeners' key
		Redis       string `json:"redis_password"`             // gateways and the management plane show it to Redis
		Replication string `json:"redis_replication_password"` // Redis servers and Sentinels show it to each other
		Sentinel    string `json:"sentinel_password"`          // whoever asks a Sentinel which Redis is master
	}
}

func newKeysCommand() *cobra.Command {
	var folder, tenant string
	command := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys of a region",
		Long: `Make the keys of a region, once: demo.key for calls, operator.key for the
management listeners, fleet.key between services, three passwords of Redis and its
Sentinels, and keys.json, the Nomad variable from which the services take them:

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
	variable := regionKeys{Path: "nomad/jobs"}
	for name, secret := range map[string]*string{
		"fleet.key":                  &variable.Items.FleetKey,
		"redis.password":             &variable.Items.Redis,
		"redis-replication.password": &variable.Items.Replication,
		"sentinel.password":          &variable.Items.Sentinel,
	} {
		if *secret, err = sharedSecretFile(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	callers, err := json.Marshal([]caller{{ID: demo.ID(), SHA256: demo.Digest(), Tenant: tenant}})
	if err != nil {
		return err
	}
	variable.Items.Callers, variable.Items.OperatorKey = string(callers), operator.Text()
	document, err := json.MarshalIndent(variable, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(filepath.Join(folder, "keys.json"), string(document)+"\n")
}

// sharedSecretFile reads a secret that services share, or makes one where there is
// none: letters, digits, dashes and underscores, which need no quotes anywhere.
func sharedSecretFile(name string) (string, error) {
	if key, err := secretFile(name); !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	key := base64.RawURLEncoding.EncodeToString(random[:])
	return key, writeSecret(name, key+"\n")
}
