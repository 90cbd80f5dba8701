package capacity_test

import (
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"lightcone/capacity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// with is the example demand with a change.
func with(change func(*capacity.Demand)) capacity.Demand {
	d := capacity.Example()
	change(&d)
	return d
}

func TestPlanServers(t *testing.T) {
	for _, test := range []struct {
		name    string
		demand  capacity.Demand
		servers int
		binding capacity.Binding
		because string // a part of it
	}{
		{"the design's region without headroom", with(func(d *capacity.Demand) { d.Headroom = 0 }), 32, capacity.BindingCPU, "1000 cores with 0 % headroom need 32 servers of 32 cores"},
		{"without headroom or racks", with(func(d *capacity.Demand) { d.Headroom, d.Racks = 0, 1 }), 32, capacity.BindingCPU, "need 32 servers"},
		{"20 % headroom, one rack", with(func(d *capacity.Demand) { d.Racks = 1 }), 38, capacity.BindingCPU, "need 38 servers"},
		{"in 4 racks", with(func(d *capacity.Demand) { d.Racks = 4 }), 40, capacity.BindingRacks, "38 servers are needed (by CPU), and 4 racks hold them as 40"},
		{"in 5 racks", with(func(d *capacity.Demand) { d.Racks = 5 }), 40, capacity.BindingRacks, ""},
		{"in 8 racks", with(func(d *capacity.Demand) { d.Racks = 8 }), 40, capacity.BindingRacks, ""},
		{"in 10 racks", with(func(d *capacity.Demand) { d.Racks = 10 }), 40, capacity.BindingRacks, ""},
		{"a tenth of the CPU, as Lightcone's resize needs", with(func(d *capacity.Demand) { d.CPUMillis = 10 }), 4, capacity.BindingCPU, "100 cores"},
		{"few calls", with(func(d *capacity.Demand) { d.CallsPerSecond = 1 }), 4, capacity.BindingMinimum, "each of the 4 racks has a server, where 1 would do"},
		{"memory for 15 slots and a spare", with(func(d *capacity.Demand) { d.ServerMemoryMB, d.Racks = 1280, 1 }), 80, capacity.BindingMemory, "hold 15 slots and a spare"},
		{"memory to fit exactly", with(func(d *capacity.Demand) { d.ServerMemoryMB, d.Racks = 33*80, 1 }), 38, capacity.BindingCPU, ""},
		{"large bodies", with(func(d *capacity.Demand) { d.BodyInKB, d.Racks = 10_000, 1 }), 96, capacity.BindingNetwork, "800 Gbit/s"},
		{"large answers", with(func(d *capacity.Demand) { d.BodyOutKB, d.Racks = 10_000, 1 }), 96, capacity.BindingNetwork, ""},
		{"no server for a rounding error", with(func(d *capacity.Demand) {
			d.CallsPerSecond, d.CPUMillis, d.CoresPerServer, d.Headroom, d.Racks = 1000, 10, 1, 0.1, 1
			d.BodyInKB = 0
		}), 11, capacity.BindingCPU, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := capacity.Plan(test.demand)
			if err != nil {
				t.Fatal(err)
			}
			if got.Servers != test.servers || got.Binding != test.binding || !strings.Contains(got.Because, test.because) {
				t.Errorf("got %d servers, %s: %s; want %d, %s, %q in it", got.Servers, got.Binding, got.Because, test.servers, test.binding, test.because)
			}
		})
	}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-6*max(1, math.Abs(want)) }

func TestPlanRest(t *testing.T) {
	got, err := capacity.Plan(with(func(d *capacity.Demand) { d.QueueShare = 0.1 }))
	if err != nil {
		t.Fatal(err)
	}
	if got.Workers != 40 || got.SlotsPerWorker != 32 || got.Slots != 1280 || got.Processes != 1320 {
		t.Errorf("workers, slots and processes: %+v", got)
	}
	// 10 000/s × (265 + 12) KB × 8 = 22.16 Gbit/s each way, with headroom 26.6: three
	// links, but four racks.
	if got.Gateways != 4 {
		t.Errorf("%d gateways, want 4", got.Gateways)
	}
	for _, figure := range []struct {
		name      string
		got, want float64
	}{
		{"cores", got.Cores, 1000},
		{"memory of a server", got.MemoryPerServerMB, 2640},
		{"network in", got.NetworkInGbps, 21.2},
		{"network out", got.NetworkOutGbps, 0.96},
		{"a gateway's in", got.GatewayInGbps, 5.3},
		{"a gateway's out", got.GatewayOutGbps, 0.24},
		{"queue", got.QueueMBps, 1000 * 0.277 * 3},
		// 40×32 + 4×4 cores × 0.04 × 730, and 315 360 GB at 0.05.
		{"a month", got.MonthlyPrice, 37_843.2 + 15_768},
		{"a million calls", got.PricePerMillion, 53_611.2 / 26_280},
		{"a rack lost", got.RackLost, 0.96},
	} {
		if !near(figure.got, figure.want) {
			t.Errorf("%s: %v, want %v", figure.name, figure.got, figure.want)
		}
	}
	if got.SurvivesRackLoss {
		t.Error("960 of 1000 cores are not enough")
	}
	perServer, err := capacity.Plan(with(func(d *capacity.Demand) { d.PricePerServerMonth, d.PricePerGB = 320, 0 }))
	if err != nil || !near(perServer.MonthlyPrice, 40*320+4*40) {
		t.Errorf("by the server: %v, %v", perServer.MonthlyPrice, err)
	}
}

