package main

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lightcone/cmd/internal/commandline"
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
		return "", identity.Key{}, commandline.Usagef("--operator-key-file (or %s) is missing: the management listener must know its operator", settingOf("operator-key-file"))
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
