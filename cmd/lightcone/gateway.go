package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/gateway"
	"lightcone/identity/edge"
	"lightcone/internal/run"
	"lightcone/usage"
	"lightcone/usage/billing"
)

// gatewayFlags are the flags of `lightcone gateway`.
type gatewayFlags struct {
	serviceFlags
	listen, functions   string
	tls                 tlsFlags
	memory              int
	maxWait, drainDelay time.Duration
	redis               redisFlags
	queue               queueFlags
	callsBack           bool
	callbacks           callbackFlags
	ledger              ledgerFlags
}

func newGatewayCommand(flags *gatewayFlags) *cobra.Command {
	command := serviceCommand("gateway", "Take calls over HTTP and send them to workers found in Consul",
		`Take calls over HTTP and send them to the workers that Consul lists. Nomad starts
it (jobs/gateway.nomad.hcl). Consul is found as its own commands find it, by
CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN; while it is away, the last known workers
go on being used. SIGTERM lets the calls that have arrived finish.`,
		func(command *cobra.Command) error { return frontDoor(command, *flags) })
	f := command.Flags()
	flags.serviceFlags.register(f)
	f.StringVar(&flags.listen, "listen", "127.0.0.1:8080", "`address` for calls")
	f.StringVar(&flags.functions, "functions", "resize", "`NAMES` that can be called, separated by commas; NAME:cold=10s is one without a worker until it is called")
	flags.tls.register(f)
	flags.redis.register(f, keysFromConsul)
	flags.queue.register(f)
	f.BoolVar(&flags.callsBack, "callbacks", false, "accept X-Callback-Url: the queue's nodes have a key to sign callbacks with")
	flags.callbacks.register(f)
	flags.ledger.register(f)
	f.IntVar(&flags.memory, "memory-mib", 1024, "the machine's memory for this gateway, in `MiB`; a third of it for bodies and answers")
	f.DurationVar(&flags.maxWait, "max-wait", gateway.DefaultConfig().MaxWait, "the longest wait for a free slot that a call is accepted with")
	f.DurationVar(&flags.drainDelay, "drain-delay", 2*time.Second, "between failing readiness and closing the listener, for load balancers to notice")
	return command
}

// config is the gateway's configuration, and the functions behind it.
func (flags gatewayFlags) config() (gateway.Config, []gateway.Declared, error) {
	config := gateway.DefaultConfig()
	config.MaxWait, config.DrainDelay = flags.maxWait, flags.drainDelay
	config.MaxBytesInFlight = int64(flags.memory) * mebibyte / 3 // the collector lets garbage add as much again
	rules, err := flags.callbacks.rules()
	if err != nil {
		return config, nil, err
	}
	if config.CheckCallback = noCallbacks; flags.callsBack {
		config.CheckCallback = rules.Check
	}
	if err := config.Validate(); err != nil {
		return config, nil, commandline.Usagef("--max-wait, --drain-delay or --memory-mib: %w", err)
	}
	if err := flags.ledger.check(); err != nil {
		return config, nil, err
	}
	declared, err := declaredFunctions(flags.functions)
	if err != nil {
		return config, nil, commandline.Usagef("--functions %s: %w", flags.functions, err)
	}
	return config, declared, nil
}

// declaredFunctions reads NAME[:cold=DURATION],…
func declaredFunctions(text string) ([]gateway.Declared, error) {
	var all []gateway.Declared
	for _, word := range strings.Split(text, ",") {
		name, option, more := strings.Cut(word, ":")
		d := gateway.Declared{Spec: limitsOf(lightcone.FunctionName(name))}
		if err := d.Spec.Name.Validate(); err != nil {
			return nil, err
		}
		if more {
			value, isCold := strings.CutPrefix(option, "cold=")
			var err error
			if d.ColdStart, err = time.ParseDuration(value); !isCold || err != nil || d.ColdStart <= 0 {
				return nil, fmt.Errorf("%q: want NAME:cold=DURATION, such as %s:cold=10s", word, name)
			}
		}
		all = append(all, d)
	}
	return all, nil
}