func TestRackLost(t *testing.T) {
	for _, test := range []struct {
		name     string
		demand   capacity.Demand
		left     float64
		survives bool
	}{
		{"one rack", with(func(d *capacity.Demand) { d.Racks = 1 }), 0, false},
		{"two racks and 20 %", with(func(d *capacity.Demand) { d.Racks = 2 }), 0.608, false},
		{"the gateways' links are what is missing", with(func(d *capacity.Demand) { d.Racks, d.Headroom = 2, 0.8 }), 20 / 22.16, false},
		{"five racks and 25 %", with(func(d *capacity.Demand) { d.Racks, d.Headroom = 5, 0.25 }), 1.024, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := capacity.Plan(test.demand)
			if err != nil || !near(got.RackLost, test.left) || got.SurvivesRackLoss != test.survives {
				t.Errorf("got %v, %v (%v); want %v, %v", got.RackLost, got.SurvivesRackLoss, err, test.left, test.survives)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, test := range []struct {
		change func(*capacity.Demand)
		says   string
	}{
		{func(d *capacity.Demand) { d.CallsPerSecond = 0 }, "the rate is 0: want more than 0 and at most 1e+09 calls/s"},
		{func(d *capacity.Demand) { d.CallsPerSecond = math.NaN() }, "the rate is NaN"},
		{func(d *capacity.Demand) { d.CallsPerSecond = math.Inf(1) }, "the rate is +Inf"},
		{func(d *capacity.Demand) { d.CPUMillis = -1 }, "the CPU time per call is -1"},
		{func(d *capacity.Demand) { d.CoresPerServer = 0 }, "the cores per server is 0: want 1 to 4096 cores"},
		{func(d *capacity.Demand) { d.Headroom = 20 }, "the headroom is 20: want 0 to 10 of the demand (0.2 is 20 %)"},
		{func(d *capacity.Demand) { d.Racks = 0 }, "the number of racks is 0"},
		{func(d *capacity.Demand) { d.BodyInKB = -1 }, "the body in is -1"},
		{func(d *capacity.Demand) { d.BodyOutKB = 1e7 }, "the body out is 1e+07"},
		{func(d *capacity.Demand) { d.SlotMemoryMB = -1 }, "the memory of a slot"},
		{func(d *capacity.Demand) { d.ServerMemoryMB = -1 }, "the memory of a server"},
		{func(d *capacity.Demand) { d.ServerMemoryMB = 159 }, "a server's 159 MB have no room for a slot of 80 MB and the spare"},
		{func(d *capacity.Demand) { d.NetworkGbps = 0 }, "the network of a server"},
		{func(d *capacity.Demand) { d.GatewayCPUMillis = 0 }, "the gateway's CPU time"},
		{func(d *capacity.Demand) { d.GatewayCores = 0 }, "the cores per gateway"},
		{func(d *capacity.Demand) { d.QueueShare = 1.5 }, "the queue's share is 1.5: want 0 to 1 of the calls"},
		{func(d *capacity.Demand) { d.QueueReplicas = 0 }, "the queue's replicas"},
		{func(d *capacity.Demand) { d.PricePerCoreHour = -1 }, "the price per core-hour"},
		{func(d *capacity.Demand) { d.PricePerServerMonth = -1 }, "the price per server-month"},
		{func(d *capacity.Demand) { d.PricePerGB = -1 }, "the price per GB"},
	} {
		t.Run(test.says, func(t *testing.T) {
			if _, err := capacity.Plan(with(test.change)); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it said %v, want %q in it", err, test.says)
			}
		})
	}
}

// drawDemand draws a usable demand.
func drawDemand(t *rapid.T) capacity.Demand {
	return capacity.Demand{
		CallsPerSecond:      rapid.Float64Range(0.01, 1e6).Draw(t, "rate"),
		CPUMillis:           rapid.Float64Range(0.01, 10_000).Draw(t, "cpu"),
		CoresPerServer:      rapid.IntRange(1, 256).Draw(t, "cores"),
		Headroom:            rapid.Float64Range(0, 3).Draw(t, "headroom"),
		Racks:               rapid.IntRange(1, 40).Draw(t, "racks"),
		BodyInKB:            rapid.Float64Range(0, 20_000).Draw(t, "in"),
		BodyOutKB:           rapid.Float64Range(0, 20_000).Draw(t, "out"),
		SlotMemoryMB:        rapid.Float64Range(0, 1000).Draw(t, "slot"),
		ServerMemoryMB:      rapid.SampledFrom([]float64{0, 2000, 16_000, 256_000}).Draw(t, "memory"),
		NetworkGbps:         rapid.Float64Range(1, 100).Draw(t, "network"),
		GatewayCPUMillis:    rapid.Float64Range(0.01, 10).Draw(t, "gateway"),
		GatewayCores:        rapid.IntRange(1, 64).Draw(t, "gateway cores"),
		QueueShare:          rapid.Float64Range(0, 1).Draw(t, "share"),
		QueueReplicas:       rapid.IntRange(1, 5).Draw(t, "replicas"),
		PricePerCoreHour:    rapid.Float64Range(0, 1).Draw(t, "core-hour"),
		PricePerServerMonth: rapid.SampledFrom([]float64{0, 100, 2000}).Draw(t, "server-month"),
		PricePerGB:          rapid.Float64Range(0, 1).Draw(t, "GB"),
	}
}

func mustPlan(t *rapid.T, d capacity.Demand) capacity.Sizing {
	s, err := capacity.Plan(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlanCarriesTheDemand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		s := mustPlan(t, d)
		const enough = 1 + 1e-6
		asked := 1 + d.Headroom
		carries := func(servers int) bool {
			return float64(servers*s.SlotsPerWorker)*enough >= s.Cores*asked &&
				float64(servers)*d.NetworkGbps*enough >= max(s.NetworkInGbps, s.NetworkOutGbps)*asked
		}
		if !carries(s.Servers) {
			t.Errorf("%d servers do not carry it: %+v", s.Servers, s)
		}
		if fewer := s.Servers - d.Racks; fewer > 0 && carries(fewer) && float64(fewer*s.SlotsPerWorker) > s.Cores*asked*enough &&
			float64(fewer)*d.NetworkGbps > max(s.NetworkInGbps, s.NetworkOutGbps)*asked*enough {
			t.Errorf("%d servers would carry it too, not %d", fewer, s.Servers)
		}
		if s.Servers%d.Racks != 0 || s.Servers < d.Racks || s.Gateways%d.Racks != 0 || s.Gateways < d.Racks {
			t.Errorf("not whole racks: %+v", s)
		}
		if d.ServerMemoryMB > 0 && s.MemoryPerServerMB > d.ServerMemoryMB*enough {
			t.Errorf("the slots do not fit into memory: %+v", s)
		}
		if float64(s.Gateways*d.GatewayCores)*enough < d.CallsPerSecond*d.GatewayCPUMillis/1000*asked ||
			float64(s.Gateways)*d.NetworkGbps*enough < (s.NetworkInGbps+s.NetworkOutGbps)*asked {
			t.Errorf("%d gateways do not carry it", s.Gateways)
		}
		if s.SurvivesRackLoss != (s.RackLost >= 1-1e-9) || s.Because == "" || !strings.HasSuffix(s.Because, ".") {
			t.Errorf("what it says of itself: %+v", s)
		}
	})
}

func TestMoreDemandIsNeverFewer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		more := d
		factor := rapid.Float64Range(1, 10).Draw(t, "factor")
		switch rapid.SampledFrom([]string{"rate", "cpu", "headroom", "in", "out"}).Draw(t, "what") {
		case "rate":
			more.CallsPerSecond *= factor
		case "cpu":
			more.CPUMillis *= factor
		case "headroom":
			more.Headroom *= factor / 4
			more.Headroom = max(d.Headroom, more.Headroom)
		case "in":
			more.BodyInKB *= factor
		case "out":
			more.BodyOutKB *= factor
		}
		small, large := mustPlan(t, d), mustPlan(t, more)
		if large.Servers < small.Servers || large.Gateways < small.Gateways || large.Slots < small.Slots || large.MonthlyPrice < small.MonthlyPrice*(1-1e-9) || large.QueueMBps < small.QueueMBps {
			t.Errorf("%+v is smaller than %+v", large, small)
		}
	})
}
