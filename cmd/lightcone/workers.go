package main

import (
	"context"
	"log/slog"
	"sync"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions/wire"
	"lightcone/gateway"
	"lightcone/internal/run"
)

// roster keeps a fleet's members as Consul lists them. A service's instances
// come and go by their ids; a client lives for as long as its instance is listed.
type roster struct {
	fleet  *gateway.Fleet
	key    string
	logger *slog.Logger

	mu      sync.Mutex
	clients map[string]rostered // by instance
	leaving sync.WaitGroup      // clients of instances that are gone, while their calls finish
}

type rostered struct {
	*wire.Client
	service, address string
}

// followWorkers keeps fleet's members as Consul lists them, until it is stopped.
// What Consul does not say changes nothing: while it is away, the last known
// workers stay.
func followWorkers(catalogue *consul.Client, fleet *gateway.Fleet, declared []gateway.Declared, key string, logger *slog.Logger) run.Stop {
	r := &roster{fleet: fleet, key: key, logger: logger, clients: make(map[string]rostered)}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, d := range declared {
		watching.Go(func() { r.watch(ctx, catalogue, d.Spec.Name) })
	}
	return func(context.Context) error {
		cancel()
		watching.Wait()
		r.close()
		return nil
	}
}

func (r *roster) watch(ctx context.Context, catalogue *consul.Client, function lightcone.FunctionName) {
	service := workerService(function)
	err := catalogue.Watch(ctx, service, func(instances []consul.Instance) {
		r.logger.Info("workers", "service", service, "instances", len(instances))
		r.update(service, instances)
	})
	if err != nil {
		r.logger.Error("the workers are not followed any more", "service", service, "error", err)
	}
}

// update makes the clients of a service those of its instances.
func (r *roster) update(service string, instances []consul.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	listed := make(map[string]bool, len(instances))
	var gone []*wire.Client
	for _, instance := range instances {
		listed[instance.ID] = true
		known, here := r.clients[instance.ID]
		if here && known.address == instance.Address {
			continue
		}
		if here {
			gone = append(gone, known.Client)
		}
		r.clients[instance.ID] = rostered{
			Client: wire.Dial(wire.ClientConfig{Address: instance.Address, Key: r.key}), service: service, address: instance.Address,
		}
	}
	for id, known := range r.clients {
		if known.service == service && !listed[id] {
			gone = append(gone, known.Client)
			delete(r.clients, id)
		}
	}
	members := make([]gateway.Member, 0, len(r.clients))
	for id, known := range r.clients {
		members = append(members, gateway.Member{ID: id, Worker: known.Client})
	}
	r.fleet.Follow(members)
	for _, client := range gone {
		r.dismiss(client)
	}
}

// dismiss closes a client once its calls have ended: its worker, which is not
// listed any more, may be finishing them.
func (r *roster) dismiss(client *wire.Client) {
	r.leaving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), longestTimeout)
		defer cancel()
		client.Drain(ctx)
		client.Close()
	})
}

func (r *roster) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fleet.Follow(nil)
	for _, known := range r.clients {
		known.Close()
	}
	r.leaving.Wait()
}
