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
)

// regionKeys is the Nomad variable from which the services of a region take their
// keys, as `nomad var put -in=json` reads it.
type regionKeys struct {
	Path  string
	Items struct {
		FleetKey    string `json:"fleet_key"`                  // gateways and schedulers show it to workers
		OperatorKey string `json:"operator_key"`               // the management listeners' key
		Redis       string `json:"redis_password"`             // gateways and the management plane show it to Redis
		Replication string `json:"redis_replication_password"` // Redis servers and Sentinels show it to each other
		Sentinel    string `json:"sentinel_password"`          // whoever asks a Sentinel which Redis is master
	}
}

func newKeysCommand() *cobra.Command {
	var folder string
	command := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys that a region's own parts use",
		Long: `Make the keys that the parts of a region know each other by, once: operator.key for
the management listeners, fleet.key between services, three passwords of Redis and
its Sentinels, and keys.json, the Nomad variable from which the services take them:

  nomad var put -in=json @keys.json

Keys that are there already are kept; keys.json is made of them anew. The keys of
tenants are made in the region itself, by "lightcone key create".`,
		Args: takes(),
		RunE: func(command *cobra.Command, _ []string) error { return makeKeys(folder) },
	}
	f := command.Flags()
	f.StringVar(&folder, "out", "lightcone-keys", "`folder` for the files")
	return command
}

func makeKeys(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the keys' folder: %w", err)
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
	variable.Items.OperatorKey = operator.Text()
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
