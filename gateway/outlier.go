package gateway

import (
	"math/bits"
	"slices"
	"time"

	"lightcone/internal/retry"
)

// reason is why a member was set aside.
type reason int

const (
	notAside     reason = iota
	asideLosing         // it lost calls, or let them pass their deadlines unseen
	asideCrashes        // processes of several tenants' calls ended there
	asideSlow           // it takes long for what is not the function's own work
)

func (r reason) String() string { return [...]string{"none", "lost", "crashes", "slow"}[r] }

// sighting is what one call has shown of a member.
type sighting struct {
	tenant uint64 // its fingerprint
	what   sight
	delay  time.Duration // what the call took beyond the function's own time; below 0 = that says nothing
}

type sight int

const (
	sawAnswer  sight = iota // of the function or of the worker
	sawCrash                // the call's process ended, or broke the protocol
	sawStop                 // the deadline passed while a process worked on the call: it was stopped
	sawSilence              // the deadline passed, and no process was seen to work on the call
	sawLoss                 // of the call, with the member
)

const (
	// losingCalls in a row set a member aside (Envoy's consecutive_gateway_failure, of
	// the same default).
	losingCalls = 5

	// Crashes set a member aside if calls of so many tenants ended in one, at least
	// half of those that were there in the last ten seconds, and if that is not so with
	// the others. A tenant counts once, by its last call, so no one alone can do it; and a
	// build that crashes everywhere is not a matter of members.
	crashyTenants = 3
	crashyShare   = 0.5
	usualShare    = 0.25
	voteLasts     = 10 * time.Second

	// A member is slow if the median of its delays is at least slowFloor, and more than
	// twice the others' (slowBands powers of two above). Less than the floor is noise,
	// and no harm beside a queue that holds calls for longer.
	slowFloor       = 64 * time.Millisecond
	slowBands       = 2
	leastDelays     = 20
	fadeEvery       = time.Second
	fade            = 0.9 // so that about ten seconds count
	fewestPeers     = 2   // to compare with
	afterEnd        = 2 * time.Second
	comparableBytes = 1 << 20 // of body and answer together: more takes time on a good wire, too

	// One member in so many may be set aside: with fewer, none.
	mostAside = 3

	// For how long: Envoy's base_ejection_time is 30 s; here a probe costs one call,
	// so the first comes sooner. It doubles with each time, and is drawn from its second
	// half, so that gateways do not probe together. A minute of good conduct takes one
	// time back.
	firstAside   = 5 * time.Second
	longestAside = 5 * time.Minute
	forgiveness  = time.Minute

	// probesToReturn calls, one at a time, have to go well before all go there again.
	probesToReturn = 3
)

// delayBands are powers of two of milliseconds: below 1, 1, 2 to 3, …, 16384 and more.
const delayBands = 16

// voters is how many tenants' last calls are kept for a member.
const voters = 16

// tenantVote is how a tenant's last call to a member ended.
type tenantVote struct {
	tenant uint64
	bad    bool
	at     time.Time
}

// memberHealth is what one gateway has seen of a member's work for one function, and
// whether it is set aside for it: outlier detection, after Envoy's ("Outlier detection",
// Envoy documentation) and gRPC's (proposal A50). They compare rates of errors; what
// is an error here is above, and what is slow is not in either.
//
// Slow is not measured by the time that calls take: that is the caller's choice, by
// its input and parameters, and tenants have members of their own. It is the time
// that a call takes beyond the function's own, which the worker reports: the wire, the
// machine, the supervisor, the wait for a process. A worker that is slow at the work
// itself has its slots busy for longer, and so gets fewer calls by itself (see choose).
//
// It is pure: the Fleet locks, tells the time and draws.
type memberHealth struct {
	delays [delayBands]float32 // how many calls lately, by their delay
	faded  time.Time
	votes  [voters]tenantVote
	row    int       // losses since the last answer
	ended  time.Time // when a process last did, by a crash or a stop

	aside   bool
	why     reason
	until   time.Time     // when it is probed
	limit   time.Duration // for the delay of a probe, if it was slow
	probing bool
	good    int       // probes in a row
	times   int       // set aside, less what is forgiven
	changed time.Time // when it was last set aside, taken back or forgiven
}

// note takes over what a call has shown, unless the member is set aside: that was
// decided, and its probes decide what comes next.
func (h *memberHealth) note(now time.Time, seen sighting) {
	// The next process is not there at once. That is the doing of whose call it was.
	excused := now.Sub(h.ended) < seen.delay+afterEnd
	switch {
	case h.aside || seen.what == sawSilence && excused:
		return
	case seen.what == sawSilence || seen.what == sawLoss:
		h.row++
		return
	case seen.what == sawCrash || seen.what == sawStop:
		h.ended = now
	case seen.delay >= 0 && !excused:
		h.delays[bandOf(seen.delay)]++
	}
	h.row = 0
	h.vote(now, seen)
}

// vote keeps the outcome as the tenant's. When no place is free, it is not needed.
func (h *memberHealth) vote(now time.Time, seen sighting) {
	free := -1
	for i := range h.votes {
		if h.votes[i].tenant == seen.tenant {
			free = i
			break
		}
		if free < 0 && now.Sub(h.votes[i].at) >= voteLasts {
			free = i
		}
	}
	if free >= 0 {
		h.votes[free] = tenantVote{tenant: seen.tenant, bad: seen.what == sawCrash, at: now}
	}
}

