package admission

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
)

func newTable(t testing.TB, most int) *Table {
	t.Helper()
	config := DefaultConfig()
	config.MaxTenants = most
	table, err := NewTable(config, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// fataler is what testing.T and rapid.T share.
type fataler interface{ Fatalf(string, ...any) }

// withinRate checks every window between two of the admitted calls' times.
func withinRate(t fataler, q lightcone.Quota, admitted []time.Duration) {
	for i := range admitted {
		for j := i; j < len(admitted); j++ {
			window := (admitted[j] - admitted[i]).Seconds()
			if most := float64(q.Burst) + q.CallsPerSecond*window; float64(j-i+1) > most+1e-6 {
				t.Fatalf("%d calls in %v s with the rate %v and the burst %d", j-i+1, window, q.CallsPerSecond, q.Burst)
			}
		}
	}
}

func drawRate(t *rapid.T) lightcone.Quota {
	q := lightcone.Unlimited
	q.CallsPerSecond = math.Exp(rapid.Float64Range(-5, 9).Draw(t, "log rate"))
	q.Burst = rapid.IntRange(1, 20).Draw(t, "burst")
	return q
}

// TestNeverAboveBurstAndRate: in any window, whenever calls come. And a token that
// was promised is there.
func TestNeverAboveBurstAndRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, err := NewTable(DefaultConfig(), epoch)
		if err != nil {
			t.Fatalf("%v", err)
		}
		q := drawRate(t)
		interval := 1 / q.CallsPerSecond
		if b, _ := bucketOf(&q); float64(b.interval)*q.CallsPerSecond < 1e9*(1-1e-12) {
			t.Fatalf("a token every %d ns is more than %v a second", b.interval, q.CallsPerSecond)
		}
		var now time.Duration
		var admitted []time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now += time.Duration(rapid.Float64Range(0, 3).Draw(t, "pause") * interval * float64(time.Second) * float64(rapid.IntRange(0, 1).Draw(t, "at all")))
			grant, refused := table.Admit("acme", &q, epoch.Add(now))
			if refused.Limit == "" {
				admitted = append(admitted, now)
				left := table.Settle(grant, Answered, lightcone.Usage{}, &q, epoch.Add(now))
				if left.Tokens < 0 || left.Tokens >= int64(q.Burst) || left.NextToken <= 0 {
					t.Fatalf("%+v left after a call", left)
				}
				continue
			}
			if refused.RetryAfter <= 0 || refused.RetryAfter.Seconds() > interval+1e-6 || refused.Standing.Tokens != 0 {
				t.Fatalf("refused for %v, with %+v left, at an interval of %v s", refused.RetryAfter, refused.Standing, interval)
			}
			if early := table.Peek("acme", &q, epoch.Add(now+refused.RetryAfter-1)); early.Limit == "" {
				t.Fatalf("there is a token before the %v that were told", refused.RetryAfter)
			}
			if late := table.Peek("acme", &q, epoch.Add(now+refused.RetryAfter)); late.Limit != "" {
				t.Fatalf("there is no token after the %v that were told", refused.RetryAfter)
			}
		}
		withinRate(t, q, admitted)
	})
}

// TestClockSetBackGivesNothing: however the clock goes back, no more calls are
// admitted than in the time it went forward, and the wait is that for one token.
func TestClockSetBackGivesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, err := NewTable(DefaultConfig(), epoch)
		if err != nil {
			t.Fatalf("%v", err)
		}
		q := drawRate(t)
		interval := time.Duration(math.Ceil(float64(time.Second) / q.CallsPerSecond))
		var now, forward time.Duration
		admitted := 0
		for range rapid.IntRange(1, 100).Draw(t, "calls") {
			step := time.Duration(rapid.Int64Range(-10*int64(interval), 3*int64(interval)).Draw(t, "step"))
			now += step
			forward += max(step, 0)
			_, refused := table.Admit("acme", &q, epoch.Add(now))
			if refused.Limit == "" {
				admitted++
			} else if refused.RetryAfter > interval {
				t.Fatalf("refused for %v, at an interval of %v", refused.RetryAfter, interval)
			}
			if most := float64(q.Burst) + q.CallsPerSecond*forward.Seconds(); float64(admitted) > most+1e-6 {
				t.Fatalf("%d calls, and at most %v in the %v that the clock went forward", admitted, most, forward)
			}
		}
	})
}

