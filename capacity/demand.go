package capacity

import (
	"fmt"
	"math"
)

// Demand is what is asked of a region, and what it may be built from.
type Demand struct {
	// CallsPerSecond is the rate to carry, above 0, at most 10⁹.
	CallsPerSecond float64 `json:"calls_per_second"`
	// CPUMillis is the CPU time of one call in its function, in milliseconds:
	// the "cpu" of Server-Timing. Above 0, at most 600 000.
	CPUMillis float64 `json:"cpu_ms_per_call"`
	// CoresPerServer is how many cores a worker's server has: 1 to 4096.
	CoresPerServer int `json:"cores_per_server"`
	// Headroom is what is kept free for bursts and failures, as a fraction of
	// the demand: 0 to 10.
	Headroom float64 `json:"headroom"`
	// Racks is how many parts of the region fail apart: 1 to 1000.
	Racks int `json:"racks"`
	// BodyInKB and BodyOutKB are the sizes of a call's body and of its answer, in
	// KB: 0 to 10⁶.
	BodyInKB  float64 `json:"body_in_kb"`
	BodyOutKB float64 `json:"body_out_kb"`
	// SlotMemoryMB is the memory of one process of the function, in MB: 0 to 10⁶.
	SlotMemoryMB float64 `json:"slot_memory_mb"`
	// ServerMemoryMB is what a server has for slots, in MB; 0 means that memory
	// is bought to fit.
	ServerMemoryMB float64 `json:"server_memory_mb"`
	// NetworkGbps is the link of each server and gateway, in Gbit/s and each
	// direction: above 0, at most 10 000.
	NetworkGbps float64 `json:"network_gbps"`
	// GatewayCPUMillis is the CPU time that one call costs the gateway and the
	// supervisor, in milliseconds, as `make bench` measures it (part c). Above 0,
	// at most 600 000.
	GatewayCPUMillis float64 `json:"gateway_cpu_ms_per_call"`
	// GatewayCores is how many cores one gateway has: 1 to 4096.
	GatewayCores int `json:"gateway_cores"`
	// QueueShare is the fraction of the calls that go through the durable queue:
	// 0 to 1.
	QueueShare float64 `json:"queue_share"`
	// QueueReplicas is how many nodes store each queued call: 1 to 5.
	QueueReplicas int `json:"queue_replicas"`
	// PricePerCoreHour is what a core costs an hour, in any currency.
	PricePerCoreHour float64 `json:"price_per_core_hour"`
	// PricePerServerMonth is what a server costs a month; if it is not 0 it is
	// used instead of PricePerCoreHour, and a gateway costs its share of a
	// server's cores.
	PricePerServerMonth float64 `json:"price_per_server_month"`
	// PricePerGB is what a GB costs that leaves the region: answers.
	PricePerGB float64 `json:"price_per_gb"`
}

// Example is the demand of DESIGN.md section 1 with a photograph's figures: 265
// KB in and 12 KB out, 0.16 ms a call in the gateway (README, figures (b) and
// (c)), and the 80 MB that jobs/worker.nomad.hcl sets aside for a slot. Its prices
// are examples, not quotes.
func Example() Demand {
	return Demand{
		CallsPerSecond: 10_000, CPUMillis: 100, CoresPerServer: 32, Headroom: 0.2, Racks: 4,
		BodyInKB: 265, BodyOutKB: 12, SlotMemoryMB: 80, NetworkGbps: 10,
		GatewayCPUMillis: 0.16, GatewayCores: 4,
		QueueReplicas:    3,
		PricePerCoreHour: 0.04, PricePerGB: 0.05,
	}
}

// Validate says, as one sentence, which number is out of its range.
func (d Demand) Validate() error {
	const mostMillis, mostCores, mostPrice = 600_000, 4096, 1e9
	smallest := math.SmallestNonzeroFloat64 // of what must be above 0
	for _, number := range []struct {
		name        string
		value       float64
		least, most float64
		unit        string
	}{
		{"rate", d.CallsPerSecond, smallest, 1e9, "calls/s"},
		{"CPU time per call", d.CPUMillis, smallest, mostMillis, "ms"},
		{"cores per server", float64(d.CoresPerServer), 1, mostCores, "cores"},
		{"headroom", d.Headroom, 0, 10, "of the demand (0.2 is 20 %)"},
		{"number of racks", float64(d.Racks), 1, 1000, "racks"},
		{"body in", d.BodyInKB, 0, 1e6, "KB"},
		{"body out", d.BodyOutKB, 0, 1e6, "KB"},
		{"memory of a slot", d.SlotMemoryMB, 0, 1e6, "MB"},
		{"memory of a server", d.ServerMemoryMB, 0, 1e9, "MB"},
		{"network of a server", d.NetworkGbps, smallest, 10_000, "Gbit/s"},
		{"gateway's CPU time per call", d.GatewayCPUMillis, smallest, mostMillis, "ms"},
		{"cores per gateway", float64(d.GatewayCores), 1, mostCores, "cores"},
		{"queue's share", d.QueueShare, 0, 1, "of the calls"},
		{"queue's replicas", float64(d.QueueReplicas), 1, 5, "replicas"},
		{"price per core-hour", d.PricePerCoreHour, 0, mostPrice, "of your currency"},
		{"price per server-month", d.PricePerServerMonth, 0, mostPrice, "of your currency"},
		{"price per GB", d.PricePerGB, 0, mostPrice, "of your currency"},
	} {
		if number.value >= number.least && number.value <= number.most { // NaN is neither
			continue
		}
		least := fmt.Sprintf("%v to", number.least)
		if number.least == smallest {
			least = "more than 0 and at most"
		}
		return fmt.Errorf("the %s is %v: want %s %v %s", number.name, number.value, least, number.most, number.unit)
	}
	if d.slotsPerServer() < 1 {
		return fmt.Errorf("a server's %v MB have no room for a slot of %v MB and the spare: give servers more memory", d.ServerMemoryMB, d.SlotMemoryMB)
	}
	return nil
}

// slotsPerServer is one a core, or fewer where memory ends before: every worker
// also keeps a spare process, which takes memory and no core.
func (d Demand) slotsPerServer() int {
	if d.ServerMemoryMB == 0 || d.SlotMemoryMB == 0 {
		return d.CoresPerServer
	}
	fit := math.Floor(d.ServerMemoryMB/d.SlotMemoryMB*(1+tolerance)) - 1
	return int(min(float64(d.CoresPerServer), fit))
}
