package edge

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone/consul"
	"lightcone/internal/document"
	"lightcone/internal/testbed"
)

func inConsul(t testing.TB, server *testbed.Consul, stale bool) document.Store {
	t.Helper()
	client, err := consul.Connect(consul.Config{Address: server.Address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return consul.NewDocuments(client, "lightcone/identity/", stale)
}

// callers are those with known keys who call all the time.
type callers struct {
	calls, failed atomic.Int64
	slowest       atomic.Int64
	stop          context.CancelFunc
	running       sync.WaitGroup
}

func call(t testing.TB, d *Directory, known []customer) *callers {
	ctx, cancel := context.WithCancel(context.Background())
	c := &callers{stop: cancel}
	for caller := range 2 {
		c.running.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := caller; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				began := time.Now()
				if got := says(d, known[i%len(known)].key.Text()); got != "ok" {
					c.failed.Add(1)
					t.Errorf("a known key: %s", got)
				}
				c.took(time.Since(began))
				c.calls.Add(1)
			}
		})
	}
	t.Cleanup(c.end)
	return c
}

func (c *callers) took(d time.Duration) {
	for was := c.slowest.Load(); int64(d) > was && !c.slowest.CompareAndSwap(was, int64(d)); {
		was = c.slowest.Load()
	}
}

func (c *callers) end() { c.stop(); c.running.Wait() }

// TestDrill takes away the master of Redis, then all of Redis, then Consul, with
// callers calling all the time.
func TestDrill(t *testing.T) {
	t.Parallel()
	redis, server := startRedis(t), testbed.StartConsul(t, testbed.ConsulConfig{})
	o := &operator{t: t, store: inConsul(t, server, false)}
	announcer := NewAnnouncer(connect(t, redis))
	const freshFor = 3 * time.Second // so that the drill sees what is stale
	d := start(t, Config{Origin: inConsul(t, server, true), Redis: connect(t, redis), FreshFor: freshFor})
	var known, doomed []customer
	for i := range 20 {
		known = append(known, o.customer(tenantID(i)))
	}
	for i := range 4 {
		doomed = append(doomed, o.customer(tenantID(100+i)))
	}
	for _, c := range append(doomed, known...) {
		expect(t, d, c, "ok", "at first")
	}
	load := call(t, d, known)
	bound := 2 * time.Second
	state := func(name string, announce bool, c customer) {
		t.Helper()
		changed := o.revoke(c)
		if announce {
			if err := announcer.Announce(t.Context(), changed); err != nil {
				t.Logf("%s: the announcement failed: %v", name, err)
			}
		}
		took := eventually(t, bound, name+": the revoked key is refused", func() bool { return says(d, c.key.Text()) == "unauthenticated" })
		t.Logf("%s: revoked after %v; %d calls, %d failed, the slowest %v", name, took, load.calls.Load(), load.failed.Load(), time.Duration(load.slowest.Load()))
	}
	state("all is well", true, doomed[0])
	redis.Master().Kill()
	state("the master of Redis is killed", true, doomed[1])
	redis.Master()
	eventually(t, 20*time.Second, "another master can be told", func() bool {
		return announcer.Announce(t.Context(), []document.Document{{Path: "keys/none", Version: 1}}) == nil
	})
	redis.KillAll()
	state("all of Redis is killed", true, doomed[2])
	server.Kill()
	away := load.calls.Load()
	eventually(t, 20*time.Second, "calls of several times FreshFor without any store", func() bool {
		return time.Duration(d.clock.now()-d.trail.readAt.Load()) > 3*freshFor && load.calls.Load() > away+1000
	})
	for _, c := range doomed[:3] {
		expect(t, d, c, "unauthenticated", "without any store, a key that was revoked before")
	}
	expect(t, d, doomed[3], "ok", "without any store, a key that nobody can revoke now")
	t.Logf("Consul is killed, too: %d calls, %d failed, the slowest %v", load.calls.Load(), load.failed.Load(), time.Duration(load.slowest.Load()))
	server.Restart()
	bound = 5 * time.Second // it may be a while until the trail is asked for again
	state("Consul is back", false, doomed[3])
	late := o.customer("late")
	eventually(t, 20*time.Second, "a new key works when Consul is back", func() bool { return says(d, late.key.Text()) == "ok" })
	redis.RestartAll()
	eventually(t, 20*time.Second, "Redis can be told", func() bool {
		return announcer.Announce(t.Context(), []document.Document{{Path: "keys/none", Version: 2}}) == nil
	})
	load.end()
	if load.failed.Load() != 0 {
		t.Errorf("%d of %d calls failed", load.failed.Load(), load.calls.Load())
	}
}

// A frozen master answers nothing and closes nothing.
func TestAFrozenRedisHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	store := onFile(t)
	o := &operator{t: t, store: store.Store}
	d := start(t, Config{Origin: store, Redis: connect(t, redis), FreshFor: time.Second})
	known, other := o.customer("known"), o.customer("other")
	expect(t, d, known, "ok", "at first")
	load := call(t, d, []customer{known})
	redis.Master().Freeze()
	began := time.Now()
	expect(t, d, other, "ok", "a key that was not seen before")
	if took := time.Since(began); took > 2*loadTimeout {
		t.Errorf("it took %v", took)
	}
	redis.Master()
	made := o.customer("made")
	expect(t, d, made, "ok", "a key made since")
	o.revoke(known)
	load.end()
	eventually(t, 2*time.Second, "the revoked key is refused", func() bool { return says(d, known.key.Text()) == "unauthenticated" })
	if slowest := time.Duration(load.slowest.Load()); slowest > loadTimeout {
		t.Errorf("a call with a known key took %v", slowest)
	}
}

func TestConfigurationsThatCannotBeUsed(t *testing.T) {
	store := onFile(t)
	for name, c := range map[string]Config{
		"no origin":         {},
		"no logger":         {Origin: store},
		"stale before old":  {Origin: store, Logger: slog.Default(), Metrics: newDirectory(t, Config{Origin: store}).config.Metrics, FreshFor: time.Hour, StaleFor: time.Minute},
		"less than one key": {Origin: store, Logger: slog.Default(), Metrics: newDirectory(t, Config{Origin: store}).config.Metrics, MostKeys: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, c := range map[string]RedisConfig{"no master": {Logger: slog.Default()}, "no logger": {Master: "m"}} {
		if _, err := Connect(c, time.Hour); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
