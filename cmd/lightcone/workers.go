package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions/wire"
	"lightcone/gateway"
	"lightcone/internal/run"
)

// roster keeps a fleet's members as Consul lists them. A service's instances
// come and go by their ids; a client lives for as long as its instance is listed,
// and longer if Consul takes many off its list that are well: see leavers.
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
	doubted          bool // not listed any more, and well all the same
}

// doubtEvery is how often those are looked at again that are not listed and well.
const doubtEvery = time.Second

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
	watching.Go(func() { r.reconsider(ctx) })
	return func(context.Context) error {
		cancel()
		watching.Wait()
		r.close()
		return nil
	}
}

// reconsider lets those go, in time, that are neither listed nor well.
func (r *roster) reconsider(ctx context.Context) {
	ticker := time.NewTicker(doubtEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		var gone []string
		for id, known := range r.clients {
			if known.doubted && known.Ready() != nil {
				gone = append(gone, id)
			}
		}
		if len(gone) > 0 {
			r.follow(gone)
		}
		r.mu.Unlock()
	}
}

// leavers are the workers that go when Consul lists others: those that are not
// listed. But when that is more than half of them at once, it may be the same false
// alarm about each, such as a check that every busy machine is late for. Then those
// that answer this gateway are doubted, and stay for as long as they do.
//
// It is pure: known says of each present worker whether it is well.
func leavers(known map[string]bool, listed map[string]bool) (gone, doubted []string) {
	for id := range known {
		if !listed[id] {
			gone = append(gone, id)
		}
	}
	if 2*len(gone) <= len(known) {
		return gone, nil
	}
	unlisted := gone
	gone = nil
	for _, id := range unlisted {
		if known[id] {
			doubted = append(doubted, id)
		} else {
			gone = append(gone, id)
		}
	}
	return gone, doubted
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
	well := make(map[string]bool)
	for id, known := range r.clients {
		if known.service == service {
			well[id] = known.Ready() == nil
		}
	}
	var moved []*wire.Client
	for _, instance := range instances {
		listed[instance.ID] = true
		known, here := r.clients[instance.ID]
		if here && known.address == instance.Address {
			known.doubted = false
			r.clients[instance.ID] = known
			continue
		}
		if here {
			moved = append(moved, known.Client)
		}
		r.clients[instance.ID] = rostered{
			Client: wire.Dial(wire.ClientConfig{Address: instance.Address, Key: r.key}), service: service, address: instance.Address,
		}
	}
	gone, doubted := leavers(well, listed)
	for _, id := range doubted {
		known := r.clients[id]
		known.doubted = true
		r.clients[id] = known
	}
	if len(doubted) > 0 {
		r.logger.Warn("most workers left the list at once; those that answer are still used", "service", service, "used", len(doubted))
	}
	r.follow(gone)
	for _, client := range moved {
		r.dismiss(client)
	}
}

// follow tells the fleet its members, without those that are gone, and lets these
// finish. The roster is locked.
func (r *roster) follow(gone []string) {
	var leaving []*wire.Client
	for _, id := range gone {
		leaving = append(leaving, r.clients[id].Client)
		delete(r.clients, id)
	}
	members := make([]gateway.Member, 0, len(r.clients))
	for id, known := range r.clients {
		members = append(members, gateway.Member{ID: id, Worker: known.Client})
	}
	r.fleet.Follow(members)
	for _, client := range leaving {
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
