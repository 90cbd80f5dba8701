package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions/wire"
	"lightcone/gateway"
	"lightcone/gateway/quarantine"
	"lightcone/identity"
	"lightcone/identity/edge"
)

// gatewayEnv makes this program one of the gateways that are compared:
// MODE,ADDRESS,WORKER,KEYFILE.
const gatewayEnv = "LIGHTCONE_BENCH_GATEWAY"

const (
	modeWhole = "whole" // as `lightcone gateway` has it
	modeBare  = "bare"  // everybody may call, and there is one worker to send a call to
)

// serveGateway is the process of one gateway.
func serveGateway(text string) error {
	words := strings.Split(text, ",")
	if len(words) != 4 {
		return fmt.Errorf("%s is %q: want MODE,ADDRESS,WORKER,KEYFILE", gatewayEnv, text)
	}
	mode, address, workerAddress, keyFile := words[0], words[1], words[2], words[3]
	worker := wire.Dial(wire.ClientConfig{Address: workerAddress})
	defer worker.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	door, err := bareGateway(worker)
	if mode == modeWhole {
		door, err = wholeGateway(ctx, worker, keyFile)
	}
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return untilTerminated(listener, door.Serve, door.Shutdown)
}

// everybody may call, and without limits.
type everybody struct{}

func (everybody) Authorize([]byte, lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error) {
	return "bench", lightcone.Unlimited, nil
}

func bareGateway(worker gateway.Worker) (*gateway.Gateway, error) {
	return gateway.New(gateway.DefaultConfig(), worker, everybody{}, prometheus.NewRegistry(), slog.Default())
}

func wholeGateway(ctx context.Context, worker gateway.Worker, keyFile string) (*gateway.Gateway, error) {
	registry := prometheus.NewRegistry()
	store, err := storeWith(keyFile)
	if err != nil {
		return nil, err
	}
	directory, err := edge.New(edge.Config{Origin: store, Logger: slog.Default(), Metrics: registry})
	if err != nil {
		return nil, err
	}
	go directory.Run(ctx)
	book, err := quarantine.New(quarantine.DefaultConfig(), store, registry, slog.Default())
	if err != nil {
		return nil, err
	}
	go book.Run(ctx)
	fleet, err := gateway.NewFleet(gateway.FleetConfig{Registerer: registry})
	if err != nil {
		return nil, err
	}
	fleet.Follow([]gateway.Member{{ID: "worker", Worker: worker}})
	config := gateway.DefaultConfig()
	config.Quarantine = book
	return gateway.New(config, fleet, directory, registry, slog.Default())
}

// storeWith is a store that knows one key, whose tenant has limits that it does not reach.
func storeWith(keyFile string) (memoryStore, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	key, err := identity.ParseKey(text)
	if err != nil {
		return nil, err
	}
	store := make(memoryStore)
	quota := lightcone.Quota{CallsPerSecond: 1e6, Burst: 1e6, ConcurrentCalls: 1e6, CPUPerMonth: 1e5 * time.Hour, BytesPerMonth: 1 << 60}
	for path, value := range map[string]any{
		identity.TenantPath("bench"): identity.Tenant{ID: "bench", Quota: quota},
		identity.KeyPath(key.ID()):   identity.Record{ID: key.ID(), Digest: key.Digest(), Tenant: "bench", Scopes: identity.Scopes{All: true}},
	} {
		if store[path], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	return store, nil
}

// gets says whether there is a page at url.
func gets(url string) bool {
	response, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}
