package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lightcone"
	"lightcone/functions"
)

// lookEvery is how old what is known of the members may get before the next
// call has it looked at again. What they say is not fresher than their own polls.
const lookEvery = 20 * time.Millisecond

// reporter is a worker that knows how busy it is with everybody's calls.
type reporter interface {
	Busy(lightcone.FunctionName) int
}

// living is a worker that knows when it last gave a sign of life.
type living interface {
	Heard() time.Time
}

// heardSince says whether m is known to have lived at that time. One that does not
// know is believed.
func (m *member) heardSince(then time.Time) bool {
	alive, knows := m.worker.(living)
	return then.IsZero() || !knows || alive.Heard().After(then)
}

// member is a worker of the present set, and what is known of it.
type member struct {
	id          string
	fingerprint uint64 // of the id
	worker      Worker
	ready       bool
	loads       map[lightcone.FunctionName]*load
}

// backends are where a function's calls can go: loads[i] is members[i]'s.
type backends struct {
	offer   functions.Offer // what the fleet offers
	ready   bool            // a ready member is among them; offer.Spec is the first one's
	members []*member
	loads   []*load

	aside int // how many of them are set aside, when last looked at

	fingerprints []uint64 // of the members
	set          uint64   // the fingerprint of all of them
}

// Follow replaces the members. Calls on those that are gone go on; of those that
// stay, known by their IDs, the calls in flight stay counted, also if the Worker is
// another one. Of members with the same ID, the first counts.
func (f *Fleet) Follow(members []Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := make(map[string]*member, len(members))
	for _, m := range f.members {
		known[m.id] = m
	}
	followed := make([]*member, 0, len(members))
	for _, m := range members {
		if slices.ContainsFunc(followed, func(other *member) bool { return other.id == m.ID }) {
			continue
		}
		next := &member{id: m.ID, fingerprint: fingerprint(m.ID), worker: m.Worker}
		if old := known[m.ID]; old != nil {
			next.loads = old.loads
		} else {
			next.loads = make(map[lightcone.FunctionName]*load)
		}
		followed = append(followed, next)
	}
	f.members = followed
	f.look()
}

// Functions lists what is declared and what the members offer, by name. Slots are
// those of the ready members together that are not set aside; of all members when none is ready, because
// calls then go to all of them (see choose).
func (f *Fleet) Functions() []functions.Offer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	offers := make([]functions.Offer, 0, len(f.functions))
	for _, to := range f.functions {
		offers = append(offers, to.offer)
	}
	slices.SortFunc(offers, func(a, b functions.Offer) int { return cmp.Compare(a.Spec.Name, b.Spec.Name) })
	return offers
}

// Ready is nil once a ready worker has been seen for every declared function
// that should always have one, and stays nil. A gateway whose workers have all died
// must go on answering: its 503 with Retry-After tells clients when to come back,
// while failing readiness on all gateways at once would have the load balancer turn
// everybody away, and would keep doing so while the workers return.
func (f *Fleet) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.unseen) > 0 {
		f.look()
	}
	if len(f.unseen) > 0 {
		return fmt.Errorf("no worker that is ready has offered the function %s since the gateway started", f.unseen[0])
	}
	return nil
}

// look asks every member how it is, and draws up where calls can go. The fleet
// is locked.
func (f *Fleet) look() {
	now := f.now()
	f.looked = now
	f.functions = make(map[lightcone.FunctionName]*backends, len(f.functions))
	for _, declared := range f.declared {
		f.functions[declared.Spec.Name] = &backends{offer: functions.Offer{Spec: declared.Spec, ColdStart: declared.ColdStart}}
	}
	for _, m := range f.members {
		m.ready = m.worker.Ready() == nil
		for _, offer := range m.worker.Functions() {
			f.add(now, m, &offer)
		}
	}
	for _, to := range f.functions {
		f.review(now, to)
		to.countSlots()
	}
}

// review sets members aside that do worse than their peers. The fleet is locked.
func (f *Fleet) review(now time.Time, to *backends) {
	f.peers = f.peers[:0]
	for i, m := range to.members {
		if m.ready {
			f.peers = append(f.peers, &to.loads[i].health)
		}
	}
	for _, why := range reviewPeers(now, f.peers, f.random) {
		f.metrics.setAside[why].Inc()
	}
	for _, h := range f.peers {
		if h.aside {
			to.aside++
		}
	}
}

// add notes that m offers a function. The fleet is locked.
func (f *Fleet) add(now time.Time, m *member, offer *functions.Offer) {
	name := offer.Spec.Name
	to := f.functions[name]
	if to == nil {
		to = &backends{offer: functions.Offer{Spec: offer.Spec}}
		f.functions[name] = to
	}
	if m.ready && !to.ready {
		to.offer.Spec, to.ready = offer.Spec, true
		f.unseen = slices.DeleteFunc(f.unseen, func(unseen lightcone.FunctionName) bool { return unseen == name })
	}
	l := m.loads[name]
	if l == nil {
		l = &load{}
		m.loads[name] = l
	}
	busy := 0
	if reports, can := m.worker.(reporter); can {
		busy = reports.Busy(name)
	}
	l.report(now, offer.Slots, busy)
	to.members, to.loads = append(to.members, m), append(to.loads, l)
	to.fingerprints = append(to.fingerprints, m.fingerprint)
	to.set += weight(m.fingerprint, m.fingerprint) // whatever their order
}

// countSlots sets how many calls the fleet can run at once: see Functions. One in
// three members is set aside at most, so there is always another that is ready.
func (b *backends) countSlots() {
	for i, m := range b.members {
		if m.ready && !b.loads[i].health.aside || !b.ready {
			b.offer.Slots += b.loads[i].slots
		}
	}
}

// count is how many members there are, and how many of them were ready when last
// looked at.
func (f *Fleet) count() (known, ready int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		if m.ready {
			ready++
		}
	}
	return len(f.members), ready
}

// countAside is how many members are set aside.
func (f *Fleet) countAside() (aside int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		for _, l := range m.loads {
			if l.health.aside {
				aside++
				break
			}
		}
	}
	return aside
}
