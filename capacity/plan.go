package capacity

import (
	"fmt"
	"math"
)

// Binding names what decided the number of servers.
type Binding string

// What can decide the number of servers.
const (
	BindingCPU     Binding = "cpu"     // the cores of the calls
	BindingMemory  Binding = "memory"  // slots that a server has cores but no memory for
	BindingNetwork Binding = "network" // the servers' links
	BindingRacks   Binding = "racks"   // the rounding to whole racks
	BindingMinimum Binding = "minimum" // one server in each rack
)

// Sizing is the smallest fleet that carries a Demand.
type Sizing struct {
	// Cores is how many cores the calls keep busy, without headroom.
	Cores float64 `json:"cores"`
	// Servers is how many servers to have, in whole racks.
	Servers int `json:"servers"`
	// Workers is one a server.
	Workers int `json:"workers"`
	// SlotsPerWorker is how many calls a worker runs at a time.
	SlotsPerWorker int `json:"slots_per_worker"`
	// Slots is how many calls the fleet runs at a time.
	Slots int `json:"slots"`
	// Processes is the slots and a spare for each worker.
	Processes int `json:"processes"`
	// MemoryPerServerMB is what a worker's processes take, in MB.
	MemoryPerServerMB float64 `json:"memory_per_server_mb"`
	// Gateways is the same number in each rack, enough by CPU and by network.
	Gateways int `json:"gateways"`
	// NetworkInGbps and NetworkOutGbps are what clients send and get, in Gbit/s.
	NetworkInGbps  float64 `json:"network_in_gbps"`
	NetworkOutGbps float64 `json:"network_out_gbps"`
	// GatewayInGbps and GatewayOutGbps are one gateway's share of that. Its link
	// carries the sum in each direction: a body comes in and goes on to a worker.
	GatewayInGbps  float64 `json:"gateway_in_gbps"`
	GatewayOutGbps float64 `json:"gateway_out_gbps"`
	// QueueMBps is what the queue's nodes write together, replicas included, in
	// MB/s: the bodies and results of its share.
	QueueMBps float64 `json:"queue_mb_per_second"`
	// MonthlyPrice is servers, gateways and what leaves the region, for a month.
	MonthlyPrice float64 `json:"monthly_price"`
	// PricePerMillion is the monthly price for each million calls at the full rate.
	PricePerMillion float64 `json:"price_per_million_calls"`
	// RackLost is what is left without one rack, as a fraction of the
	// demand without headroom; 1 or more carries it all.
	RackLost float64 `json:"capacity_with_a_rack_lost"`
	// SurvivesRackLoss says that the whole demand is carried without a rack.
	SurvivesRackLoss bool `json:"survives_losing_a_rack"`
	// Binding is what decided Servers, and Because the sentence about it.
	Binding Binding `json:"binding"`
	Because string  `json:"because"`
}

const (
	// tolerance keeps rounding errors from buying a server: 1.1 × 10 is
	// 11.000000000000002 in binary.
	tolerance     = 1e-9
	hoursPerMonth = 730
	// gigabits is in Gbit/s what a KB at each call of a call a second is.
	gigabits = 8e-6
)

// roundUp is the least whole number that is not less than x but for rounding errors.
func roundUp(x float64) int { return int(math.Ceil(x - x*tolerance)) }

// wholeRacks gives every rack the same number, and so at least one.
func wholeRacks(machines int, d Demand) int { return (machines + d.Racks - 1) / d.Racks * d.Racks }

// Plan sizes the fleet for a demand:
//
//	cores = rate × CPU per call
//	servers = ceil(cores / slots per server × (1 + headroom)), in whole racks
//
// (DESIGN.md section 1; slots per server are its cores unless memory ends
// before), and more of them where their links would be too narrow. Its error
// says which number is out of range.
func Plan(d Demand) (Sizing, error) {
	if err := d.Validate(); err != nil {
		return Sizing{}, err
	}
	s := Sizing{
		Cores:          d.CallsPerSecond * d.CPUMillis / 1000,
		SlotsPerWorker: d.slotsPerServer(),
		NetworkInGbps:  d.CallsPerSecond * d.BodyInKB * gigabits,
		NetworkOutGbps: d.CallsPerSecond * d.BodyOutKB * gigabits,
		QueueMBps:      d.CallsPerSecond * d.QueueShare * (d.BodyInKB + d.BodyOutKB) * float64(d.QueueReplicas) / 1000,
	}
	s.sizeServers(d)
	s.sizeGateways(d)
	s.price(d)
	s.loseRack(d)
	return s, nil
}

