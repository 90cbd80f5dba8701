package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lightcone"
	"lightcone/identity"
)

// serviceFlags are those of every service that runs as a process of its own.
type serviceFlags struct {
	manage, fleetKeyFile, operatorKeyFile string
	verbose                               bool
}

func (s *serviceFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.manage, "manage", "127.0.0.1:9001", "`address` of the management listener: health, metrics")
	f.StringVar(&s.fleetKeyFile, "fleet-key-file", "", "`file` with the key that gateways and schedulers show to workers; none is asked for without it")
	f.StringVar(&s.operatorKeyFile, "operator-key-file", "", "`file` with the operator's key, for the management listener")
	f.BoolVar(&s.verbose, "verbose", false, "log every process replaced, too")
}

func (s *serviceFlags) logger(command *cobra.Command) *slog.Logger {
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(command.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
}

// keys reads the two keys that services know each other by.
func (s *serviceFlags) keys() (fleet string, operator identity.Key, err error) {
	if s.fleetKeyFile != "" {
		if fleet, err = secretFile(s.fleetKeyFile); err != nil {
			return "", identity.Key{}, fmt.Errorf("--fleet-key-file: %w", err)
		}
	}
	if s.operatorKeyFile == "" {
		return "", identity.Key{}, usagef("--operator-key-file (or %s) is missing: the management listener must know its operator", settingOf("operator-key-file"))
	}
	text, err := secretFile(s.operatorKeyFile)
	if err != nil {
		return "", identity.Key{}, fmt.Errorf("--operator-key-file: %w", err)
	}
	if operator, err = identity.ParseKey([]byte(text)); err != nil {
		return "", identity.Key{}, fmt.Errorf("--operator-key-file %s: %w", s.operatorKeyFile, err)
	}
	return fleet, operator, nil
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// caller is one entry of the callers' file: a key by its digest, never the key.
type caller struct {
	ID        identity.KeyID           `json:"id"`
	SHA256    lightcone.Digest         `json:"sha256"`
	Tenant    lightcone.TenantID       `json:"tenant"`
	Functions []lightcone.FunctionName `json:"functions"` // empty: all
}

func (c caller) record() identity.Record {
	return identity.Record{
		ID: c.ID, Digest: c.SHA256, Tenant: c.Tenant,
		Scopes: identity.Scopes{All: len(c.Functions) == 0, Functions: c.Functions},
	}
}

// callersFile reads who may call. An unknown field is an error: "function" for
// "functions" would let a key call everything.
func callersFile(name string) (*identity.Keyring, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--callers-file: %w", err)
	}
	var callers []caller
	if err := decodeStrictly(string(text), &callers); err != nil {
		return nil, fmt.Errorf("--callers-file %s: %w; want a JSON list of {id, sha256, tenant, functions}", name, err)
	}
	records := make([]identity.Record, 0, len(callers))
	for _, c := range callers {
		records = append(records, c.record())
	}
	return identity.NewKeyring(records)
}
