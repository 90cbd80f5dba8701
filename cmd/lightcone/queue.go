package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/internal/run"
	"lightcone/queue"
)

// queueNodeFlags are the flags of `lightcone queue`.
type queueNodeFlags struct {
	manage, operatorKeyFile  string
	verbose                  bool
	listen, routeListen      string
	seat, data               string
	storeMiB, nodes          int
	peers, peersService      string
	certificateFile, keyFile string
	routePasswordFile        string
	client                   queueFlags
	callbackKeyFile          string
	callbacks                callbackFlags
}

func newQueueCommand(flags *queueNodeFlags) *cobra.Command {
	command := serviceCommand("queue", "Run a node of the queue that keeps accepted calls until they are done",
		`Run a node of the queue. Three of them keep each accepted call on three disks, and
go on while one is away. Nomad starts them (jobs/queue.nomad.hcl). They find each
other in Consul, which is found as its own commands find it, by CONSUL_HTTP_ADDR and
CONSUL_HTTP_TOKEN, or by --peers. SIGTERM hands over what the node leads.

A cluster begins when all its nodes are there. A node whose folder is lost starts with
an empty one, in the same seat: the others fill it.`,
		func(command *cobra.Command) error { return queueNode(command, *flags) })
	f := command.Flags()
	f.StringVar(&flags.manage, "manage", "127.0.0.1:9001", "`address` of the management listener: health, metrics, backlog")
	f.StringVar(&flags.operatorKeyFile, "operator-key-file", "", "`file` with the operator's key, for the management listener")
	f.BoolVar(&flags.verbose, "verbose", false, "log what is of interest to who looks for an error")
	f.StringVar(&flags.listen, "listen", "127.0.0.1:4222", "`address` for gateways and workers")
	f.StringVar(&flags.routeListen, "route-listen", "", "`address` for the other nodes, which reach it by that; without it, the node is alone")
	f.IntVar(&flags.nodes, "nodes", 3, "nodes of the cluster: 3 or 5")
	f.StringVar(&flags.seat, "seat", "0", "the node's `NAME` among them; whoever comes in its place has the same")
	f.StringVar(&flags.data, "data", "", "`folder` for what it keeps")
	f.IntVar(&flags.storeMiB, "store-mib", 10_240, "most `MiB` on disk; the queue refuses calls before it is full")
	f.StringVar(&flags.peers, "peers", "", "`ADDRESSES` of the nodes' route listeners, separated by commas, instead of --peers-service")
	f.StringVar(&flags.peersService, "peers-service", "", "`NAME` of the route listeners' service in Consul")
	f.StringVar(&flags.certificateFile, "certificate-file", "", "PEM `file` with the nodes' certificate, for the name "+queue.NodeName)
	f.StringVar(&flags.keyFile, "key-file", "", "PEM `file` with the certificate's key")
	f.StringVar(&flags.routePasswordFile, "route-password-file", "", "`file` with the password that nodes show each other")
	flags.client.registerSecrets(f)
	f.StringVar(&flags.callbackKeyFile, "callback-key-file", "", callbackKeyUsage+"; without it, callbacks are kept for a node that has one")
	flags.callbacks.register(f)
	return command
}

// config is the node's configuration.
func (flags queueNodeFlags) config(logger *slog.Logger) (queue.NodeConfig, error) {
	config := queue.NodeConfig{
		Seat: flags.seat, Dir: flags.data, Listen: flags.listen, User: queueUser,
		MaxStoreBytes: int64(flags.storeMiB) * mebibyte, Logger: logger.With("component", "node"),
	}
	var err error
	if config.Password, err = secretFile(flags.client.passwordFile); err != nil {
		return config, fmt.Errorf("--queue-password-file: %w", err)
	}
	for _, read := range []struct {
		flag, file string
		into       *[]byte
	}{
		{"queue-ca-file", flags.client.caFile, &config.CA},
		{"certificate-file", flags.certificateFile, &config.Certificate},
		{"key-file", flags.keyFile, &config.Key},
	} {
		if *read.into, err = os.ReadFile(read.file); err != nil {
			return config, fmt.Errorf("--%s: %w", read.flag, err)
		}
	}
	if flags.routeListen != "" {
		if config.Routes, err = flags.routes(); err != nil {
			return config, err
		}
	} else if flags.peers != "" || flags.peersService != "" {
		return config, commandline.Usagef("--route-listen (or %s) is missing: the node has peers", settingOf("route-listen"))
	}
	if err := config.Validate(); err != nil {
		return config, commandline.Usagef("the node's flags: %w", err)
	}
	return config, nil
}

