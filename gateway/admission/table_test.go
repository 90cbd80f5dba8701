package admission

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"lightcone"
)

// generous limits everything, and refuses nothing in these tests.
var generous = lightcone.Quota{CallsPerSecond: 1e6, Burst: 1e6, ConcurrentCalls: 1e6, CPUPerMonth: 1e6 * time.Hour, BytesPerMonth: 1 << 50}

// called is one call of the tenant, from beginning to end.
func called(t testing.TB, table *Table, id lightcone.TenantID, at time.Time, outcome Outcome, used lightcone.Usage) {
	t.Helper()
	grant, refused := table.Admit(id, &generous, at)
	if refused.Limit != "" {
		t.Fatalf("%s is refused by %s", id, refused.Limit)
	}
	table.Settle(grant, outcome, used, &generous, at)
}

func TestAdmittingAllocatesNothing(t *testing.T) {
	table := newTable(t, 1000)
	table.told.Store(true)
	at := epoch
	used := lightcone.Usage{CPU: time.Millisecond, BytesIn: 1, BytesOut: 1}
	called(t, table, "acme", at, Crashed, used)
	scarce := generous
	scarce.CallsPerSecond, scarce.Burst = 1, 1
	allocations := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Millisecond)
		called(t, table, "acme", at, Answered, used)
		table.Peek("acme", &scarce, at)
		table.Admit("acme", &scarce, at)
		table.confined("acme", at)
	})
	if allocations != 0 {
		t.Errorf("%v allocations for a call", allocations)
	}
}

func BenchmarkAdmitAndSettle(b *testing.B) {
	table := newTable(b, 200_000)
	ids := make([]lightcone.TenantID, 1<<16)
	for i := range ids {
		ids[i] = lightcone.TenantID(fmt.Sprintf("tenant-%06d", i))
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			at := time.Now()
			grant, _ := table.Admit(ids[i&(len(ids)-1)], &generous, at)
			table.Settle(grant, Answered, lightcone.Usage{CPU: time.Millisecond}, &generous, at)
		}
	})
}

// TestTenantsAreSmall measures the heap with many tenants in the table. Their names are
// identity's, which has 440 of the 600 bytes that a tenant may take in a gateway.
func TestTenantsAreSmall(t *testing.T) {
	const tenants, most = 100_000, 140
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	table := newTable(t, 2*tenants)
	ids := make([]lightcone.TenantID, tenants)
	for i := range ids {
		ids[i] = lightcone.TenantID(fmt.Sprintf("a-tenant-of-some-length-%06d", i))
	}
	before := heap()
	for _, id := range ids {
		called(t, table, id, epoch, Answered, lightcone.Usage{CPU: time.Second})
	}
	each := float64(heap()-before) / tenants
	t.Logf("%.0f bytes a tenant", each)
	if each > most || each < 50 {
		t.Errorf("%.0f bytes a tenant: want up to %d", each, most)
	}
	if table.Len() != len(ids) {
		t.Errorf("%d tenants", table.Len())
	}
}

// TestForgettingStartsWithNothing fills a table of four: those of whom there is
// nothing to forget go first, and those with a call in flight never.
func TestForgettingStartsWithNothing(t *testing.T) {
	tenants := func(table *Table) string {
		var all []string
		for _, id := range []lightcone.TenantID{"idle", "busy", "crasher", "spender", "hasty", "new", "newer", "newest", "last"} {
			if table.shards[0].tenants[id] != nil {
				all = append(all, string(id))
			}
		}
		return strings.Join(all, " ")
	}
	slow := lightcone.Unlimited
	slow.CallsPerSecond, slow.Burst = 0.001, 1
	once := func(table *Table, id lightcone.TenantID, q lightcone.Quota, outcome Outcome, used lightcone.Usage) {
		grant, _ := table.Admit(id, &q, epoch)
		table.Settle(grant, outcome, used, &q, epoch)
	}
	busy := func(table *Table, id lightcone.TenantID) Grant {
		grant, _ := table.Admit(id, &lightcone.Unlimited, epoch)
		return grant
	}
	table := newTable(t, 5)
	table.told.Store(true)
	once(table, "idle", lightcone.Unlimited, Answered, lightcone.Usage{})
	held := busy(table, "busy")
	once(table, "crasher", lightcone.Unlimited, Crashed, lightcone.Usage{})
	once(table, "spender", lightcone.Unlimited, Answered, lightcone.Usage{CPU: 1})
	once(table, "hasty", slow, Answered, lightcone.Usage{})
	for _, step := range []struct {
		id        lightcone.TenantID
		want      string
		forgotten int64
	}{
		{"new", "busy crasher spender hasty new", 0},
		{"newer", "busy crasher spender new newer", 0},
		{"newest", "busy crasher new newer newest", 1},
		{"last", "busy new newer newest last", 1},
		{"idle", "idle busy new newer newest last", 1}, // all have calls in flight: there is no bound but theirs
	} {
		busy(table, step.id)
		if got := tenants(table); got != step.want || table.Forgotten() != step.forgotten {
			t.Errorf("after %s: %s, and %d whose usage was forgotten; want %s, and %d", step.id, got, table.Forgotten(), step.want, step.forgotten)
		}
	}
	table.Settle(held, Answered, lightcone.Usage{}, &lightcone.Unlimited, epoch)
}