func (s *Sizing) sizeServers(d Demand) {
	byCPU := roundUp(s.Cores / float64(d.CoresPerServer) * (1 + d.Headroom))
	bySlots := roundUp(s.Cores / float64(s.SlotsPerWorker) * (1 + d.Headroom))
	byNetwork := roundUp(max(s.NetworkInGbps, s.NetworkOutGbps) / d.NetworkGbps * (1 + d.Headroom))
	needed := max(byCPU, bySlots, byNetwork)
	s.Servers = wholeRacks(needed, d)

	s.Workers = s.Servers
	s.Slots = s.Workers * s.SlotsPerWorker
	s.Processes = s.Workers * (s.SlotsPerWorker + 1)
	s.MemoryPerServerMB = float64(s.SlotsPerWorker+1) * d.SlotMemoryMB

	resource := fmt.Sprintf("CPU binds: %.4g cores with %.4g %% headroom need %d servers of %d cores", s.Cores, 100*d.Headroom, byCPU, d.CoresPerServer)
	s.Binding = BindingCPU
	switch {
	case byNetwork > bySlots:
		s.Binding = BindingNetwork
		resource = fmt.Sprintf("The network binds: %.4g Gbit/s with %.4g %% headroom need %d servers of %.4g Gbit/s, where %d would do by CPU", max(s.NetworkInGbps, s.NetworkOutGbps), 100*d.Headroom, byNetwork, d.NetworkGbps, byCPU)
	case bySlots > byCPU:
		s.Binding = BindingMemory
		resource = fmt.Sprintf("Memory binds: a server's %.6g MB hold %d slots and a spare, fewer than its %d cores, so %d servers are needed where %d would do by CPU", d.ServerMemoryMB, s.SlotsPerWorker, d.CoresPerServer, bySlots, byCPU)
	}
	switch {
	case needed < d.Racks:
		s.Binding = BindingMinimum
		s.Because = fmt.Sprintf("The minimum binds: each of the %d racks has a server, where %d would do.", d.Racks, needed)
	case s.Servers > needed:
		s.Because = fmt.Sprintf("The racks bind: %d servers are needed (%s), and %d racks hold them as %d.", needed, s.Binding.noun(), d.Racks, s.Servers)
		s.Binding = BindingRacks
	default:
		s.Because = resource + "."
	}
}

// noun is how a sentence calls it.
func (b Binding) noun() string {
	if b == BindingCPU {
		return "by CPU"
	}
	return "by " + string(b)
}

// sizeGateways: bodies and answers cross a gateway's link in both directions,
// once on the clients' side and once on the workers'.
func (s *Sizing) sizeGateways(d Demand) {
	cores := d.CallsPerSecond * d.GatewayCPUMillis / 1000
	byCPU := roundUp(cores / float64(d.GatewayCores) * (1 + d.Headroom))
	byNetwork := roundUp((s.NetworkInGbps + s.NetworkOutGbps) / d.NetworkGbps * (1 + d.Headroom))
	s.Gateways = wholeRacks(max(byCPU, byNetwork), d)
	s.GatewayInGbps = s.NetworkInGbps / float64(s.Gateways)
	s.GatewayOutGbps = s.NetworkOutGbps / float64(s.Gateways)
}

func (s *Sizing) price(d Demand) {
	core := d.PricePerCoreHour * hoursPerMonth
	if d.PricePerServerMonth > 0 {
		core = d.PricePerServerMonth / float64(d.CoresPerServer)
	}
	calls := d.CallsPerSecond * hoursPerMonth * 3600
	machines := core * float64(s.Servers*d.CoresPerServer+s.Gateways*d.GatewayCores)
	s.MonthlyPrice = machines + calls*d.BodyOutKB/1e6*d.PricePerGB
	s.PricePerMillion = s.MonthlyPrice / calls * 1e6
}

// loseRack takes one rack away and asks each measure what is left of it.
func (s *Sizing) loseRack(d Demand) {
	if d.Racks == 1 {
		return
	}
	servers := float64(s.Servers - s.Servers/d.Racks)
	gateways := float64(s.Gateways - s.Gateways/d.Racks)
	s.RackLost = min(
		servers*float64(s.SlotsPerWorker)/s.Cores,
		gateways*float64(d.GatewayCores)/(d.CallsPerSecond*d.GatewayCPUMillis/1000),
		over(servers*d.NetworkGbps, max(s.NetworkInGbps, s.NetworkOutGbps)),
		over(gateways*d.NetworkGbps, s.NetworkInGbps+s.NetworkOutGbps),
	)
	s.SurvivesRackLoss = s.RackLost >= 1-tolerance
}

// over is a division in which nothing asked for is met for ever.
func over(have, want float64) float64 {
	if want == 0 {
		return math.MaxFloat64
	}
	return have / want
}
