package gateway

import (
	"math/bits"
	"slices"

	"lightcone"
)

// A tenant's shuffle shard is the few members that its calls prefer, and beyond
// which they do not go while it is confined (FleetConfig.Confined): what a tenant
// breaks is in its shard. Shards are drawn apart from each other, so two tenants
// rarely have the same one (MacCarthaigh, "Workload isolation using shuffle-sharding",
// Amazon Builders' Library).
//
// They are drawn by rendezvous hashing (Thaler and Ravishankar, "A Name-Based
// Mapping Scheme for Rendezvous", 1996): the members with the greatest weights for the
// tenant. A member that comes or goes changes no shard but those it enters or leaves,
// and each by one member. The hash has no seed: all gateways must draw the same
// shards, for otherwise a tenant would reach as many as there are gateways.

// shardParts is the part of the fleet that one tenant can hurt: a fleet is sized
// with a fifth more than its load (lightcone/capacity), and a sixth of six fifths is
// that fifth.
const shardParts = 6

// leastShard leaves a call that was lost another member to go to.
const leastShard = 2

// shardSize is how many of n members are a tenant's shard. There are
// C(n, size) shards: 28 for 8 members in twos, where two tenants share both with a
// probability of 1/28 and none with 15/28; 18.6 million for 40 members in sevens, where
// they share all seven with one of 5e-8, none with 0.23, and 1.2 on average.
func shardSize(n int) int {
	return min(n, max(leastShard, (n+shardParts-1)/shardParts))
}

// fingerprint is FNV-1a of 64 bits (draft-eastlake-fnv): short names, no allocation.
func fingerprint[name ~string](text name) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * prime
	}
	return h
}

// weight is a member's for a tenant: the two fingerprints, multiplied to twice
// their length and folded, and then once more, so that each bit depends on all
// (the mixing of wyhash, github.com/wangyi-fudan/wyhash).
func weight(tenant, member uint64) uint64 {
	high, low := bits.Mul64(tenant^0xa0761d6478bd642f, member^0xe7037ed1a0b428db)
	high, low = bits.Mul64(high^low^0x8ebc6af09c88c6e3, 0x589965cc75374cc3)
	return high ^ low
}

// shards draws the shards of a fleet's tenants, and remembers those of some that
// have called lately. Its memory does not grow.
type shards struct {
	drawn    [1024]drawnShard
	greatest []uint64 // draw's, reused
}

// drawnShard is the least weight of a member of a tenant's shard.
type drawnShard struct {
	tenant, set uint64 // the tenant's and the set's fingerprints
	least       uint64
}

// draw returns the least weight for the tenant that a member of its shard has.
// members are the fingerprints of all, and set is one of them together.
func (s *shards) draw(tenant, set uint64, members []uint64) uint64 {
	kept := &s.drawn[tenant%uint64(len(s.drawn))]
	if kept.tenant == tenant && kept.set == set {
		return kept.least
	}
	size := shardSize(len(members))
	greatest := s.greatest[:0] // ascending
	for _, member := range members {
		w := weight(tenant, member)
		if len(greatest) == size && w <= greatest[0] {
			continue
		}
		at, _ := slices.BinarySearch(greatest, w)
		if len(greatest) < size {
			greatest = slices.Insert(greatest, at, w)
			continue
		}
		copy(greatest, greatest[1:at])
		greatest[at-1] = w
	}
	s.greatest = greatest
	least := uint64(0)
	if size > 0 {
		least = greatest[0]
	}
	*kept = drawnShard{tenant: tenant, set: set, least: least}
	return least
}

// confiner is a worker that keeps calls of some tenants to few of its slots.
type confiner interface {
	Confined(lightcone.TenantID) bool
}

// Confined is whether the tenant's calls are kept to its shard: FleetConfig.Confined.
func (f *Fleet) Confined(tenant lightcone.TenantID) bool {
	return f.confined != nil && f.confined(tenant)
}

// confines is whether calls of the tenant do not wait: see lane.enter.
func (g *Gateway) confines(tenant lightcone.TenantID) bool {
	worker, may := g.worker.(confiner)
	return may && worker.Confined(tenant)
}
