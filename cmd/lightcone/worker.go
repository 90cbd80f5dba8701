package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/functions"
	supervisor "lightcone/functions/runtime"
	"lightcone/functions/wire"
	"lightcone/gateway/quarantine"
	"lightcone/internal/run"
	"lightcone/queue"
)

// workerFlags are the flags of `lightcone worker`.
type workerFlags struct {
	serviceFlags
	listen, function, sockets string
	onPort                    bool
	slots                     int
	queue                     queueFlags
	ledger                    ledgerFlags
	redis                     redisFlags
}

func newWorkerCommand(flags *workerFlags) *cobra.Command {
	command := serviceCommand("worker", "Run a function's processes and take calls for it from gateways",
		`Run the processes of one function, confined and metered, and take calls for it
from gateways. Nomad starts it (jobs/worker.nomad.hcl). With a queue, slots that
these calls leave idle run queued ones, except for a reserve of a quarter, and never an
input that has killed two: Consul has what other workers and gateways know of that.
With Redis, what they use counts towards their tenants' month.
SIGTERM lets the calls that run finish; those that come meanwhile are sent elsewhere by
their gateways, and no more are taken from the queue.`,
		func(command *cobra.Command) error { return worker(command, *flags) })
	f := command.Flags()
	flags.serviceFlags.register(f)
	f.StringVar(&flags.listen, "listen", "127.0.0.1:9000", "`address` for calls from gateways")
	f.StringVar(&flags.function, "function", "resize", "`NAME` of a function that comes with Lightcone, or NAME=PATH of an executable")
	f.BoolVar(&flags.onPort, "function-on-port", false, "the executable listens on $PORT instead of the socket $LIGHTCONE_SOCKET")
	f.IntVar(&flags.slots, "slots", runtime.GOMAXPROCS(0), "calls that run at once; one a core is best")
	flags.queue.register(f)
	flags.ledger.register(f)
	flags.redis.register(f, "what queued calls use counts towards no month")
	f.StringVar(&flags.sockets, "sockets", filepath.Join(os.TempDir(), "lightcone-worker"), "`folder` of its own for the processes' sockets; emptied at the start")
	return command
}

func worker(command *cobra.Command, flags workerFlags) error {
	logger := flags.logger(command)
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	if err := flags.ledger.check(); err != nil {
		return err
	}
	if err := checkSlots(flags.slots); err != nil {
		return err
	}
	spec, err := functionFor(flags.function)
	if err != nil {
		return commandline.Usagef("--function %s: %w", flags.function, err)
	}
	spec.UsePort = flags.onPort
	fleetKey, operator, err := flags.keys()
	if err != nil {
		return err
	}
	var catalogue *consul.Client // where the queue is, and what queued calls must not be run, and Redis for what they use
	if flags.queue.enabled() {
		if catalogue, err = consul.Connect(consul.Config{Logger: logger}); err != nil {
			return err
		}
		defer catalogue.Close()
	}
	registry := newRegistry()

	group := run.New(logger)
	group.StopBound = longestTimeout + 5*time.Second
	var workers *supervisor.Supervisor
	_ = group.Start(ctx, "supervisor", func(ctx context.Context) (run.Stop, error) {
		workers, err = supervisor.Start(supervisor.Config{
			Functions: []functions.Spec{spec}, Slots: flags.slots, Dir: flags.sockets, Logger: logger, Metrics: registry,
		})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { return workers.Close() }, waitReady(ctx, workers, logger)
	})
	ledger, err := flags.ledger.start(ctx, group, registry, logger)
	if err != nil {
		return group.Wait(ctx)
	}
	_ = group.Start(ctx, "management", func(context.Context) (run.Stop, error) {
		return serveManagement(group, flags.manage, managementListener{
			operator: operator, metrics: registry,
			ready: func() (any, error) { return workers.Status(), workers.Ready() },
			api:   unshippedPage(ledger),
		})
	})
	if flags.queue.enabled() {
		var book *quarantine.Book
		_ = group.Start(ctx, "quarantine", func(ctx context.Context) (_ run.Stop, err error) {
			store := consul.NewDocuments(catalogue, quarantinePrefix, true) // workers are many: their reads go to all of Consul's servers
			if book, err = quarantine.New(workerQuarantine(), store, registry, logger.With("component", "quarantine")); err != nil {
				return nil, err
			}
			stop := inBackground(book.Run)
			if err := untilReady(ctx, quarantineStartBound, book.Ready); err != nil {
				logger.Warn("queued calls are run without what others know of inputs that kill", "error", err)
			}
			return stop, nil
		})
		tenants, err := flags.redis.startSpending(ctx, group, catalogue, registry, logger)
		if err != nil {
			return errors.Join(err, group.Stop())
		}
		var client *queue.Client
		_ = group.Start(ctx, "queue", func(context.Context) (stop run.Stop, err error) {
			client, stop, err = flags.queue.connect(catalogue, workerService(spec.Name), logger)
			return stop, err
		})
		_ = group.Start(ctx, "queued calls", func(context.Context) (run.Stop, error) {
			return workOnQueue(ctx, group, client, workers, counted(tenants, guarded(book, workers.RunUntil)), ledger), nil
		})
	}
	_ = group.Start(ctx, "calls", func(context.Context) (run.Stop, error) {
		server := wire.NewServer(wire.ServerConfig{Runner: workers, Key: fleetKey, Logger: logger})
		return serve(group, "calls", flags.listen, "--listen", server.Serve, server.Shutdown)
	})
	return group.Wait(ctx)
}

// quarantineStartBound is how long a worker waits for what others know: Consul may be
// away for longer than there is reason not to work.
const quarantineStartBound = 5 * time.Second

// workerQuarantine is for workers, of which a region has many more than gateways: each
// writes a strike in ten seconds on average, and leaves the documents that have expired
// to the gateways.
func workerQuarantine() quarantine.Config {
	config := quarantine.DefaultConfig()
	config.SharesPerSecond, config.Burst, config.SweepEvery = 0.1, 8, time.Hour
	return config
}

// serveManagement serves the operator's listener as a component of group.
func serveManagement(group *run.Group, address string, m managementListener) (run.Stop, error) {
	server := m.server()
	return serve(group, "management", address, "--manage", server.Serve, func(ctx context.Context) error {
		return shutdown(ctx, server)
	})
}

// shutdown ends server; what it has not answered within a moment is cut: nobody
// drains a worker for the sake of who reads its metrics.
func shutdown(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if server.Shutdown(ctx) == nil {
		return nil
	}
	return server.Close()
}
