package gateway

import "time"

// candidate is what choose knows of one member's room for one function.
type candidate struct {
	ready   bool
	barred  bool // this call has been there, or may not go there
	outside bool // not of the shard of the call's tenant
	slots   int
	own     int // calls of this gateway that are there now
	busy    int // all calls that are thought to be there, own among them
}

// reach is how far a choice goes.
type reach int

const (
	ownShard reach = iota // members of the tenant's shard that are thought to have room
	anywhere              // all members that are thought to have room
	hopeful               // those, too, that others are thought to have filled
)

// choose picks the member that a call goes to, as an index, or -1 when there is
// none within reach: of two random ones the one with the smaller part of its slots
// busy. Two choices keep the fullest member within a constant of the mean, and unlike
// the least busy of all they do not send every gateway to the same member while
// reports are old (Mitzenmacher, "The Power of Two Choices in Randomized Load
// Balancing", 1996).
//
// Only ready members are chosen; but when not one is ready, all known ones are: it
// is likelier that the news is false than that all died at once, and a try is better
// than a sure failure (Envoy's panic threshold, at its lowest). A member that this
// gateway has itself filled is never chosen; one that others are thought to have
// filled is, in hope: what is thought of it may be old.
//
// It is pure: random is uniform in all its bits.
func choose(candidates []candidate, within reach, random uint64) int {
	panicking := true
	for i := range candidates {
		if candidates[i].ready {
			panicking = false
			break
		}
	}
	n := uint64(0)
	for i := range candidates {
		if candidates[i].usable(within, panicking) {
			n++
		}
	}
	if n == 0 {
		return -1
	}
	first, second := uint64(uint32(random))%n, uint64(0)
	if n > 1 {
		second = (first + 1 + (random>>32)%(n-1)) % n // any but the first
	}
	picked, other, at := -1, -1, uint64(0)
	for i := range candidates {
		if !candidates[i].usable(within, panicking) {
			continue
		}
		if at == first {
			picked = i
		}
		if at == second {
			other = i
		}
		if at++; at > max(first, second) {
			break
		}
	}
	if candidates[other].busy*candidates[picked].slots < candidates[picked].busy*candidates[other].slots {
		return other
	}
	return picked
}

// usable is whether the choice may fall on c.
func (c *candidate) usable(within reach, panicking bool) bool {
	return (c.ready || panicking) && !c.barred && c.own < c.slots &&
		(c.busy < c.slots || within == hopeful) && (!c.outside || within != ownShard)
}

// recheckAfter is how long a member's refusal counts against an older report: about
// as long as it takes until the next one is in.
const recheckAfter = 250 * time.Millisecond

// load is what one gateway believes about one member and function. A report is
// old when it comes in, and counts this gateway's own calls as they were then. So it
// only says how many calls are the others'; this gateway's own are counted as they
// are now, and a slot is known to be free in the moment in which its call ends.
//
// It is pure: the Fleet locks and tells the time.
type load struct {
	slots    int
	own      int       // calls of this gateway that are there now
	others   int       // calls of other gateways that are thought to be there
	reported int       // the last report that others was taken from
	refused  time.Time // when the member last had no room; zero once that counts no more
	health   memberHealth
}

// busy is how many calls are thought to be there.
func (l *load) busy() int { return l.own + l.others }

// report takes over what the member last said of the calls it runs. The same
// number again is mostly the same report, so it teaches nothing, unless a refusal has
// been believed since for long enough.
func (l *load) report(now time.Time, slots, busy int) {
	l.slots = slots
	if busy == l.reported && (l.refused.IsZero() || now.Sub(l.refused) < recheckAfter) {
		return
	}
	l.reported, l.refused = busy, time.Time{}
	l.others = max(busy-l.own, 0)
}

// refuse notes that the member had no room for a call of which it is rid again:
// all slots that are not this gateway's are taken by others.
func (l *load) refuse(now time.Time) {
	l.own--
	l.others = max(l.slots-l.own, 0)
	l.refused = now
}

// finish notes that a call which the member had taken is over. While it ran, all
// of them together fitted into the slots.
func (l *load) finish() {
	l.others = min(l.others, max(l.slots-l.own, 0))
	l.own--
}
