package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/gateway/admission"
	"lightcone/identity"
	"lightcone/identity/edge"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// measureFrontDoor is (f): what it costs to know who calls and what they may, and
// what a gateway that asks costs beside one that does not.
func measureFrontDoor(ctx context.Context, s settings, r *report) error {
	r.heading("(f) front door: keys, limits and dispatch")
	if err := measureThreshold(ctx, s, r); err != nil {
		return err
	}
	return measureGateways(ctx, s, r)
}

const residents = 100_000 // tenants, with a key each

// measureThreshold measures authentication and admission in this process.
func measureThreshold(ctx context.Context, s settings, r *report) error {
	store, keys, err := newMemoryStore(residents)
	if err != nil {
		return err
	}
	stored := heap()
	directory, err := edge.New(edge.Config{Origin: store, OriginReadsPerSecond: 1e9, FreshFor: time.Hour, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	table, err := admission.NewTable(admission.DefaultConfig(), time.Now())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { directory.Run(ctx) })
	defer running.Wait()
	defer stop()
	pass := func(key []byte) error {
		tenant, quota, err := directory.Authorize(key, "resize")
		if err != nil {
			return err
		}
		grant, refusal := table.Admit(tenant, &quota, time.Now())
		if refusal != (admission.Refusal{}) {
			return fmt.Errorf("tenant %s is refused: %v", tenant, refusal)
		}
		table.Settle(grant, admission.Answered, lightcone.Usage{CPU: time.Millisecond, BytesIn: 1, BytesOut: 1}, &quota, time.Now())
		return nil
	}
	for _, key := range keys {
		if err := patiently(ctx, func() error { return pass(key) }); err != nil {
			return err
		}
	}
	resident := float64(heap()-stored) / residents
	// Memory's order would help to find what is known of a key; but the key itself has just been read.
	mathrand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i := range keys {
		keys[i] = bytes.Clone(keys[i])
	}
	const section = "front-door"
	r.add(section, "memory a tenant with one key: identity and limits", "bytes", "under 600", resident)
	authorize := func(key []byte) error {
		_, _, err := directory.Authorize(key, "resize")
		return err
	}
	digestOf := func(key []byte) error { _ = lightcone.DigestOf(key[len(key)-secretLength:]); return nil }
	var hit, cold, whole, digest, allocations []float64
	for range s.rounds {
		made := uint64(0)
		for _, measured := range []struct {
			keys [][]byte
			act  func([]byte) error
			into *[]float64
		}{{keys[:1000], authorize, &hit}, {keys, authorize, &cold}, {keys[:1000], pass, &whole}, {keys[:1000], digestOf, &digest}} {
			found, err := inTurn(measured.keys, 1<<20, measured.act)
			if err != nil {
				return err
			}
			*measured.into = append(*measured.into, found.cpu)
			made += found.allocations
		}
		allocations = append(allocations, float64(made))
	}
	r.add(section, "CPU to authorise a known key, 1000 in turn", "ns", "under 1000", hit...)
	r.add(section, "  of that, the SHA-256 of its secret", "ns", "", digest...)
	r.add(section, "  100000 in turn, out of the processor's caches", "ns", "under 1000", cold...)
	r.add(section, "CPU to authorise, admit and settle a call", "ns", "", whole...)
	r.add(section, "allocations of all these", "", "0", allocations...)
	return nil
}

// patiently tries for as long as the directory is still listing the keys there are:
// until then, it looks up only so many a second.
func patiently(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := try()
		if err == nil || problem.Of(err).Kind != problem.Overloaded {
			return err
		}
		if retry.Pause(ctx, 10*time.Millisecond) != nil {
			return err
		}
	}
}

const secretLength = 43 // characters, at the end of a key

// cost is what one operation takes.
type cost struct {
	cpu         float64 // nanoseconds, of this process: others may have the cores meanwhile
	allocations uint64
}