func frontDoor(command *cobra.Command, flags gatewayFlags) error {
	logger := flags.logger(command)
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	config, declared, err := flags.config()
	if err != nil {
		return err
	}
	certificate, err := flags.tls.certificate(logger)
	if err != nil {
		return err
	}
	fleetKey, operator, err := flags.keys()
	if err != nil {
		return err
	}
	catalogue, err := consul.Connect(consul.Config{Logger: logger})
	if err != nil {
		return err
	}
	defer catalogue.Close()
	registry := newRegistry()

	group := run.New(logger)
	group.StopBound = longestTimeout + 5*time.Second
	known, err := flags.threshold(ctx, group, catalogue, registry, logger)
	if err != nil {
		return errors.Join(err, group.Stop())
	}
	config.Tenants, config.Quarantine, config.CallersReady = known.tenants, known.quarantine, known.directory.Ready
	fleet, err := gateway.NewFleet(gateway.FleetConfig{Declared: declared, Registerer: registry, Confined: known.tenants.Confined})
	if err != nil {
		return errors.Join(err, group.Stop())
	}
	_ = group.Start(ctx, "workers", func(context.Context) (run.Stop, error) {
		return followWorkers(catalogue, fleet, declared, fleetKey, logger), nil
	})
	if flags.queue.enabled() {
		_ = group.Start(ctx, "queue", func(context.Context) (run.Stop, error) {
			queued, stop, err := flags.queue.connect(catalogue, "gateway", logger)
			if err == nil {
				config.Queue, config.Invocations = queued, queued
			}
			return stop, err
		})
	}
	ledger, err := flags.ledger.start(ctx, group, registry, logger)
	if err != nil {
		return group.Wait(ctx)
	}
	if ledger != nil {
		reader, err := usage.OpenReader(ctx, flags.ledger.bucket, billing.OfBucket)
		if err != nil {
			return errors.Join(err, group.Stop())
		}
		defer func() { _ = reader.Close() }()
		config.Ledger = ledger
		config.Usage = newUsageTotal(reader, ledger, newOtherLedgers(catalogue, declared, operator.Text(), logger), logger)
	}
	var door *gateway.Gateway
	_ = group.Start(ctx, "gateway", func(context.Context) (run.Stop, error) {
		if door, err = gateway.New(config, fleet, known.directory, registry, logger); err != nil {
			return nil, err
		}
		return serve(group, "gateway", flags.listen, "--listen", accepting(door, certificate), door.Shutdown)
	})
	_ = group.Start(ctx, "management", func(context.Context) (run.Stop, error) {
		return serveManagement(group, flags.manage, managementListener{
			operator: operator, metrics: registry,
			ready: func() (any, error) { return door.Demand(), errors.Join(known.directory.Ready(), fleet.Ready()) },
			operate: map[string]func(http.ResponseWriter){
				"GET " + demandPath: func(w http.ResponseWriter) { writeJSON(w, http.StatusOK, door.Demand()) },
			},
			api: withPages(quarantined(known.quarantine), unshippedPage(ledger)),
		})
	})
	return group.Wait(ctx)
}

// threshold is what the gateway knows of its callers: from Redis and Consul.
func (flags gatewayFlags) threshold(ctx context.Context, group *run.Group, catalogue *consul.Client, registry *prometheus.Registry, logger *slog.Logger) (*threshold, error) {
	config := thresholdConfig{
		identities: consul.NewDocuments(catalogue, identityPrefix, true),
		inputs:     consul.NewDocuments(catalogue, quarantinePrefix, false),
		registry:   registry, logger: logger,
	}
	redis, stop, err := flags.redis.connect(catalogue, logger)
	if err != nil {
		return nil, err
	}
	if redis != nil {
		_ = group.Start(ctx, "redis", func(context.Context) (run.Stop, error) { return stop, nil })
		config.redis, config.region = redis, edge.NewSpending(redis)
	}
	return config.start(ctx, group)
}

// demandPath is where a gateway tells schedulers how many calls wait.
const demandPath = "/demand"

// workerService is the Consul service of the workers of a function; their Nomad
// job has the same name.
func workerService(function lightcone.FunctionName) string { return "worker-" + string(function) }

// workerManagement is the Consul service of their management listeners.
func workerManagement(function lightcone.FunctionName) string {
	return workerService(function) + "-manage"
}

// gatewayManagement is the Consul service of the gateways' management listeners.
const gatewayManagement = "gateway-manage"
