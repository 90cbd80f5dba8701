package gateway

import (
	"slices"
	"time"

	"lightcone"
)

// search is one call's way through the members.
type search struct {
	function   lightcone.FunctionName
	tenant     uint64    // its fingerprint
	confined   bool      // to the tenant's shard
	tried      []*member // where the call has been
	hopes      int       // how many members that are thought to be full may yet be asked
	heardSince time.Time // members that have not been heard of since count as not ready, unless that leaves none
}

// take picks a member for a call, and counts the call as its own. m is nil when
// no member is left that could have room.
func (f *Fleet) take(s *search) (m *member, l *load) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= lookEvery {
		f.look()
	}
	to := f.functions[s.function]
	if to == nil {
		return nil, nil
	}
	f.survey(s, to)
	i := -1
	for within := ownShard; i < 0 && within <= hopeful; within++ {
		if within == hopeful {
			if s.hopes == 0 {
				return nil, nil
			}
			s.hopes--
		}
		i = choose(f.candidates, within, f.random())
	}
	if i < 0 {
		return nil, nil
	}
	l = to.loads[i]
	l.own++
	return to.members[i], l
}

// survey draws up the candidates. The fleet is locked.
func (f *Fleet) survey(s *search, to *backends) {
	least := f.shards.draw(s.tenant, to.set, to.fingerprints)
	strict := !s.heardSince.IsZero() &&
		slices.ContainsFunc(to.members, func(m *member) bool { return m.ready && m.heardSince(s.heardSince) })
	f.candidates = f.candidates[:0]
	for i, l := range to.loads {
		m := to.members[i]
		outside := weight(s.tenant, m.fingerprint) < least
		f.candidates = append(f.candidates, candidate{
			ready:   m.ready && (!strict || m.heardSince(s.heardSince)),
			barred:  outside && s.confined || len(s.tried) > 0 && s.wasAt(m),
			outside: outside,
			slots:   l.slots,
			own:     l.own,
			busy:    l.busy(),
		})
	}
}

// wasAt is whether the call has been at m.
func (s *search) wasAt(m *member) bool {
	return slices.ContainsFunc(s.tried, func(other *member) bool { return other.id == m.id })
}
