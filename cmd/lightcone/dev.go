package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	supervisor "lightcone/functions/runtime"
	"lightcone/gateway"
	"lightcone/identity/management"
	"lightcone/internal/document"
	"lightcone/internal/document/embedded"
	"lightcone/internal/run"
)

// devFlags are the flags of `lightcone dev`.
type devFlags struct {
	data, api, manage, sample string
	slots                     int
	verbose                   bool
	own, ownOnPort            []string
	callbacks                 callbackFlags
	usageBucket               string
}

func newDevCommand() *cobra.Command {
	var flags devFlags
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine, in one process tree",
		Long: `Run everything on this machine: the front door, the supervisor and the functions
resize and echo, and a queue that keeps its calls in the data folder. The first
start writes keys there: demo.key, for calls, operator.key, for the management
listener, and callback.key, which callbacks are signed with. Ctrl-C stops it and
drops no call.`,
		Args: commandline.Takes(),
		RunE: func(command *cobra.Command, _ []string) error { return dev(command, flags) },
	}
	f := command.Flags()
	f.StringVar(&flags.data, "data", "lightcone-data", "`folder` for keys and everything else that is kept")
	f.StringVar(&flags.api, "api", "127.0.0.1:8080", "`address` of the front door")
	f.StringVar(&flags.manage, "manage", "127.0.0.1:8081", "`address` of the management listener")
	f.StringVar(&flags.sample, "sample", "", "photograph to resize once everything is up, as a demonstration")
	f.IntVar(&flags.slots, "slots", runtime.GOMAXPROCS(0), "calls that each function runs at once; one a core is best")
	f.StringArrayVar(&flags.own, "function", nil, "also run `NAME=PATH`, an executable that serves HTTP on the socket $LIGHTCONE_SOCKET (repeatable)")
	f.StringArrayVar(&flags.ownOnPort, "port-function", nil, "also run `NAME=PATH`, an executable that serves HTTP on $PORT (repeatable)")
	flags.callbacks.register(f)
	f.StringVar(&flags.usageBucket, "usage-bucket", "", bucketUsage+" (default the folder usage/store in the data folder)")
	f.BoolVar(&flags.verbose, "verbose", false, "log every component's start and stop, and every process replaced")
	return command
}

