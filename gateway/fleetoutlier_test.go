package gateway

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// ejections is how often members have been set aside for a reason.
func ejections(t *testing.T, registry *prometheus.Registry, why reason) float64 {
	t.Helper()
	return gathered(t, registry, "lightcone_gateway_fleet_ejections_total", map[string]string{"reason": why.String()})
}

func ejected(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	return gathered(t, registry, "lightcone_gateway_fleet_members", map[string]string{"state": "ejected"})
}

// TestASlowWorkerIsSetAside has tenants with habits of their own: some ask for work
// of a millisecond, some for a second. Nobody is slow for that. Then the way to one
// worker becomes long, and after a while short again.
func TestASlowWorkerIsSetAside(t *testing.T) {
	const workers, tenants, slots = 6, 12, 8
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		var way atomic.Int64 // to the first worker
		counts := make([]atomic.Int64, workers)
		var members []Member
		for i := range workers {
			r := newRemote(slots, 0, nil)
			r.run = func(call *functions.Call, answer *functions.Answer) error {
				counts[i].Add(1)
				asked, err := time.ParseDuration(string(call.Query))
				if err != nil {
					return err
				}
				if i == 0 {
					time.Sleep(time.Duration(way.Load()))
				}
				time.Sleep(asked + time.Millisecond)
				answer.Status, answer.Exec = 200, asked
				return nil
			}
			members = append(members, Member{fmt.Sprint("w", i), r})
		}
		f, err := NewFleet(FleetConfig{Registerer: registry, Random: rand.New(rand.NewPCG(1, 2)).Uint64})
		if err != nil {
			t.Fatal(err)
		}
		f.Follow(members)
		var calls sync.WaitGroup
		habits := rand.New(rand.NewPCG(3, 4))
		play := func(length time.Duration) {
			for range length / (10 * time.Millisecond) {
				time.Sleep(10 * time.Millisecond)
				who := habits.IntN(tenants)
				calls.Go(func() {
					call := newCall(patience)
					call.Tenant = lightcone.TenantID(fmt.Sprint("tenant-", who))
					call.Query = []byte("1ms")
					if who%4 == 0 {
						call.Query = []byte("1s")
					}
					if err := f.Run(call, &functions.Answer{}); err != nil && problem.Of(err).Kind != problem.Overloaded {
						t.Error(err)
					}
				})
			}
		}
		play(30 * time.Second)
		if n := ejections(t, registry, asideSlow); n > 0 {
			t.Fatalf("%v workers were slow because of what calls asked for", n)
		}
		way.Store(int64(200 * time.Millisecond))
		play(15 * time.Second)
		if ejected(t, registry) != 1 || ejections(t, registry, asideSlow) == 0 || f.Functions()[0].Slots != (workers-1)*slots {
			t.Fatalf("with a worker 200 ms away, %v are set aside, and %d slots are in use", ejected(t, registry), f.Functions()[0].Slots)
		}
		before := counts[0].Load()
		play(30 * time.Second)
		if probes := counts[0].Load() - before; probes < 1 || probes > 10 {
			t.Errorf("the worker had %d calls in half a minute aside, want a few probes", probes)
		}
		way.Store(0)
		play(2 * time.Minute)
		before = counts[0].Load()
		play(10 * time.Second)
		if ejected(t, registry) != 0 || counts[0].Load()-before < 20 {
			t.Errorf("two minutes after it is well again, %v are set aside, and it had %d calls in 10 s", ejected(t, registry), counts[0].Load()-before)
		}
		if others := ejections(t, registry, asideCrashes) + ejections(t, registry, asideLosing); others > 0 {
			t.Errorf("%v members were set aside for another reason", others)
		}
		calls.Wait()
		checkSettled(t, f)
	})
}