// TestAMonthThatBeginsAgain: what is to be told of November is kept while December
// has begun, the tenant is forgotten, and the clock is set back to November.
func TestAMonthThatBeginsAgain(t *testing.T) {
	table := newTable(t, 1)
	table.told.Store(true)
	region := &ledger{totals: map[string]map[lightcone.TenantID]lightcone.Usage{}}
	loop := exchange{table: table, region: region, deadline: time.Second, most: 10}
	december := epoch.AddDate(0, 1, 0)
	once := func(id lightcone.TenantID, at time.Time, cpu time.Duration) {
		grant, _ := table.Admit(id, &lightcone.Unlimited, at)
		table.Settle(grant, Answered, lightcone.Usage{CPU: cpu}, &lightcone.Unlimited, at)
	}
	once("acme", epoch, 1)
	once("acme", december, 0)
	once("other", december, 0)
	if table.Len() != 1 || table.Forgotten() != 0 {
		t.Fatalf("%d tenants, %d forgotten with their usage", table.Len(), table.Forgotten())
	}
	once("acme", epoch, 2)
	for range 5 {
		if err := loop.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := region.totals["2026-11"]["acme"].CPU; got != 3 {
		t.Errorf("the region heard of %v, want 3ns", got)
	}
}

func TestTheTableIsBounded(t *testing.T) {
	table := newTable(t, 1000)
	for i := range 10_000 {
		called(t, table, lightcone.TenantID(fmt.Sprint("t", i)), epoch.Add(time.Duration(i)*time.Second), Answered, lightcone.Usage{})
	}
	if n := table.Len(); n > 1000+mostShards || n < 500 {
		t.Errorf("%d tenants are remembered, want about 1000", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	table := newTable(t, 100)
	table.told.Store(true)
	region := &ledger{totals: map[string]map[lightcone.TenantID]lightcone.Usage{}}
	loop := exchange{table: table, region: region, deadline: time.Second, most: 3}
	q := lightcone.Unlimited
	q.ConcurrentCalls, q.BytesPerMonth = 8, 1<<40
	const callers, each = 8, 2000
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := range each {
				id := lightcone.TenantID(fmt.Sprint("t", i%5))
				grant, refused := table.Admit(id, &q, epoch)
				if refused.Limit != "" {
					t.Errorf("refused by %s", refused.Limit)
					return
				}
				table.confined(id, epoch)
				table.Settle(grant, Answered, lightcone.Usage{BytesOut: 1}, &q, epoch)
			}
		})
	}
	for range 20 {
		if err := loop.round(t.Context()); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if err := loop.round(t.Context()); err != nil {
		t.Error(err)
	}
	total := int64(0)
	for _, used := range region.totals["2026-11"] {
		total += used.BytesOut
	}
	if total != callers*each {
		t.Errorf("the region heard of %d calls, want %d", total, callers*each)
	}
}

// TestOneTenantDoesNotHurtAnother: whatever one has used up or crashed, another's
// limits are its own.
func TestOneTenantDoesNotHurtAnother(t *testing.T) {
	table := newTable(t, 100)
	q := lightcone.Quota{CallsPerSecond: 1, Burst: 10, ConcurrentCalls: 10, CPUPerMonth: time.Second, BytesPerMonth: 10}
	refusals := map[Limit]int{}
	for i := range 1000 {
		grant, refused := table.Admit("greedy", &q, epoch)
		refusals[refused.Limit]++
		if refused.Limit == "" {
			table.Settle(grant, Crashed, lightcone.Usage{BytesIn: int64(i)}, &q, epoch)
		}
	}
	if refusals[""] != 5 || refusals[BytesPerMonth] != 995 {
		t.Errorf("the greedy tenant: %v", refusals)
	}
	for i := range q.ConcurrentCalls {
		if _, refused := table.Admit("modest", &q, epoch); refused.Limit != "" {
			t.Errorf("call %d of the modest tenant is refused by %s", i, refused.Limit)
		}
	}
	if table.confined("modest", epoch) || !table.confined("greedy", epoch) || table.confined("greedy", epoch.Add(2*time.Minute)) {
		t.Error("the wrong tenant is confined")
	}
}

// TestLooksAreNoCalls: they are bounded, take nothing of the quota, and keep their
// tenant from being forgotten.
func TestLooksAreNoCalls(t *testing.T) {
	table := newTable(t, 1)
	q := lightcone.Quota{CallsPerSecond: 1, Burst: 1, ConcurrentCalls: 1, CPUPerMonth: time.Second, BytesPerMonth: 10}
	var grants []Grant
	for i := range 3 {
		grant, free := table.Look("acme", 2, epoch)
		if free != (i < 2) {
			t.Errorf("look %d: %v", i, free)
		}
		if free {
			grants = append(grants, grant)
		}
	}
	call, refused := table.Admit("acme", &q, epoch)
	if refused.Limit != "" {
		t.Fatalf("a call beside two looks is refused by %s", refused.Limit)
	}
	table.Settle(call, Answered, lightcone.Usage{}, &q, epoch)
	if !grants[0].Hold(0, 10, 10) || grants[1].Hold(0, 1, 10) {
		t.Error("what looks hold is not counted together")
	}
	for range 100 {
		table.Admit("another", &q, epoch.Add(time.Hour)) // there is room for one tenant
	}
	grants[0].Release(10)
	table.Looked(grants[0])
	if _, free := table.Look("acme", 2, epoch); !free {
		t.Error("a look that has ended takes its place still")
	}
	table.Looked(grants[1])
}

// TestRecordedCallsCount: what ran later counts for the month and the breaker, and
// takes no place and no token.
func TestRecordedCallsCount(t *testing.T) {
	table := newTable(t, 100)
	q := lightcone.Quota{CallsPerSecond: 1, Burst: 1, ConcurrentCalls: 1, CPUPerMonth: time.Second, BytesPerMonth: 10}
	for range 4 {
		table.Record("acme", Crashed, lightcone.Usage{}, epoch)
	}
	table.Record("acme", Answered, lightcone.Usage{BytesIn: 4, BytesOut: 5}, epoch)
	if refused := table.Peek("acme", &q, epoch); refused.Limit != "" {
		t.Errorf("within all limits, a call is refused by %s", refused.Limit)
	}
	table.Record("acme", Crashed, lightcone.Usage{}, epoch)
	if refused := table.Peek("acme", &q, epoch); refused.Limit != Crashes {
		t.Errorf("after five crashes of six, a call is refused by %q", refused.Limit)
	}
	table.Record("acme", Untold, lightcone.Usage{BytesOut: 1}, epoch)
	if refused := table.Peek("acme", &q, epoch); refused.Limit != BytesPerMonth {
		t.Errorf("after the month's bytes, a call is refused by %q", refused.Limit)
	}
}

func TestBadConfigurationsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"MaxTenants":  func(c *Config) { c.MaxTenants = 0 },
		"Calls":       func(c *Config) { c.Breaker.Calls = 33 },
		"Crashes":     func(c *Config) { c.Breaker.Crashes = 21 },
		"Share":       func(c *Config) { c.Breaker.Share = 1 },
		"MaxCoolDown": func(c *Config) { c.Breaker.MaxCoolDown = 0 },
		"Memory":      func(c *Config) { c.Breaker.Memory = 0 },
	} {
		config := DefaultConfig()
		change(&config)
		if _, err := NewTable(config, epoch); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a bad %s: %v", want, err)
		}
	}
}
