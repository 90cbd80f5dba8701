package queue

import (
	"math/bits"
	"sync"
	"time"

	"lightcone"
)

// lanesOf draws the lanes that a tenant's calls of a function go to, by rendezvous
// hashing (Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous",
// 1996): those with the greatest weights. Of two tenants, 1 in 28 pairs share both
// of 2 lanes in 8. The hash has no seed: all gateways must draw the same lanes.
func lanesOf(function lightcone.FunctionName, tenant lightcone.TenantID) (drawn [LanesPerTenant]int) {
	who := fingerprint(string(function) + "." + string(tenant))
	var weights [LanesPerTenant]uint64
	for lane := range Lanes {
		w, l := weight(who, uint64(lane)+1), lane
		for i := range drawn {
			if w > weights[i] {
				w, weights[i] = weights[i], w
				l, drawn[i] = drawn[i], l
			}
		}
	}
	return drawn
}

// fingerprint is FNV-1a of 64 bits (draft-eastlake-fnv).
func fingerprint(text string) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * prime
	}
	return h
}

// weight mixes who and where so that each bit depends on all (the mixing of wyhash,
// github.com/wangyi-fudan/wyhash).
func weight(who, where uint64) uint64 {
	high, low := bits.Mul64(who^0xa0761d6478bd642f, where^0xe7037ed1a0b428db)
	high, low = bits.Mul64(high^low^0x8ebc6af09c88c6e3, 0x589965cc75374cc3)
	return high ^ low
}

// lengths is how long the lanes of functions are, as last heard and with what this
// client has put there since. It is safe for concurrent use. Functions come from the
// catalogue, so there are few.
type lengths struct {
	mu    sync.Mutex
	heard map[lightcone.FunctionName]*heardLengths
}

type heardLengths struct {
	at      time.Time
	asking  bool
	waiting [Lanes]int
}

// lengthsStay is for how long lengths are good enough to choose by.
const lengthsStay = 2 * time.Second

// choose puts the tenant's lanes in the order to try them: the shorter first. stale asks
// the caller to hear the lengths anew, once, and to call hear with them.
func (s *lengths) choose(function lightcone.FunctionName, tenant lightcone.TenantID, now time.Time) (order [LanesPerTenant]int, stale bool) {
	order = lanesOf(function, tenant)
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.heard[function]
	if known == nil {
		known = new(heardLengths)
		s.heard[function] = known
	}
	if known.waiting[order[1]] < known.waiting[order[0]] {
		order[0], order[1] = order[1], order[0]
	}
	known.waiting[order[0]]++
	stale = !known.asking && now.Sub(known.at) > lengthsStay
	known.asking = known.asking || stale
	return order, stale
}

// hear takes the lengths in, or with ok false that they could not be heard.
func (s *lengths) hear(function lightcone.FunctionName, waiting [Lanes]int, ok bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.heard[function]
	known.asking, known.at = false, now
	if ok {
		known.waiting = waiting
	}
}
