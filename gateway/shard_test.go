package gateway

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// shardOf is a tenant's shard among members, by their indices.
func shardOf(s *shards, tenant string, members []string) []int {
	set := uint64(0)
	var fingerprints []uint64
	for _, id := range members {
		fingerprints = append(fingerprints, fingerprint(id))
		set += weight(fingerprint(id), fingerprint(id))
	}
	least := s.draw(fingerprint(tenant), set, fingerprints)
	var shard []int
	for i, member := range fingerprints {
		if weight(fingerprint(tenant), member) >= least {
			shard = append(shard, i)
		}
	}
	return shard
}

func fleetOf(n int) []string {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint("worker-", i))
	}
	return ids
}

func TestShardSize(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 1, 2: 2, 3: 2, 4: 2, 8: 2, 12: 2, 13: 3, 18: 3, 40: 7, 100: 17} {
		if got := shardSize(n); got != want {
			t.Errorf("of %d members, %d are a shard, want %d", n, got, want)
		}
	}
}

// TestShardsAreDrawnApart draws the shards of many tenants. Every member is in as many
// as any other, and two tenants share as little as the arithmetic at shardSize says.
func TestShardsAreDrawnApart(t *testing.T) {
	const tenants = 20_000
	choices := func(n, k int) float64 {
		c := 1.0
		for i := range k {
			c *= float64(n-i) / float64(i+1)
		}
		return c
	}
	for _, n := range []int{8, 40} {
		var s shards
		members, k := fleetOf(n), shardSize(n)
		uses := make([]int, n)
		whole, none, common := 0, 0, 0
		var last []int
		for i := range tenants {
			shard := shardOf(&s, fmt.Sprint("tenant-", i), members)
			if len(shard) != k {
				t.Fatalf("a shard of %d members of %d, want %d", len(shard), n, k)
			}
			shared := 0
			for _, member := range shard {
				uses[member]++
				if slices.Contains(last, member) {
					shared++
				}
			}
			common += shared
			if shared == k {
				whole++
			}
			if shared == 0 {
				none++
			}
			last = shard
		}
		mean := float64(tenants*k) / float64(n)
		for member, got := range uses {
			if math.Abs(float64(got)-mean) > 5*math.Sqrt(mean) {
				t.Errorf("of %d members, number %d is in %d shards, the mean is %.0f", n, member, got, mean)
			}
		}
		t.Logf("%d members in shards of %d: two tenants share all with %.2g (want %.2g), none with %.3f (want %.3f), %.2f on average (want %.2f)",
			n, k, float64(whole)/tenants, 1/choices(n, k), float64(none)/tenants, choices(n-k, k)/choices(n, k), float64(common)/tenants, float64(k*k)/float64(n))
		near := func(what string, got int, probability float64) {
			want := probability * tenants
			if math.Abs(float64(got)-want) > 5*math.Sqrt(want)+1 {
				t.Errorf("%d members: %s: %d times of %d, want %.0f", n, what, got, tenants, want)
			}
		}
		near("all in common", whole, 1/choices(n, k))
		near("none in common", none, choices(n-k, k)/choices(n, k))
	}
}