// inTurn measures act with each of the keys, if there are any, again and again.
func inTurn(keys [][]byte, operations int, act func([]byte) error) (cost, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, err := cpuOf(os.Getpid())
	if err != nil {
		return cost{}, err
	}
	for i := range operations {
		var key []byte
		if len(keys) > 0 {
			key = keys[i%len(keys)]
		}
		if err := act(key); err != nil {
			return cost{}, err
		}
	}
	ended, err := cpuOf(os.Getpid())
	runtime.ReadMemStats(&after)
	return cost{float64((ended - began).Nanoseconds()) / float64(operations), (after.Mallocs - before.Mallocs) / uint64(operations)}, err
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// memoryStore stands in for the store behind the cache: it is the cache that is
// measured.
type memoryStore map[string][]byte

var errFixed = errors.New("this store does not change")

func newMemoryStore(tenants int) (memoryStore, [][]byte, error) {
	store := make(memoryStore)
	var keys [][]byte
	for i := range tenants {
		key, err := identity.NewKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		id := lightcone.TenantID(fmt.Sprintf("tenant-%06d", i))
		quota := lightcone.Unlimited
		quota.CallsPerSecond, quota.Burst, quota.CPUPerMonth = 1e6, 1e6, 1e5*time.Hour
		for path, value := range map[string]any{
			identity.TenantPath(id):    identity.Tenant{ID: id, Name: "Tenant of a usual name", Quota: quota},
			identity.KeyPath(key.ID()): identity.Record{ID: key.ID(), Digest: key.Digest(), Tenant: id, Scopes: identity.Scopes{Functions: []lightcone.FunctionName{"resize"}}},
		} {
			if store[path], err = json.Marshal(value); err != nil {
				return nil, nil, err
			}
		}
		keys = append(keys, []byte(key.Text()))
	}
	return store, keys, nil
}

func (m memoryStore) Get(_ context.Context, path string) (document.Document, bool, error) {
	value, found := m[path]
	return document.Document{Path: path, Value: value, Version: 1}, found, nil
}

func (m memoryStore) Paths(_ context.Context, prefix string) (paths []string, err error) {
	for path := range m {
		if strings.HasPrefix(path, prefix) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func (m memoryStore) Commit(context.Context, ...document.Change) (uint64, error) { return 0, errFixed }

func (m memoryStore) Wait(ctx context.Context, _ string, _ uint64) (document.Document, bool, error) {
	<-ctx.Done()
	return document.Document{}, false, ctx.Err()
}

// measureGateways compares a gateway that knows callers, limits and a fleet, and one
// that lets everybody through to its only worker.
func measureGateways(ctx context.Context, s settings, r *report) error {
	costs, err := compareGateways(ctx, s, r, modeWhole, modeBare)
	if err != nil {
		return err
	}
	const section = "front-door"
	r.add(section, "gateway, 256 KB in: keys, limits, quarantine, fleet", "us", "", costs[0]...)
	r.add(section, "gateway without them", "us", "", costs[1]...)
	r.add(section, "with : without", "x", "at most 1.15", ratios(costs[0], costs[1])...)
	return nil
}

// compareGateways measures gateways, each a process, in front of the same worker: the
// CPU microseconds a call of each, by round.
func compareGateways(ctx context.Context, s settings, r *report, modes ...string) ([][]float64, error) {
	dir, err := os.MkdirTemp("", "lightcone-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(key.Text()), 0o600); err != nil {
		return nil, err
	}
	worker, address, err := startWorker(ctx, dir, keyFile, r.Cores)
	if err != nil {
		return nil, err
	}
	defer worker.stop()
	body := make([]byte, 256<<10)
	var contestants []*contestant
	for _, mode := range modes {
		c, err := startGateway(ctx, mode, address, keyFile, body)
		if err != nil {
			return nil, err
		}
		defer c.stop()
		contestants = append(contestants, c)
	}
	for range s.rounds {
		for _, c := range contestants {
			if err := c.measure(ctx, s, r.Cores); err != nil {
				return nil, err
			}
		}
	}
	var costs [][]float64
	for _, c := range contestants {
		costs = append(costs, c.cost)
	}
	return costs, nil
}

// startWorker starts `lightcone worker` with echo, and returns its address.
func startWorker(ctx context.Context, dir, keyFile string, slots int) (*child, string, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	manage, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	worker, err := startChild("bin/lightcone", nil, "worker", "--function", "echo", "--slots", fmt.Sprint(slots), "--listen", address,
		"--manage", manage, "--operator-key-file", keyFile, "--sockets", filepath.Join(dir, "sockets"))
	if err != nil {
		return nil, "", err
	}
	if err := worker.await(ctx, func() bool { return gets("http://" + address + "/readyz") }); err != nil {
		worker.stop()
		return nil, "", err
	}
	return worker, address, nil
}

// contestant is one of the gateways that are compared.
type contestant struct {
	*child
	address string
	message request
	cost    []float64 // CPU microseconds a call, by round
}

func startGateway(ctx context.Context, mode, worker, keyFile string, body []byte) (*contestant, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &contestant{}
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	if c.message, err = newRequest(c.address, "/function/echo?bytes=8192", string(text), body); err != nil {
		return nil, err
	}
	if c.child, err = startChild(self, []string{gatewayEnv + "=" + strings.Join([]string{mode, c.address, worker, keyFile}, ",")}); err != nil {
		return nil, err
	}
	if err := c.await(ctx, func() bool { return gets("http://" + c.address + "/readyz") }); err != nil {
		c.child.stop()
		return nil, err
	}
	return c, nil
}

func (c *contestant) stop() {
	c.child.stop()
	c.message.close()
}

func (c *contestant) measure(ctx context.Context, s settings, connections int) error {
	closedLoop(ctx, c.address, c.message, connections, s.duration/8, maxCalls) // warm
	before, err := cpuOf(c.pid())
	if err != nil {
		return err
	}
	seen := closedLoop(ctx, c.address, c.message, connections, s.duration/2, maxCalls)
	after, err := cpuOf(c.pid())
	if err = errors.Join(err, seen.check()); err != nil {
		return err
	}
	c.cost = append(c.cost, (after-before).Seconds()*1e6/float64(seen.answered.TotalCount()))
	return nil
}

// untilTerminated lets a served listener go on until this process is told to end.
func untilTerminated(listener net.Listener, serve func(net.Listener) error, shutdown func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(shutdown(context.Background()), <-ended)
	}
}
