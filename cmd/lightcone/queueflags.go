package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/internal/run"
	"lightcone/queue"
)

// queueFlags say how a service reaches the region's queue. Without a service's name
// and without servers there is none, and calls cannot be queued.
type queueFlags struct {
	service, servers     string
	passwordFile, caFile string
	keep                 time.Duration
}

func (q *queueFlags) register(f *pflag.FlagSet) {
	f.StringVar(&q.service, "queue-service", "", "`NAME` of the queue nodes' service in Consul")
	f.StringVar(&q.servers, "queue-servers", "", "`ADDRESSES` of queue nodes, separated by commas, instead of --queue-service; without either, calls cannot be queued")
	q.registerSecrets(f)
}

// registerSecrets are the flags that a node needs, too.
func (q *queueFlags) registerSecrets(f *pflag.FlagSet) {
	f.StringVar(&q.passwordFile, "queue-password-file", "", "`file` with the password that queue nodes ask for")
	f.StringVar(&q.caFile, "queue-ca-file", "", "PEM `file` with the certificate of the authority that signs queue nodes' certificates")
	f.DurationVar(&q.keep, "queue-keep", 24*time.Hour, "how long the result of a queued call stays; the same for all services")
}

// queueUser is who services are to the queue's nodes.
const queueUser = "lightcone"

// enabled says whether there is a queue.
func (q *queueFlags) enabled() bool { return q.service != "" || q.servers != "" }

// config is how the queue is reached. name is who asks, in the nodes' logs.
func (q *queueFlags) config(name string, logger *slog.Logger) (queue.Config, error) {
	config := queue.Config{User: queueUser, Name: name, Guest: true, Logger: logger.With("component", "queue"), Limits: queue.Limits{Keep: q.keep}}
	switch {
	case q.service != "" && q.servers != "":
		return config, commandline.Usagef("--queue-service and --queue-servers: want one of them")
	case q.service != "" && !serviceName.MatchString(q.service):
		return config, commandline.Usagef("--queue-service %q: want a service's name, of lower-case letters, digits and dashes", q.service)
	case q.keep < time.Minute:
		return config, commandline.Usagef("--queue-keep %v: want a minute or more, for callers to fetch their results", q.keep)
	}
	var err error
	if config.Password, err = secretFile(q.passwordFile); err != nil {
		return config, fmt.Errorf("--queue-password-file: %w", err)
	}
	ca, err := os.ReadFile(q.caFile)
	if err != nil {
		return config, fmt.Errorf("--queue-ca-file: %w", err)
	}
	if config.TLS, err = queue.ClientTLS(ca); err != nil {
		return config, fmt.Errorf("--queue-ca-file %s: %w", q.caFile, err)
	}
	if q.service != "" {
		config.Servers = []string{net.JoinHostPort(queue.NodeName, "4222")} // nobody, until Consul says who
		return config, nil
	}
	if config.Servers, err = addresses(q.servers); err != nil {
		return config, commandline.Usagef("--queue-servers: %w", err)
	}
	return config, nil
}

// addresses reads HOST:PORT,…
func addresses(text string) ([]string, error) {
	var all []string
	for _, address := range strings.Split(text, ",") {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" || port == "0" {
			return nil, fmt.Errorf("%q is no address: want HOST:PORT,…", address)
		}
		all = append(all, address)
	}
	return all, nil
}

// connect makes a client of the queue that goes wherever Consul says the nodes are,
// and what ends it; nil when there is no queue. It does not wait for the nodes.
func (q *queueFlags) connect(catalogue *consul.Client, name string, logger *slog.Logger) (*queue.Client, run.Stop, error) {
	if !q.enabled() {
		return nil, nil, nil
	}
	config, err := q.config(name, logger)
	if err != nil {
		return nil, nil, err
	}
	client, err := queue.Connect(config)
	if err != nil {
		return nil, nil, err
	}
	stop := func(context.Context) error { return nil }
	if q.service != "" {
		stop = followQueue(catalogue, q.service, client.Follow, logger)
	}
	return client, func(ctx context.Context) error {
		err := stop(ctx)
		client.Close()
		return err
	}, nil
}

// followQueue tells follow the addresses of a service's instances, as Consul lists
// them, until it is stopped.
func followQueue(catalogue *consul.Client, service string, follow func([]string) error, logger *slog.Logger) run.Stop {
	return inBackground(func(ctx context.Context) {
		err := catalogue.Watch(ctx, service, func(instances []consul.Instance) {
			var nodes []string
			for _, instance := range instances {
				nodes = append(nodes, instance.Address)
			}
			logger.Info("queue nodes", "service", service, "instances", len(nodes))
			if err := follow(nodes); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
				logger.Error("the queue's nodes are not followed", "service", service, "error", err)
			}
		})
		if err != nil {
			logger.Error("the queue's nodes are not followed any more", "service", service, "error", err)
		}
	})
}