// TestOvertakenCallsGainNothing: calls come to the table out of order, as they do
// from many goroutines, and are admitted no more often for it.
func TestOvertakenCallsGainNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, err := NewTable(DefaultConfig(), epoch)
		if err != nil {
			t.Fatalf("%v", err)
		}
		q := drawRate(t)
		var latest time.Duration
		admitted := 0
		for range rapid.IntRange(1, 100).Draw(t, "calls") {
			now := latest + time.Duration(rapid.Int64Range(int64(-overtaking)+1, int64(overtaking)).Draw(t, "step"))
			latest = max(latest, now)
			if _, refused := table.Admit("acme", &q, epoch.Add(now)); refused.Limit == "" {
				admitted++
			}
			if most := float64(q.Burst) + q.CallsPerSecond*latest.Seconds(); float64(admitted) > most+1e-6 {
				t.Fatalf("%d calls, and at most %v in %v", admitted, most, latest)
			}
		}
	})
}

// TestStaleCallsGiveNothing: a call that read a monotonic clock long ago comes to the
// table, and time does not pass twice for it: neither in the calls that follow, nor
// when it comes again and again.
func TestStaleCallsGiveNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Now()
		table, err := NewTable(DefaultConfig(), began)
		if err != nil {
			t.Fatalf("%v", err)
		}
		q := drawRate(t)
		interval := time.Duration(math.Ceil(float64(time.Second) / q.CallsPerSecond))
		latest := time.Duration(0)
		admitted := 0
		call := func(at time.Duration) {
			if grant, refused := table.Admit("acme", &q, began.Add(at)); refused.Limit == "" {
				admitted++
				table.Settle(grant, Answered, lightcone.Usage{}, &q, began.Add(at))
			}
			if most := float64(q.Burst) + q.CallsPerSecond*latest.Seconds(); float64(admitted) > most+1e-6 {
				t.Fatalf("%d calls, and at most %v in %v", admitted, most, latest)
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "times") {
			latest += time.Duration(rapid.Int64Range(0, 3*int64(interval)).Draw(t, "step"))
			for range q.Burst + 1 { // there is no token left
				call(latest)
			}
			call(latest - time.Duration(rapid.Int64Range(0, 30*int64(interval)+int64(time.Minute)).Draw(t, "late by"))) // one stale call
			for range q.Burst + 1 {                                                                                     // then forward again
				call(latest)
			}
		}
	})
}