func (flags queueNodeFlags) routes() (*queue.RouteConfig, error) {
	routes := &queue.RouteConfig{Listen: flags.routeListen, Size: flags.nodes}
	var err error
	switch {
	case (flags.peers == "") == (flags.peersService == ""):
		return nil, commandline.Usagef("--peers and --peers-service: want one of them, for the node to find the others")
	case flags.peersService != "" && !serviceName.MatchString(flags.peersService):
		return nil, commandline.Usagef("--peers-service %q: want a service's name, of lower-case letters, digits and dashes", flags.peersService)
	case flags.peers != "":
		if routes.Peers, err = addresses(flags.peers); err != nil {
			return nil, commandline.Usagef("--peers: %w", err)
		}
	}
	if routes.Password, err = secretFile(flags.routePasswordFile); err != nil {
		return nil, fmt.Errorf("--route-password-file: %w", err)
	}
	return routes, nil
}

// limits divide the node's disk: each of the streams and object stores has a bound of
// its own, and they are seven; the eighth part is for what JetStream keeps beside.
func (flags queueNodeFlags) limits() queue.Limits {
	return queue.Limits{Keep: flags.client.keep, MaxBytes: int64(flags.storeMiB) * mebibyte / 8}
}

// messenger delivers callbacks; nil without a key to sign them with.
func (flags queueNodeFlags) messenger(registry *prometheus.Registry, logger *slog.Logger) (*messenger, error) {
	rules, err := flags.callbacks.rules()
	if err != nil {
		return nil, err
	}
	keys, err := callbackKeys(flags.callbackKeyFile)
	if err != nil || keys == nil {
		return nil, err
	}
	return newMessenger(rules, keys, registry, logger)
}

func queueNode(command *cobra.Command, flags queueNodeFlags) error {
	service := serviceFlags{manage: flags.manage, operatorKeyFile: flags.operatorKeyFile, verbose: flags.verbose}
	logger := service.logger(command)
	ctx, release := run.UntilSignal(command.Context())
	defer release()
	_, operator, err := service.keys()
	if err != nil {
		return err
	}
	config, err := flags.config(logger)
	if err != nil {
		return err
	}
	registry := newRegistry()
	messenger, err := flags.messenger(registry, logger)
	if err != nil {
		return err
	}

	group := run.New(logger)
	var node *queue.Node
	_ = group.Start(ctx, "node", func(context.Context) (run.Stop, error) {
		if node, err = queue.StartNode(config); err != nil {
			return nil, err
		}
		return node.Stop, nil
	})
	_ = group.Start(ctx, "node's watch", func(context.Context) (run.Stop, error) {
		return inBackground(func(ctx context.Context) {
			if err := node.Watch(ctx); err != nil {
				group.Fail("node", err)
			}
		}), nil
	})
	if flags.peersService != "" {
		catalogue, err := consul.Connect(consul.Config{Logger: logger})
		if err != nil {
			return errors.Join(err, group.Stop())
		}
		defer catalogue.Close()
		_ = group.Start(ctx, "peers", func(context.Context) (run.Stop, error) {
			return followQueue(catalogue, flags.peersService, node.Follow, logger), nil
		})
	}
	var client *queue.Client
	_ = group.Start(ctx, "queue", func(context.Context) (run.Stop, error) {
		copies := 1
		if config.Routes != nil {
			copies = min(3, config.Routes.Size)
		}
		client, err = queue.Connect(queue.Config{
			InProcess: node, User: config.User, Password: config.Password, Name: node.Name(),
			Replicas: copies, Limits: flags.limits(), Logger: logger.With("component", "queue"),
		})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { client.Close(); return nil }, nil
	})
	_ = group.Start(ctx, "sweeper", func(context.Context) (run.Stop, error) {
		return tendQueue(group, client), nil
	})
	if messenger != nil {
		_ = group.Start(ctx, "callbacks", func(context.Context) (run.Stop, error) { return messenger.start(group, client), nil })
	}
	_ = group.Start(ctx, "management", func(context.Context) (run.Stop, error) {
		return serveManagement(group, flags.manage, managementListener{
			operator: operator, metrics: registry,
			ready: func() (any, error) {
				err := errors.Join(node.Ready(), client.Ready())
				return map[string]string{"node": node.Name(), "lacks": text(err)}, err
			},
			api:     deadLetterPages(client, logger.With("component", "dead letters")),
			operate: map[string]func(http.ResponseWriter){"GET " + backlogPath: func(w http.ResponseWriter) { writeBacklogs(w, client) }},
		})
	})
	return group.Wait(ctx)
}

// tendQueue ends, until it is stopped, what nobody runs in time, and clears away what nobody
// needs any more.
func tendQueue(group *run.Group, client *queue.Client) run.Stop {
	return inBackground(func(ctx context.Context) {
		if err := client.Tend(ctx); err != nil {
			group.Fail("sweeper", err)
		}
	})
}

// text is an error's, or nothing.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

const backlogBound = 5 * time.Second

// writeBacklogs tells how much is queued, of the whole queue.
func writeBacklogs(w http.ResponseWriter, client *queue.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), backlogBound)
	defer cancel()
	functions, err := client.Backlogs(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	lines := make([]backlog, 0, len(functions))
	for _, f := range functions {
		lines = append(lines, backlog{Function: f.Function, Waiting: f.Waiting, Running: f.Running, OldestMillis: f.Oldest.Milliseconds()})
	}
	writeJSON(w, http.StatusOK, lines)
}
