package gateway

import (
	"slices"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// search is one call's way through the members.
type search struct {
	function   lightcone.FunctionName
	tenant     uint64    // its fingerprint
	confined   bool      // to the tenant's shard
	tried      []*member // where the call has been
	probe      bool      // the call is one: see memberHealth
	hopes      int       // how many members that are thought to be full may yet be asked
	heardSince time.Time // members that have not been heard of since count as not ready, unless that leaves none
}

// take picks a member for a call, and counts the call as its own. m is nil when
// no member is left that could have room.
func (f *Fleet) take(s *search) (m *member, l *load) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Sub(f.looked) >= lookEvery {
		f.look()
	}
	to := f.functions[s.function]
	if to == nil {
		return nil, nil
	}
	f.survey(s, to)
	i := -1
	if s.probe = false; to.aside > 0 && len(s.tried) == 0 {
		i = to.probe(s, now)
	}
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
	shun := to.aside > 0 && to.sound() // else those set aside are better than none
	strict := !s.heardSince.IsZero() &&
		slices.ContainsFunc(to.members, func(m *member) bool { return m.ready && m.heardSince(s.heardSince) })
	f.candidates = f.candidates[:0]
	for i, l := range to.loads {
		m := to.members[i]
		outside := weight(s.tenant, m.fingerprint) < least
		f.candidates = append(f.candidates, candidate{
			ready:   m.ready && !(shun && l.health.aside) && (!strict || m.heardSince(s.heardSince)),
			barred:  outside && s.confined || len(s.tried) > 0 && s.wasAt(m),
			outside: outside,
			slots:   l.slots,
			own:     l.own,
			busy:    l.busy(),
		})
	}
}

// probe picks a member that is set aside and due to be tried again, as an index, or
// -1. Confined tenants' calls would prove nothing.
func (b *backends) probe(s *search, now time.Time) int {
	if s.confined {
		return -1
	}
	for i, l := range b.loads {
		if b.members[i].ready && l.health.due(now) && l.busy() < l.slots {
			l.health.probing, s.probe = true, true
			return i
		}
	}
	return -1
}

// sound is whether a ready member is not set aside.
func (b *backends) sound() bool {
	for i, l := range b.loads {
		if b.members[i].ready && !l.health.aside {
			return true
		}
	}
	return false
}

// wasAt is whether the call has been at m.
func (s *search) wasAt(m *member) bool {
	return slices.ContainsFunc(s.tried, func(other *member) bool { return other.id == m.id })
}

// settle takes over what a try has taught.
func (f *Fleet) settle(s *search, l *load, how outcome, seen sighting) {
	f.metrics.tries[how].Inc()
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if how == refused {
		l.refuse(now)
	} else {
		l.finish()
	}
	switch {
	case s.probe:
		if l.health.probed(now, seen, how == refused, f.random()) {
			f.metrics.setAside[l.health.why].Inc()
		}
	case how != refused && !s.confined: // for what confined calls break, their tenants are known
		l.health.note(now, seen)
	}
}

// sightingOf is what a call that has been tried has shown.
func sightingOf(tenant uint64, call *functions.Call, answer *functions.Answer, took time.Duration, err error) sighting {
	seen := sighting{tenant: tenant, delay: max(took-answer.Exec, 0)}
	if len(call.Body)+len(answer.Body) > comparableBytes {
		seen.delay = -1
	}
	if err == nil {
		return seen
	}
	switch problem.Of(err).Kind {
	case problem.WorkerLost:
		seen.what = sawLoss
	case problem.FunctionCrashed, problem.OutOfMemory, problem.FunctionFailed, problem.Internal:
		seen.what = sawCrash
	case problem.DeadlineExceeded:
		switch {
		case answer.Exec > 0:
			seen.what = sawStop
		case took >= slowFloor && seen.delay >= 0: // with little time or a long way for its body, a call may be late at no one's fault
			seen.what = sawSilence
		}
	}
	return seen
}
