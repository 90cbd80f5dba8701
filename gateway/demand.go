package gateway

import (
	"cmp"
	"slices"

	"lightcone"
)

// Demand is what one gateway knows of the calls for a function: what a scheduler
// needs to decide how many workers there should be, from none on. Calls are counted
// from the moment their bodies are in.
type Demand struct {
	Function lightcone.FunctionName `json:"function"`
	Waiting  int                    `json:"waiting"` // calls in the queue now
	Running  int                    `json:"running"` // calls with a worker now
	Refused  int64                  `json:"refused"` // calls not run for want of a slot, since the gateway started
}

// Demand lists every function that has been offered since the gateway started,
// by name. It may be called at any time, and costs a lock for each.
func (g *Gateway) Demand() []Demand {
	lanes := *g.lanes.Load()
	demands := make([]Demand, 0, len(lanes))
	for _, lane := range lanes {
		demands = append(demands, lane.demand())
	}
	slices.SortFunc(demands, func(a, b Demand) int { return cmp.Compare(a.Function, b.Function) })
	return demands
}
