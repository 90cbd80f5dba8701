package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"lightcone/consul"
	"lightcone/gateway/quarantine"
	"lightcone/identity/edge"
	"lightcone/identity/management"
	"lightcone/internal/run"
)

// identityFlags are the flags of `lightcone identity`.
type identityFlags struct {
	manage, operatorKeyFile string
	verbose                 bool
	redis                   redisFlags
	callbackKeyFile         string
}

func newIdentityCommand(flags *identityFlags) *cobra.Command {
	command := serviceCommand("identity", "Manage tenants, keys and quotas in Consul",
		`Manage tenants, keys and quotas: the management plane, which writes to Consul, and
tells Redis what has changed. Nomad starts it (jobs/identity.nomad.hcl). Several
may run: what two of them write at once, Consul decides. Gateways do not need it
for calls.`,
		func(command *cobra.Command) error { return manageIdentity(command, *flags) })
	f := command.Flags()
	f.StringVar(&flags.manage, "manage", "127.0.0.1:9001", "`address` of the management listener: tenants, keys, audit trail, quarantine, health, metrics")
	f.StringVar(&flags.operatorKeyFile, "operator-key-file", "", "`file` with the operator's key")
	f.BoolVar(&flags.verbose, "verbose", false, "log more")
	flags.redis.register(f, keysFromConsul)
	f.StringVar(&flags.callbackKeyFile, "callback-key-file", "", callbackKeyUsage+"; tenants' secrets come of it")
	return command
}

func manageIdentity(command *cobra.Command, flags identityFlags) error {
	service := serviceFlags{manage: flags.manage, operatorKeyFile: flags.operatorKeyFile, verbose: flags.verbose}
	logger := service.logger(command)
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	_, operator, err := service.keys()
	if err != nil {
		return err
	}
	signing, err := callbackKeys(flags.callbackKeyFile)
	if err != nil {
		return err
	}
	catalogue, err := consul.Connect(consul.Config{Logger: logger})
	if err != nil {
		return err
	}
	defer catalogue.Close()
	store := consul.NewDocuments(catalogue, identityPrefix, false)
	config := management.Config{Store: store, Logger: logger.With("component", "management"), CallbackSecret: callbackSecret(signing)}
	registry := newRegistry()

	group := run.New(logger)
	redis, stopRedis, err := flags.redis.connect(catalogue, logger)
	if err != nil {
		return err
	}
	if redis != nil {
		_ = group.Start(ctx, "redis", func(context.Context) (run.Stop, error) { return stopRedis, nil })
		config.Announce = edge.NewAnnouncer(redis)
	}
	manager, err := management.New(config)
	if err != nil {
		return errors.Join(err, group.Stop())
	}
	book, err := quarantine.New(quarantine.DefaultConfig(), consul.NewDocuments(catalogue, quarantinePrefix, false), registry, logger.With("component", "quarantine"))
	if err != nil {
		return errors.Join(err, group.Stop())
	}
	_ = group.Start(ctx, "quarantine", func(context.Context) (run.Stop, error) { return inBackground(book.Run), nil })
	_ = group.Start(ctx, "management", func(context.Context) (run.Stop, error) {
		return serveManagement(group, flags.manage, managementListener{
			operator: operator, metrics: registry,
			// Also while Consul is away: who asks is told so.
			ready: func() (any, error) { return nil, nil },
			api:   managed(manager, book, nil),
		})
	})
	return group.Wait(ctx)
}
