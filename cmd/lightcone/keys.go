package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/queue"
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
		Queue       string `json:"queue_password"`             // gateways and workers show it to the queue's nodes
		QueueRoute  string `json:"queue_route_password"`       // these show it to each other
		QueueCA     string `json:"queue_ca"`                   // PEM: who signs the nodes' certificates
		QueueNode   string `json:"queue_certificate"`          // PEM: the nodes' own
		QueueKey    string `json:"queue_key"`                  // PEM: its key
		Callback    string `json:"callback_key"`               // signs callbacks; a second line is the key before it
	}
}

func newKeysCommand() *cobra.Command {
	var folder string
	command := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys that a region's own parts use",
		Long: `Make the keys that the parts of a region know each other by, once: operator.key for
the management listeners, fleet.key between services, three passwords of Redis and
its Sentinels, two of the queue, its certificate authority (queue-ca.pem; the key
beside it signs others, and goes nowhere) and its nodes' certificate, callback.key,
which callbacks are signed with, and keys.json, the Nomad variable from which the
services take them:

  nomad var put -in=json @keys.json

Keys that are there already are kept; keys.json is made of them anew. The keys of
tenants are made in the region itself, by "lightcone key create".`,
		Args: commandline.Takes(),
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
		"queue.password":             &variable.Items.Queue,
		"queue-route.password":       &variable.Items.QueueRoute,
		"callback.key":               &variable.Items.Callback,
	} {
		if *secret, err = sharedSecretFile(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	if err := queueCertificates(folder, &variable); err != nil {
		return err
	}
	variable.Items.OperatorKey = operator.Text()
	document, err := json.MarshalIndent(variable, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(filepath.Join(folder, "keys.json"), string(document)+"\n")
}

// queueCertificates reads the authority of the queue's nodes and their certificate, or
// makes what is missing.
func queueCertificates(folder string, variable *regionKeys) error {
	file := func(name string) string { return filepath.Join(folder, name) }
	authority, authorityKey, err := pairOfFiles(file("queue-ca.pem"), file("queue-ca.key"), func() ([]byte, []byte, error) {
		return queue.NewAuthority(time.Now())
	})
	if err != nil {
		return err
	}
	certificate, key, err := pairOfFiles(file("queue.pem"), file("queue.key"), func() ([]byte, []byte, error) {
		return queue.NewCertificate(time.Now(), []byte(authority), []byte(authorityKey))
	})
	if err != nil {
		return err
	}
	variable.Items.QueueCA, variable.Items.QueueNode, variable.Items.QueueKey = authority, certificate, key
	return nil
}

// pairOfFiles reads a certificate and its key, or makes both where the certificate is
// missing.
func pairOfFiles(certificateFile, keyFile string, issue func() ([]byte, []byte, error)) (certificate, key string, err error) {
	if certificate, err = secretFile(certificateFile); err == nil {
		key, err = secretFile(keyFile)
	}
	if err == nil {
		if _, err := tls.X509KeyPair([]byte(certificate), []byte(key)); err != nil {
			return "", "", fmt.Errorf("%s and %s: %w", certificateFile, keyFile, err)
		}
		return certificate + "\n", key + "\n", nil
	}
	if !errors.Is(err, os.ErrNotExist) || certificate != "" {
		return "", "", err
	}
	made, madeKey, err := issue()
	if err != nil {
		return "", "", err
	}
	return string(made), string(madeKey), errors.Join(writeSecret(keyFile, string(madeKey)), writeSecret(certificateFile, string(made)))
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