// dev runs the tree until a signal. What it prints is for the person who
// started it; what goes wrong later is logged.
func dev(command *cobra.Command, flags devFlags) error {
	level := slog.LevelWarn
	if flags.verbose {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(command.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	ctx, release := run.UntilSignal(command.Context())
	defer release()

	if err := checkSlots(flags.slots); err != nil {
		return err
	}
	specs, err := catalogue(flags)
	if err != nil {
		return err
	}
	unlock, err := claim(flags.data)
	if err != nil {
		return err
	}
	defer unlock()
	demo, err := keyFile(filepath.Join(flags.data, "demo.key"))
	if err != nil {
		return err
	}
	operator, err := keyFile(filepath.Join(flags.data, "operator.key"))
	if err != nil {
		return err
	}
	store, err := embedded.Open(filepath.Join(flags.data, "management.db"))
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // everything that was acknowledged is on the disk
	identities := document.Below(store, identityPrefix)
	rules, err := flags.callbacks.rules()
	if err != nil {
		return err
	}
	callbackKeyFile := filepath.Join(flags.data, "callback.key")
	if _, err := sharedSecretFile(callbackKeyFile); err != nil {
		return err
	}
	signing, err := callbackKeys(callbackKeyFile)
	if err != nil {
		return err
	}
	manager, err := management.New(management.Config{
		Store: identities, Logger: logger.With("component", "management"),
		CallbackSecret: callbackSecret(signing),
	})
	if err != nil {
		return err
	}
	if err := admitDemo(ctx, manager, demo, string(operator.ID())); err != nil {
		return err
	}
	sockets, err := socketFolder(flags.data)
	if err != nil {
		return err
	}
	registry := newRegistry()
	messenger, err := newMessenger(rules, signing, registry, logger)
	if err != nil {
		return err
	}

	group := run.New(logger)
	group.StopBound = longestTimeout + 5*time.Second // the front door drains the longest call
	var worker *supervisor.Supervisor
	_ = group.Start(ctx, "supervisor", func(ctx context.Context) (run.Stop, error) {
		worker, err = supervisor.Start(supervisor.Config{
			Functions: specs, Slots: flags.slots, Dir: sockets, Logger: logger.With("component", "supervisor"), Metrics: registry,
		})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { return worker.Close() }, waitReady(ctx, worker, logger)
	})
	queued, err := startDevQueue(ctx, group, flags.data, queueLogger(command, flags))
	if err != nil {
		return group.Wait(ctx)
	}
	known, err := thresholdConfig{
		identities: identities, inputs: document.Below(store, quarantinePrefix),
		region: management.NewSpent(document.Below(store, spentPrefix)), registry: registry, logger: logger,
	}.start(ctx, group)
	if err != nil {
		return errors.Join(err, group.Stop())
	}
	ledger, total, err := startDevLedger(ctx, group, flags, registry, logger)
	if err != nil {
		return group.Wait(ctx)
	}
	_ = group.Start(ctx, "queued calls", func(context.Context) (run.Stop, error) {
		return workOnQueue(ctx, group, queued, worker, counted(known.tenants, guarded(known.quarantine, worker.RunUntil)), ledger), nil
	})
	_ = group.Start(ctx, "sweeper", func(context.Context) (run.Stop, error) { return tendQueue(group, queued), nil })
	_ = group.Start(ctx, "callbacks", func(context.Context) (run.Stop, error) { return messenger.start(group, queued), nil })
	var door *gateway.Gateway
	_ = group.Start(ctx, "gateway", func(context.Context) (run.Stop, error) {
		config := gateway.DefaultConfig()
		config.Tenants, config.Quarantine = known.tenants, known.quarantine
		config.Queue, config.Invocations, config.CheckCallback = queued, queued, rules.Check
		config.Ledger, config.Usage = ledger, total
		config.Details = func() any { return isolation(worker) }
		door, err = gateway.New(config, worker, known.directory, registry, logger.With("component", "gateway"))
		if err != nil {
			return nil, err
		}
		return serve(group, "gateway", flags.api, "--api", door.Serve, door.Shutdown)
	})
	pages := managed(manager, known.quarantine, deadLetterPages(queued, logger.With("component", "dead letters")))
	_ = group.Start(ctx, "management", func(context.Context) (run.Stop, error) {
		return serveManagement(group, flags.manage, managementListener{
			operator: operator, metrics: registry,
			ready: func() (any, error) { return worker.Status(), worker.Ready() },
			api:   pages,
		})
	})
	// A start that failed has ended the group; Wait then tells why.
	if ctx.Err() == nil && worker != nil && door != nil && worker.Ready() == nil {
		if err := welcome(ctx, command.OutOrStdout(), flags, worker, demo); err != nil && ctx.Err() == nil {
			return errors.Join(err, group.Stop())
		}
	}
	return group.Wait(ctx)
}

// isolation is what the public may know of the processes: how far they are confined.
func isolation(worker *supervisor.Supervisor) map[string]string {
	levels := make(map[string]string)
	for _, status := range worker.Status() {
		levels[string(status.Function)] = status.Isolation
	}
	return levels
}

// serve listens on address, lets server accept there until it is shut down, and
// ends the group if accepting fails. flag is named when the address cannot be had.
func serve(group *run.Group, name, address, flag string, accept func(net.Listener) error, shutdown func(context.Context) error) (run.Stop, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; another program may have it: choose another address with %s", address, err, flag)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := accept(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			group.Fail(name, err)
		}
	}()
	return func(ctx context.Context) error {
		err := shutdown(ctx)
		<-ended
		return err
	}, nil
}

// startBound is how long the first processes may take to become ready.
const startBound = 30 * time.Second

// waitReady waits until every function can be called. One that cannot within
// the bound is logged, and does not keep the others from being served. The end of ctx is
// an error: nobody waits any more.
func waitReady(ctx context.Context, worker *supervisor.Supervisor, logger *slog.Logger) error {
	bound := time.NewTimer(startBound)
	defer bound.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		var missing []string
		for _, status := range worker.Status() {
			if status.Processes == 0 {
				missing = append(missing, string(status.Function))
			}
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-bound.C:
			logger.Error("functions that do not start", "functions", missing, "after", startBound)
			return worker.Ready()
		}
	}
}