// bandOf is the index of a delay among memberHealth's delays.
func bandOf(delay time.Duration) int {
	return min(bits.Len64(uint64(delay.Milliseconds())), delayBands-1)
}

// median is the band of the median delay; known is whether enough calls tell.
func (h *memberHealth) median() (band int, known bool) {
	sum := float32(0)
	for _, count := range h.delays {
		sum += count
	}
	if sum < leastDelays {
		return 0, false
	}
	below := float32(0)
	for band, count := range h.delays {
		if below += count; 2*below >= sum {
			return band, true
		}
	}
	return delayBands - 1, true
}

// crashes is how many tenants' last calls crashed, and their share of the tenants.
func (h *memberHealth) crashes(now time.Time) (tenants int, share float64) {
	all := 0
	for _, v := range h.votes {
		if now.Sub(v.at) >= voteLasts {
			continue
		}
		all++
		if v.bad {
			tenants++
		}
	}
	return tenants, float64(tenants) / float64(max(all, 1))
}

// reviewPeers decides which of a function's ready members are set aside, and says why,
// for each that newly is. Of those that are, it takes some back when they have become
// too many, because others have left.
func reviewPeers(now time.Time, peers []*memberHealth, random func() uint64) []reason {
	var newly []reason
	aside := 0
	for _, h := range peers {
		h.age(now)
		if h.aside {
			aside++
		}
	}
	allowed := len(peers) / mostAside
	for ; aside > allowed; aside-- {
		soonest(peers).takeBack(now)
	}
	for _, h := range peers {
		if h.aside || aside == allowed {
			continue
		}
		if why, limit := h.verdict(now, peers); why != notAside {
			h.setAside(now, why, random())
			h.limit = max(limit, slowFloor)
			newly = append(newly, why)
			aside++
		}
	}
	return newly
}

// soonest is who would be probed first of those set aside.
func soonest(peers []*memberHealth) *memberHealth {
	var first *memberHealth
	for _, h := range peers {
		if h.aside && (first == nil || h.until.Before(first.until)) {
			first = h
		}
	}
	return first
}

// age lets what was seen fade, and forgives.
func (h *memberHealth) age(now time.Time) {
	if now.Sub(h.faded) >= fadeEvery {
		h.faded = now
		for i := range h.delays {
			h.delays[i] *= fade
		}
	}
	if !h.aside && h.times > 0 && now.Sub(h.changed) >= forgiveness {
		h.times--
		h.changed = now
	}
}

// verdict is why h should be set aside, beside its peers.
func (h *memberHealth) verdict(now time.Time, peers []*memberHealth) (why reason, limit time.Duration) {
	if h.row >= losingCalls {
		return asideLosing, 0
	}
	if tenants, share := h.crashes(now); tenants >= crashyTenants && share >= crashyShare {
		usual, known := ofOthers(h, peers, func(other *memberHealth) (float64, bool) {
			_, share := other.crashes(now)
			return share, true
		})
		if known && usual <= usualShare {
			return asideCrashes, 0
		}
	}
	if band, known := h.median(); known && band >= bandOf(slowFloor) {
		if usual, known := ofOthers(h, peers, (*memberHealth).median); known && band >= usual+slowBands {
			return asideSlow, time.Millisecond << (usual + slowBands - 1)
		}
	}
	return notAside, 0
}

// ofOthers is the median of what is known of h's peers that are not set aside
// themselves, if there are enough.
func ofOthers[number int | float64](h *memberHealth, peers []*memberHealth, of func(*memberHealth) (number, bool)) (median number, known bool) {
	var all []number
	for _, other := range peers {
		if other == h || other.aside {
			continue
		}
		if value, known := of(other); known {
			all = append(all, value)
		}
	}
	if len(all) < fewestPeers {
		return 0, false
	}
	slices.Sort(all)
	return all[len(all)/2], true
}

// setAside keeps calls away for a while. random is uniform in all its bits.
func (h *memberHealth) setAside(now time.Time, why reason, random uint64) {
	h.times++
	h.aside, h.why, h.probing, h.good, h.changed = true, why, false, 0, now
	h.until = now.Add(retry.BackOff(h.times, firstAside, longestAside, 0.5+float64(random>>11)/(1<<54)))
	h.forget()
}

// takeBack ends it.
func (h *memberHealth) takeBack(now time.Time) {
	h.aside, h.probing, h.changed = false, false, now
	h.forget()
}

// forget drops what was seen before.
func (h *memberHealth) forget() {
	h.delays, h.votes, h.row, h.ended = [delayBands]float32{}, [voters]tenantVote{}, 0, time.Time{}
}

// due is whether the next call should be a probe.
func (h *memberHealth) due(now time.Time) bool { return h.aside && !h.probing && !now.Before(h.until) }

// probed takes over what a probe has shown, and says whether the member is set
// aside again for it. A probe that was refused, or whose crash may well be its own
// doing, is followed by another.
func (h *memberHealth) probed(now time.Time, seen sighting, refused bool, random uint64) (again bool) {
	if !h.probing {
		return false // it was taken back meanwhile
	}
	h.probing = false
	switch {
	case refused:
		h.until = now.Add(recheckAfter)
	case seen.what == sawSilence || seen.what == sawLoss || seen.what == sawCrash && h.why == asideCrashes || seen.delay >= h.limit && h.why == asideSlow:
		h.setAside(now, h.why, random)
		return true
	case seen.what == sawAnswer || seen.what == sawStop:
		if h.good++; h.good == probesToReturn {
			h.takeBack(now)
		}
	}
	return false
}
