package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/functions/runtime"
	"lightcone/functions/wire"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// envMortal turns this test binary into a function whose process a call can end.
const envMortal = "LIGHTCONE_TEST_MORTAL"

// becomeMortalIfAsked is TestMain's beginning: the supervisors of a test start this
// executable, first to confine a process and then as the function in it.
func becomeMortalIfAsked() {
	runtime.BecomeFunctionIfAsked()
	if os.Getenv(envMortal) == "" {
		return
	}
	fmt.Fprintln(os.Stderr, functions.Serve(func(_ context.Context, r *http.Request, body []byte) (functions.Reply, error) {
		switch r.URL.RawQuery {
		case "die":
			os.Exit(7)
		case "hang":
			time.Sleep(time.Hour)
		}
		return functions.Reply{ContentType: "text/plain", Body: body}, nil
	}))
	os.Exit(1)
}

// host is a worker as it is in a region, but for the machine: a supervisor with
// confined processes, and both ends of the wire.
type host struct {
	id         string
	supervisor *runtime.Supervisor
	client     *wire.Client
}

// startHosts starts n workers of one slot each, and waits until they take calls.
func startHosts(t *testing.T, n int) []*host {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lc-") // t.TempDir's name is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // reachable for the user that processes run as
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	spec := functions.Spec{
		Name: "echo", Command: []string{executable}, Env: []string{envMortal + "=yes"},
		MemoryBytes: 512 << 20, DefaultTimeout: 5 * time.Second, MaxTimeout: 20 * time.Second, MaxBodyBytes: 1 << 20,
	}
	hosts := make([]*host, n)
	for i := range hosts {
		supervisor, err := runtime.Start(runtime.Config{
			Functions: []functions.Spec{spec}, Slots: 1, Dir: fmt.Sprint(dir, "/", i),
			Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := supervisor.Close(); err != nil {
				t.Error(err)
			}
		})
		hosts[i] = &host{id: fmt.Sprint("w", i), supervisor: supervisor, client: serveHost(t, supervisor)}
	}
	eventually(t, "all processes of all workers are warm", func() bool {
		return !slices.ContainsFunc(hosts, func(h *host) bool {
			return h.supervisor.Status()[0].Idle < 2 || h.client.Ready() != nil || h.client.Functions()[0].Slots == 0
		})
	})
	return hosts
}

// serveHost serves a supervisor on loopback until the test's end, and dials it.
func serveHost(t *testing.T, supervisor *runtime.Supervisor) *wire.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := wire.NewServer(wire.ServerConfig{Runner: supervisor, Logger: slog.New(slog.DiscardHandler), DrainNotice: time.Millisecond})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// A machine that tests share is not lost because it is late.
	client := wire.Dial(wire.ClientConfig{Address: listener.Addr().String(), LostAfter: 20 * time.Second})
	t.Cleanup(client.Close)
	return client
}

// outcomeCounts are what became of one tenant's calls.
type outcomeCounts struct {
	good, all atomic.Int64
	mu        sync.Mutex
	failures  map[problem.Kind]int
}

func (o *outcomeCounts) count(kind problem.Kind) {
	o.all.Add(1)
	if kind == "" {
		o.good.Add(1)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failures == nil {
		o.failures = make(map[problem.Kind]int)
	}
	o.failures[kind]++
}

// of is how many calls failed so.
func (o *outcomeCounts) of(kind problem.Kind) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failures[kind]
}

// problemIn is the kind of problem that was answered; "" = none.
func problemIn(t *testing.T, got *reply) problem.Kind {
	if got.status == http.StatusOK {
		return ""
	}
	var document document
	if err := json.Unmarshal([]byte(got.body), &document); err != nil {
		t.Errorf("%d %q is no document: %v", got.status, got.body, err)
	}
	return problem.Kind(strings.TrimPrefix(document.Type, "urn:lightcone:problem:"))
}

// TestATenantThatKillsEverySlotHurtsNobodyElse has 8 workers behind a gateway, and a
// tenant nobody has heard of, whose every call ends its process, and who calls without
// waiting for answers. Twenty others get theirs; and but for the calls that were under
// way before the first crash was known, processes have ended nowhere but in its shard.
func TestATenantThatKillsEverySlotHurtsNobodyElse(t *testing.T) {
	t.Run("by crashes", func(t *testing.T) { killSlots(t, "die", "5s", problem.FunctionCrashed) })
	t.Run("by deadlines", func(t *testing.T) { killSlots(t, "hang", "50ms", problem.DeadlineExceeded) })
}

