package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions"
	"lightcone/functions/wire"
	"lightcone/gateway"
	"lightcone/internal/run"
	"lightcone/scheduler"
)

// observer asks every worker, gateway and node of the queue that Consul lists, or
// listed last, how busy it is.
type observer struct {
	catalogue   *consul.Client
	fleetKey    string
	operatorKey string
	policies    []scheduler.Policy

	mu    sync.Mutex
	known map[string][]consul.Instance // by service; a service that was never heard of is missing
}

func newObserver(catalogue *consul.Client, fleetKey, operatorKey string, policies []scheduler.Policy) *observer {
	return &observer{
		catalogue: catalogue, fleetKey: fleetKey, operatorKey: operatorKey, policies: policies,
		known: make(map[string][]consul.Instance),
	}
}

// askedAtOnce bounds how many workers and gateways are asked at one time.
const askedAtOnce = 256

// answerWithin is how long one of them may take to answer.
const answerWithin = 500 * time.Millisecond

// start follows the services until it is stopped.
func (o *observer) start(logger *slog.Logger) run.Stop {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, service := range o.services() {
		watching.Go(func() {
			err := o.catalogue.Watch(ctx, service, func(instances []consul.Instance) { o.learn(service, instances) })
			if err != nil {
				logger.Error("a service is not followed any more", "service", service, "error", err)
			}
		})
	}
	return func(context.Context) error {
		cancel()
		watching.Wait()
		return nil
	}
}

// instances is what is known of a service.
func (o *observer) instances(service string) ([]consul.Instance, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	instances, heard := o.known[service]
	return slices.Clone(instances), heard
}

// Observe asks everybody at once. It fails only before Consul has ever answered.
func (o *observer) Observe(ctx context.Context) (scheduler.Observation, error) {
	gateways, heard := o.instances(gatewayManagement)
	if !heard {
		return scheduler.Observation{}, errors.New("nobody knows yet where the gateways are: Consul has not told")
	}
	nodes, heard := o.instances(queueManagement) // none when there is no queue
	if !heard {
		return scheduler.Observation{}, errors.New("nobody knows yet where the queue is: Consul has not told")
	}
	seen := scheduler.Observation{GatewaysKnown: len(gateways), QueueKnown: len(nodes), Fleets: make(map[lightcone.FunctionName]scheduler.FleetLoad)}
	workers := make(map[lightcone.FunctionName][]consul.Instance)
	for _, p := range o.policies {
		if workers[p.Function], heard = o.instances(workerService(p.Function)); !heard {
			return scheduler.Observation{}, fmt.Errorf("nobody knows yet where the workers of %s are: Consul has not told", p.Function)
		}
		seen.Fleets[p.Function] = scheduler.FleetLoad{WorkersKnown: len(workers[p.Function])}
	}
	queued := make(map[lightcone.FunctionName]backlog)
	var mu sync.Mutex // guards seen and queued
	var asking sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	ask := func(question func(context.Context)) {
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, answerWithin)
			defer cancel()
			question(ctx)
		})
	}
	for _, instance := range gateways {
		ask(func(ctx context.Context) {
			demands, err := o.demand(ctx, instance.Address)
			if err != nil {
				return // known, and has not answered
			}
			mu.Lock()
			defer mu.Unlock()
			seen.GatewaysAnswered++
			addDemand(seen.Fleets, demands)
		})
	}
	for _, instance := range nodes {
		ask(func(ctx context.Context) {
			lines, err := o.backlogs(ctx, instance.Address)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen.QueueAnswered++
			heardBacklog(queued, lines)
		})
	}
	for function, instances := range workers {
		for _, instance := range instances {
			ask(func(ctx context.Context) {
				load, err := wire.FetchLoad(ctx, instance.Address, o.fleetKey)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen.Fleets[function] = withWorker(seen.Fleets[function], load)
			})
		}
	}
	asking.Wait()
	for function, fleet := range seen.Fleets {
		seen.Fleets[function] = withBacklog(fleet, queued[function])
	}
	return seen, nil // those who were not asked in time have not answered
}

// heard is nil once Consul has told of every service: then its token does, too.
func (o *observer) heard() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, service := range o.services() {
		if _, heard := o.known[service]; !heard {
			return fmt.Errorf("not a word of Consul about the service %s yet", service)
		}
	}
	return nil
}

// services are the ones that are followed.
func (o *observer) services() []string {
	services := []string{gatewayManagement, queueManagement}
	for _, p := range o.policies {
		services = append(services, workerService(p.Function))
	}
	return services
}

// addDemand adds the calls that wait in one gateway.
func addDemand(fleets map[lightcone.FunctionName]scheduler.FleetLoad, demands []gateway.Demand) {
	for _, d := range demands {
		if fleet, ours := fleets[d.Function]; ours {
			fleet.Waiting += d.Waiting
			fleets[d.Function] = fleet
		}
	}
}

// withWorker adds what one worker said. One that drains is none any more.
func withWorker(fleet scheduler.FleetLoad, load wire.Load) scheduler.FleetLoad {
	if load.Draining {
		fleet.WorkersKnown--
		return fleet
	}
	fleet.WorkersAnswered++
	for _, f := range load.Functions {
		fleet.Slots += f.Slots
		fleet.Busy += f.Busy
		fleet.BusyQueued += f.Held
		fleet.Reserved += functions.SyncReserve(f.Slots)
	}
	return fleet
}

// demand asks one gateway how many calls wait in it.
func (o *observer) demand(ctx context.Context, address string) (demands []gateway.Demand, err error) {
	err = o.read(ctx, address, demandPath, func(response *http.Response) error {
		return json.NewDecoder(http.MaxBytesReader(nil, response.Body, mebibyte)).Decode(&demands)
	})
	return demands, err
}

// read fetches a page of a management listener.
func (o *observer) read(ctx context.Context, address, path string, decode func(*http.Response) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+o.operatorKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s answered %s", address, path, response.Status)
	}
	return decode(response)
}
