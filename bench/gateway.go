package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions/wire"
	"lightcone/gateway"
	"lightcone/gateway/admission"
	"lightcone/gateway/quarantine"
	"lightcone/identity"
	"lightcone/identity/edge"
	"lightcone/usage"
)

// gatewayEnv makes this program one of the gateways that are compared:
// MODE,ADDRESS,WORKER,KEYFILE.
const gatewayEnv = "LIGHTCONE_BENCH_GATEWAY"

const (
	modeWhole    = "whole"    // as `lightcone gateway` has it, but for a ledger of what calls use
	modeRecorded = "recorded" // with a ledger, in a folder beside the key
	modeBare     = "bare"     // everybody may call, and there is one worker to send a call to
)

// serveGateway is the process of one gateway.
func serveGateway(text string) error {
	words := strings.Split(text, ",")
	if len(words) != 4 {
		return fmt.Errorf("%s is %q: want MODE,ADDRESS,WORKER,KEYFILE", gatewayEnv, text)
	}
	mode, address, workerAddress, keyFile := words[0], words[1], words[2], words[3]
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if mode != modeBare {
		return serveWhole(listener, workerAddress, keyFile, mode == modeRecorded)
	}
	worker := wire.Dial(wire.ClientConfig{Address: workerAddress})
	defer worker.Close()
	door, err := gateway.New(gateway.DefaultConfig(), worker, everybody{}, prometheus.NewRegistry(), slog.Default())
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

func (everybody) Identify([]byte) (lightcone.TenantID, error) { return "bench", nil }

// fleetSize is how many members the gateway's fleet has; they are one worker, for the
// two cores would be too few for more.
const fleetSize = 8

// serveWhole serves a gateway with all that `lightcone gateway` has; what is behind
// its caches is in memory, and hardly asked.
func serveWhole(listener net.Listener, workerAddress, keyFile string, recorded bool) error {
	registry := prometheus.NewRegistry()
	store, err := storeWith(keyFile)
	if err != nil {
		return err
	}
	directory, err := edge.New(edge.Config{Origin: store, Logger: slog.Default(), Metrics: registry})
	if err != nil {
		return err
	}
	book, err := quarantine.New(quarantine.DefaultConfig(), store, registry, slog.Default())
	if err != nil {
		return err
	}
	table, err := admission.NewTable(admission.DefaultConfig(), time.Now())
	if err != nil {
		return err
	}
	following := admission.DefaultFollowConfig()
	following.Registerer, following.Logger = registry, slog.Default()
	follower, err := admission.Follow(table, region{}, following)
	if err != nil {
		return err
	}
	fleet, err := gateway.NewFleet(gateway.FleetConfig{Registerer: registry, Confined: table.Confined})
	if err != nil {
		return err
	}
	var members []gateway.Member
	for i := range fleetSize {
		worker := wire.Dial(wire.ClientConfig{Address: workerAddress})
		defer worker.Close()
		members = append(members, gateway.Member{ID: fmt.Sprint("worker-", i), Worker: worker})
	}
	fleet.Follow(members)
	config := gateway.DefaultConfig()
	config.Quarantine, config.Tenants = book, table
	var ledger *usage.Ledger
	if recorded {
		ledger, err = usage.Open(context.Background(), usage.Config{
			Dir: filepath.Join(filepath.Dir(keyFile), "usage"), Node: "bench", Logger: slog.Default(), Metrics: registry,
		})
		if err != nil {
			return err
		}
		config.Ledger = ledger
	}
	door, err := gateway.New(config, fleet, directory, registry, slog.Default())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { directory.Run(ctx) })
	running.Go(func() { book.Run(ctx) })
	err = untilTerminated(listener, door.Serve, door.Shutdown)
	stop()
	running.Wait()
	if ledger != nil {
		err = errors.Join(err, ledger.Stop(context.Background()))
	}
	return errors.Join(err, follower.Close(context.Background()))
}

// region adds up what its only gateway has used. One goroutine uses it.
type region map[lightcone.TenantID]lightcone.Usage

func (r region) Exchange(_ context.Context, _ string, spent map[lightcone.TenantID]lightcone.Usage) (map[lightcone.TenantID]lightcone.Usage, error) {
	totals := make(map[lightcone.TenantID]lightcone.Usage, len(spent))
	for id, used := range spent {
		had := r[id]
		r[id] = lightcone.Usage{CPU: had.CPU + used.CPU, BytesIn: had.BytesIn + used.BytesIn, BytesOut: had.BytesOut + used.BytesOut}
		totals[id] = r[id]
	}
	return totals, nil
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