// TestCrashesSetAWorkerAsideWhoeverCalls: on one worker every call crashes; a tenant
// crashes everywhere. The former is set aside, and nobody for the latter.
func TestCrashesSetAWorkerAsideWhoeverCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, scripts, registry := countingFleet(t, 6, 4, nil)
		for i, s := range scripts {
			s.run = func(call *functions.Call, answer *functions.Answer) error {
				s.calls.Add(1)
				if call.Tenant == "tenant-0" || i == 3 {
					return errCrash
				}
				return echo(call, answer)
			}
		}
		const all = 4000
		failed, sent := 0, 0
		for i := range all {
			time.Sleep(5 * time.Millisecond)
			call := newCall(patience)
			call.Tenant = lightcone.TenantID(fmt.Sprint("tenant-", i%20))
			err := f.Run(call, &functions.Answer{})
			if i%20 == 0 {
				continue
			}
			if sent++; err != nil {
				failed++
			}
		}
		// Aside for at least 2.5 s, then 5, then 10: a fourth time fits into these 20 s, a fifth does not.
		if n := ejections(t, registry, asideCrashes); n < 1 || n > 4 || !f.members[3].loads["echo"].health.aside || ejected(t, registry) != 1 {
			t.Errorf("set aside for crashes: %v times, now %v", n, ejected(t, registry))
		}
		if failed == 0 || failed > sent/50 {
			t.Errorf("%d of %d calls crashed on the bad worker", failed, sent)
		}
		tries := int64(0)
		for _, s := range scripts {
			tries += s.calls.Load()
		}
		if tries != all {
			t.Errorf("%d calls were tried %d times: a crash is the call's answer", all, tries)
		}
	})
}

// TestLosingWorkersAreSetAside: most of the workers lose what they are sent, though
// they say that they are ready. No more than a third is set aside, and the budget holds.
func TestLosingWorkersAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, scripts, registry := countingFleet(t, 9, 4, nil)
		for i, s := range scripts {
			if i < 5 {
				s.err = errGone
			}
		}
		const sent = 3000
		for i := range sent {
			time.Sleep(5 * time.Millisecond)
			call := newCall(patience)
			call.Tenant = lightcone.TenantID(fmt.Sprint("tenant-", i%50))
			_ = f.Run(call, &functions.Answer{})
		}
		if n := ejected(t, registry); n != 3 {
			t.Errorf("%v of 9 are set aside, want 3", n)
		}
		retried := gathered(t, registry, "lightcone_gateway_fleet_retries_total", nil)
		if retried < sent/20 || retried > sent/10+firstRetries {
			t.Errorf("%v of %d calls were retried", retried, sent)
		}
	})
}

// TestALostCallStaysInTheShardIfItCan loses calls with the first member that is asked:
// the second is the other of the shard, or, when that is full, any; unless the tenant
// is confined.
func TestALostCallStaysInTheShardIfItCan(t *testing.T) {
	for _, test := range []struct {
		full, confined bool
		want           problem.Kind
	}{{false, false, ""}, {true, false, ""}, {false, true, ""}, {true, true, problem.WorkerLost}} {
		f, scripts, _ := countingFleet(t, 8, 1, func(lightcone.TenantID) bool { return test.confined })
		var s shards
		var ids []string
		for _, m := range f.members {
			ids = append(ids, m.id)
		}
		shard := shardOf(&s, "acme", ids)
		gone, other := scripts[shard[0]], scripts[shard[1]]
		gone.err = errGone
		if test.full {
			f.members[shard[1]].loads["echo"].own = 1
		}
		for gone.calls.Load() == 0 { // until the choice falls on it
			before := other.calls.Load()
			call := newCall(patience)
			call.Tenant = "acme"
			err := f.Run(call, &functions.Answer{})
			if test.want == "" && err != nil || test.want != "" && problem.Of(err).Kind != test.want {
				t.Errorf("%+v: %v", test, err)
			}
			if stayed := other.calls.Load() > before; stayed == test.full {
				t.Errorf("%+v: the other member of the shard had the call: %v", test, stayed)
			}
		}
		outside := int64(0)
		for i, s := range scripts {
			if i != shard[0] && i != shard[1] {
				outside += s.calls.Load()
			}
		}
		if beyond := test.full && !test.confined; (outside > 0) != beyond {
			t.Errorf("%+v: %d calls left the shard", test, outside)
		}
	}
}