// TestShardsStayWhenMembersChange removes members from a fleet and has others come:
// a shard loses only who is gone, and takes in only who is needed in their place.
func TestShardsStayWhenMembersChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shards
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9-]{1,8}`), 1, 60, rapid.ID).Draw(t, "members")
		tenant := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "tenant")
		named := func(members []string) (shard []string) {
			for _, i := range shardOf(&s, tenant, members) {
				shard = append(shard, members[i])
			}
			return shard
		}
		before := named(ids)
		if len(before) != shardSize(len(ids)) {
			t.Fatalf("a shard of %d of %d", len(before), len(ids))
		}
		shuffled := rapid.Permutation(ids).Draw(t, "order")
		other := named(shuffled)
		slices.Sort(other)
		if sorted := slices.Sorted(slices.Values(before)); !slices.Equal(sorted, other) {
			t.Fatalf("in another order, the shard is %v and not %v", other, sorted)
		}
		gone := rapid.SampledFrom(ids).Draw(t, "gone")
		after := named(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == gone }))
		kept := 0
		for _, id := range after {
			if slices.Contains(before, id) {
				kept++
			}
		}
		if lost := len(before) - kept; lost > 1 || lost == 1 && !slices.Contains(before, gone) && len(after) == len(before) {
			t.Fatalf("without %s, the shard is %v, and was %v", gone, after, before)
		}
	})
}

// TestTheGreatestWeightsAreTheShard compares the draw with a sorted list.
func TestTheGreatestWeightsAreTheShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shards
		tenant := rapid.Uint64().Draw(t, "tenant")
		members := rapid.SliceOfN(rapid.Uint64(), 0, 120).Draw(t, "members")
		var weights []uint64
		for _, member := range members {
			weights = append(weights, weight(tenant, member))
		}
		slices.Sort(weights)
		want := uint64(0)
		if n := len(weights); n > 0 {
			want = weights[n-shardSize(n)]
		}
		for range 2 { // the second time as remembered
			if got := s.draw(tenant, 1, members); got != want {
				t.Fatalf("the least weight is %x, want %x", got, want)
			}
		}
	})
}

// countingFleet is a fleet of workers that answer, and how often each was called.
func countingFleet(t *testing.T, n, slots int, confined func(lightcone.TenantID) bool) (*Fleet, []*script, *prometheus.Registry) {
	t.Helper()
	var scripts []*script
	for range n {
		scripts = append(scripts, newScript(slots, nil))
	}
	registry := prometheus.NewRegistry()
	f, err := NewFleet(FleetConfig{Registerer: registry, RoomWait: -1, Confined: confined})
	if err != nil {
		t.Fatal(err)
	}
	f.Follow(membersOf(scripts...))
	return f, scripts, registry
}

// TestATenantsCallsStayInItsShardWhileThereIsRoom sends calls one after the other.
func TestATenantsCallsStayInItsShardWhileThereIsRoom(t *testing.T) {
	f, scripts, _ := countingFleet(t, 8, 1, nil)
	for range 200 {
		call := newCall(patience)
		call.Tenant = "acme"
		if err := f.Run(call, &functions.Answer{}); err != nil {
			t.Fatal(err)
		}
	}
	used := 0
	for _, s := range scripts {
		if s.calls.Load() > 0 {
			used++
		}
	}
	if used != shardSize(8) {
		t.Errorf("%d workers were called, want %d", used, shardSize(8))
	}
}

// TestShardsBoundFailuresAndNotLoad has calls of one tenant hold every slot that they
// get: in good standing that is the whole fleet, confined it is the shard.
func TestShardsBoundFailuresAndNotLoad(t *testing.T) {
	const members, slots = 8, 2
	for _, confined := range []bool{false, true} {
		f, scripts, _ := countingFleet(t, members, slots, func(tenant lightcone.TenantID) bool { return confined && tenant == "acme" })
		gate, held := make(chan struct{}), make(chan error, members*slots)
		for _, s := range scripts {
			s.run = func(*functions.Call, *functions.Answer) error {
				s.calls.Add(1)
				<-gate
				return nil
			}
		}
		fit := members * slots
		if confined {
			fit = shardSize(members) * slots
		}
		holding := func() (sum int) {
			for _, s := range scripts {
				sum += int(s.calls.Load())
			}
			return sum
		}
		call := func(tenant lightcone.TenantID) error {
			c := newCall(patience)
			c.Tenant = tenant
			return f.Run(c, &functions.Answer{})
		}
		for i := range fit {
			go func() { held <- call("acme") }()
			eventually(t, "the call holds a slot", func() bool { return holding() == i+1 })
		}
		err := problem.Of(call("acme"))
		if isConfined := err.Err == errConfined; err.Kind != problem.Overloaded || isConfined != confined || confined && err.RetryAfter == 0 {
			t.Errorf("confined %v: one call more: %v, to come back after %v", confined, err, err.RetryAfter)
		}
		if holding() != fit {
			t.Errorf("confined %v: %d calls are with workers, want %d", confined, holding(), fit)
		}
		close(gate)
		for range fit {
			if err := <-held; err != nil {
				t.Errorf("confined %v: %v", confined, err)
			}
		}
		checkSettled(t, f)
	}
}

// TestAConfinedCallDoesNotWait: a gateway refuses it at once when its shard has no
// room, gives back its place among the running, and tells the scheduler nothing of it;
// others are served meanwhile.
func TestAConfinedCallDoesNotWait(t *testing.T) {
	f, scripts, _ := countingFleet(t, 8, 1, func(tenant lightcone.TenantID) bool { return tenant == "acme" })
	gate := make(chan struct{})
	for _, s := range scripts {
		s.run = func(call *functions.Call, answer *functions.Answer) error {
			if call.Tenant == "acme" {
				s.calls.Add(1)
				<-gate
			}
			return echo(call, answer)
		}
	}
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, f, registry)
	lane := (*g.lanes.Load())["echo"]
	run := func(tenant lightcone.TenantID) (bool, error) {
		c := &call{request: *newCall(patience), ticket: ticket{turn: make(chan struct{}, 1)}}
		c.request.Tenant, c.ticket.deadline = tenant, c.request.Deadline
		return g.run(c, lane)
	}
	held := make(chan error, 2)
	for i := range 2 {
		go func() {
			_, err := run("acme")
			held <- err
		}()
		eventually(t, "the call runs", func() bool { return lane.report().Running == i+1 })
	}
	eventually(t, "the shard is full", func() bool {
		sum := int64(0)
		for _, s := range scripts {
			sum += s.calls.Load()
		}
		return sum == 2
	})
	began := time.Now()
	for range 100 {
		if ran, err := run("acme"); ran || problem.Of(err).Kind != problem.Overloaded {
			t.Fatalf("a call of the confined tenant: ran %v, %v", ran, err)
		}
		if ran, err := run("other"); !ran || err != nil {
			t.Fatalf("a call of another: ran %v, %v", ran, err)
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("refusing took %v", took)
	}
	if demand := lane.demand(); demand.Running != 2 || demand.Waiting != 0 || demand.Refused != 0 {
		t.Errorf("the scheduler is told %+v", demand)
	}
	// With every slot taken by whomever, it does not get in line either.
	lane.mu.Lock()
	free := lane.queue.slots - lane.queue.running
	lane.queue.running = lane.queue.slots
	lane.mu.Unlock()
	if ran, err := run("acme"); ran || !errors.Is(err, errConfined) {
		t.Errorf("without a free slot: ran %v, %v", ran, err)
	}
	if got := gathered(t, registry, "lightcone_gateway_confined_total", map[string]string{"function": "echo"}); got != 101 {
		t.Errorf("%v refusals are counted, want those in the shard and the one in front of the line: 101", got)
	}
	for range free {
		lane.abandon()
	}
	if demand := lane.demand(); demand.Running != 2 || demand.Refused != 0 {
		t.Errorf("afterwards, the scheduler is told %+v", demand)
	}
	close(gate)
	for range 2 {
		if err := <-held; err != nil {
			t.Error(err)
		}
	}
}