// killSlots has the killer call with a query and a timeout that end each call as a kind
// of problem.
func killSlots(t *testing.T, query, timeout string, ends problem.Kind) {
	const (
		workers, others = 8, 20
		killer          = lightcone.TenantID("killer")
		each, enough    = 100, 20 // calls of each other, and of the killer's that cost a process
	)
	hosts := startHosts(t, workers)
	var members []Member
	var ids []string
	for _, h := range hosts {
		members, ids = append(members, Member{h.id, h.client}), append(ids, h.id)
	}
	rules := admission.DefaultConfig()
	rules.Breaker.CoolDown, rules.Breaker.MaxCoolDown = 20*time.Millisecond, 20*time.Millisecond // or the killer would soon be gone
	table, err := admission.NewTable(rules, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	f, err := NewFleet(FleetConfig{Registerer: registry, Confined: table.Confined})
	if err != nil {
		t.Fatal(err)
	}
	f.Follow(members)
	tenants := customers{killer: lightcone.Unlimited}
	for i := range others {
		tenants[lightcone.TenantID(fmt.Sprint("tenant-", i))] = lightcone.Unlimited
	}
	s := serveCallers(t, f, tenants, registry, func(c *Config) {
		c.Tenants = table
		c.MaxWait = 2 * time.Second // a machine that tests share may be late for all; this is about who is served
	})
	call := func(tenant lightcone.TenantID, query, timeout string) problem.Kind {
		got, err := s.send("POST", "/function/echo?"+query, strings.NewReader("input"), "Authorization", "Bearer "+string(tenant), "X-Timeout", timeout)
		if err != nil {
			t.Error(err)
			return problem.Internal
		}
		if got.status == http.StatusOK && got.body != "input" {
			t.Errorf("%s was answered %q", tenant, got.body)
		}
		return problemIn(t, got)
	}
	counts := make([]outcomeCounts, others)
	var killed outcomeCounts
	var kills, calls sync.WaitGroup
	stop := make(chan struct{})
	kills.Go(func() {
		for {
			select {
			case <-time.After(2 * time.Millisecond):
				kills.Go(func() { killed.count(call(killer, query, timeout)) })
			case <-stop:
				return
			}
		}
	})
	for i := range counts {
		calls.Go(func() {
			// However slow the machine, there are enough calls of both kinds.
			for counts[i].all.Load() < each || killed.of(ends) < enough {
				counts[i].count(call(lightcone.TenantID(fmt.Sprint("tenant-", i)), "", "5s"))
				time.Sleep(40 * time.Millisecond)
			}
		})
	}
	calls.Wait()
	close(stop)
	kills.Wait()

	var drawn shards
	shard := shardOf(&drawn, string(killer), ids)
	died := make(map[string]int64)
	for i, h := range hosts {
		crashes := h.supervisor.Status()[0].Crashes
		if crashes > 0 {
			died[h.id] = crashes
		}
		if most := int64(1); crashes > most && !slices.Contains(shard, i) { // one slot, and so one call under way
			t.Errorf("%d processes ended on %s; the killer's shard is %v", crashes, h.id, shard)
		}
	}
	good, all := int64(0), int64(0)
	for i := range others {
		good, all = good+counts[i].good.Load(), all+counts[i].all.Load()
		if yield := float64(counts[i].good.Load()) / float64(counts[i].all.Load()); yield < 0.999 {
			t.Errorf("the yield of tenant %d is %.5f: %v", i, yield, counts[i].failures)
		}
	}
	t.Logf("yield of the others: %.5f of %d calls; the killer's %d calls ended in %v; processes ended: %v",
		float64(good)/float64(all), all, killed.all.Load(), killed.failures, slices.Sorted(maps.Values(died)))
	if killed.good.Load() > 0 || killed.of(problem.LimitReached) == 0 {
		t.Errorf("of the killer's calls, %d were answered, and its breaker held back %d", killed.good.Load(), killed.of(problem.LimitReached))
	}
}