// TestSettlingBalances plays calls of a few tenants, with all limits: the bulkhead
// holds at every moment, and in the end nothing is in flight and the usage is the
// sum of what was settled. The region hears of all of it.
func TestSettlingBalances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, err := NewTable(DefaultConfig(), epoch)
		if err != nil {
			t.Fatalf("%v", err)
		}
		region := &ledger{totals: map[string]map[lightcone.TenantID]lightcone.Usage{}}
		loop := exchange{table: table, region: region, deadline: time.Second, most: rapid.IntRange(1, 4).Draw(t, "batch")}
		table.told.Store(true)
		q := lightcone.Unlimited
		q.ConcurrentCalls = rapid.IntRange(1, 4).Draw(t, "concurrent")
		if rapid.Bool().Draw(t, "a month's quota") {
			q.BytesPerMonth = 1 << 40
		}
		type running struct {
			id    lightcone.TenantID
			grant Grant
		}
		var calls []running
		inFlight := map[lightcone.TenantID]int{}
		used := map[lightcone.TenantID]int64{}
		at := epoch
		settle := func(i int) {
			call := calls[i]
			calls = append(calls[:i], calls[i+1:]...)
			inFlight[call.id]--
			n := rapid.Int64Range(0, 100).Draw(t, "bytes")
			used[call.id] += n
			outcome := Outcome(rapid.IntRange(int(Untold), int(Crashed)).Draw(t, "outcome"))
			left := table.Settle(call.grant, outcome, lightcone.Usage{BytesIn: n}, &q, at)
			if left.Free != int64(q.ConcurrentCalls-inFlight[call.id]) {
				t.Fatalf("%d free of %d with %d in flight", left.Free, q.ConcurrentCalls, inFlight[call.id])
			}
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "pause")) * time.Second) // months pass
			id := lightcone.TenantID(fmt.Sprint("t", rapid.IntRange(0, 3).Draw(t, "tenant")))
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				grant, refused := table.Admit(id, &q, at)
				switch {
				case refused.Limit == "":
					calls = append(calls, running{id, grant})
					if inFlight[id]++; inFlight[id] > q.ConcurrentCalls {
						t.Fatalf("%d calls at a time", inFlight[id])
					}
				case refused.Limit == ConcurrentCalls && inFlight[id] < q.ConcurrentCalls:
					t.Fatalf("refused with %d in flight", inFlight[id])
				}
			case 2:
				if len(calls) > 0 {
					settle(rapid.IntRange(0, len(calls)-1).Draw(t, "which"))
				}
			case 3:
				region.fail = rapid.SampledFrom([]string{"", "", "away", "lost", "partly"}).Draw(t, "fail")
				_ = loop.round(t.Context())
			}
		}
		for len(calls) > 0 {
			settle(0)
		}
		region.fail = ""
		for range 2 {
			if err := loop.round(t.Context()); err != nil {
				t.Fatalf("%v", err)
			}
		}
		told := map[lightcone.TenantID]int64{}
		for _, tenants := range region.totals {
			for id, total := range tenants {
				told[id] += bytesOf(total)
			}
		}
		for id, n := range used {
			if told[id] != n {
				t.Fatalf("%s used %d bytes, and the region heard of %d", id, n, told[id])
			}
		}
		if left := table.collect(100); len(left) > 0 && len(table.late) > 0 {
			t.Fatalf("still to be told: %+v", left)
		}
	})
}

// TestBreakerPromises: nothing is let through while it is open, one call at a time
// while it is half open, and it is not open for longer than MaxCoolDown.
func TestBreakerPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := DefaultBreakerRules()
		rules.Calls = rapid.IntRange(1, 32).Draw(t, "calls")
		rules.Crashes = rapid.IntRange(1, rules.Calls).Draw(t, "crashes")
		rules.Share = rapid.Float64Range(0, 0.99).Draw(t, "share")
		if err := rules.Validate(); err != nil {
			t.Fatalf("%v", err)
		}
		var b breaker
		now := int64(0)
		probes := 0
		var running []bool // whether each is a probe
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += int64(rapid.IntRange(-5, 20).Draw(t, "pause")) * int64(time.Second) / 10
			if len(running) > 0 && rapid.Bool().Draw(t, "settle") {
				probe := running[0]
				running = running[1:]
				outcome := Outcome(rapid.IntRange(int(Untold), int(Crashed)).Draw(t, "outcome"))
				open := b.trips > 0
				b.record(&rules, outcome, probe, now)
				if probe {
					probes--
					if closed := b.trips == 0; closed != (outcome == Answered) {
						t.Fatalf("closed: %v, after a probe that ended with %v", closed, outcome)
					}
				} else if open && b.trips == 0 && outcome == Crashed {
					t.Fatal("a crash closed it")
				}
				continue
			}
			b.forget(&rules, now)
			wait, probe := b.judge(&rules, now)
			switch {
			case wait > int64(rules.MaxCoolDown):
				t.Fatalf("open for %v", time.Duration(wait))
			case wait > 0 && probe:
				t.Fatal("a probe that has to wait")
			case wait > 0:
			default:
				if b.trips > 0 && !probe {
					t.Fatal("let through while it is open")
				}
				if probe {
					b.probing = true
					if probes++; probes > 1 {
						t.Fatalf("%d probes", probes)
					}
				}
				running = append(running, probe)
			}
		}
	})
}
