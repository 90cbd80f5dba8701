package quarantine

import (
	"container/list"
	"maps"
	"slices"
	"time"

	"lightcone"
)

// ledger is what one gateway knows and still has to share. It is pure: it takes the
// time as an argument, and whoever owns it locks it and talks to the store.
type ledger struct {
	rules Config

	struck map[lightcone.Digest]*list.Element // inputs with one strike seen here
	oldest *list.List                         // of Entry: those inputs, the oldest strike in front
	held   map[lightcone.Digest]held          // inputs in quarantine
	waits  []lightcone.Digest                 // inputs to be shared, in this order
	queued map[lightcone.Digest]bool          // the same
	tokens float64                            // documents that may be written now
	filled time.Time                          // when tokens was right
}

// held is an input in quarantine.
type held struct {
	Entry
	shared bool // it is, or was, in the store
}

func newLedger(rules Config, now time.Time) *ledger {
	return &ledger{
		rules:  rules,
		struck: make(map[lightcone.Digest]*list.Element),
		oldest: list.New(),
		held:   make(map[lightcone.Digest]held),
		queued: make(map[lightcone.Digest]bool),
		tokens: float64(rules.Burst),
		filled: now,
	}
}

// verdict is what became of a strike.
type verdict string

const (
	counted     verdict = "counted"     // the input's first
	quarantined verdict = "quarantined" // the input's last
	known       verdict = "known"       // the input is in quarantine already; this call had begun before
)

// strike counts a strike that this gateway saw. shared is whether the other
// gateways are going to hear of it.
func (l *ledger) strike(now time.Time, e Entry) (said verdict, shared bool) {
	l.expire(now)
	if _, found := l.held[e.Digest]; found {
		return known, true
	}
	if before, found := l.struck[e.Digest]; found {
		e = merge(before.Value.(Entry), e)
		l.forget(e.Digest)
	}
	if e.deadly() {
		l.hold(e, false)
		return quarantined, l.enqueue(now, e.Digest, 1)
	}
	l.struck[e.Digest] = l.oldest.PushBack(e)
	if l.oldest.Len() > l.rules.MostStrikes {
		l.forget(l.oldest.Front().Value.(Entry).Digest)
	}
	// A flood of first strikes leaves a quarter of the budget to inputs that are deadly.
	return counted, l.enqueue(now, e.Digest, 1+float64(l.rules.Burst)/4)
}

// hold puts an input into quarantine, and the one that leaves first out of it when
// there are too many.
func (l *ledger) hold(e Entry, shared bool) {
	l.forget(e.Digest)
	l.held[e.Digest] = held{e, shared}
	if len(l.held) <= l.rules.MostInputs {
		return
	}
	next := e
	for _, other := range l.held {
		if c := other.Expires.Compare(next.Expires); c < 0 || c == 0 && other.Digest.String() < next.Digest.String() {
			next = other.Entry
		}
	}
	delete(l.held, next.Digest)
}

// forget drops an input's single strike.
func (l *ledger) forget(digest lightcone.Digest) {
	if found := l.struck[digest]; found != nil {
		l.oldest.Remove(found)
		delete(l.struck, digest)
	}
}

// expire drops what has had its time, and says whether it let an input out.
func (l *ledger) expire(now time.Time) (freed bool) {
	for front := l.oldest.Front(); front != nil && front.Value.(Entry).expired(now); front = l.oldest.Front() {
		l.forget(front.Value.(Entry).Digest)
	}
	before := len(l.held)
	maps.DeleteFunc(l.held, func(_ lightcone.Digest, h held) bool { return h.expired(now) })
	return len(l.held) < before
}

// enqueue has an input shared if the budget holds at least so many tokens: one of
// them is taken. The budget refills with the time; a clock that goes back adds nothing.
func (l *ledger) enqueue(now time.Time, digest lightcone.Digest, least float64) bool {
	if l.queued[digest] {
		return true
	}
	if passed := now.Sub(l.filled); passed > 0 {
		l.tokens = min(l.tokens+passed.Seconds()*l.rules.SharesPerSecond, float64(l.rules.Burst))
	}
	l.filled = now
	if l.tokens < least || len(l.waits) >= l.rules.MostWaiting {
		return false
	}
	l.tokens--
	l.waits = append(l.waits, digest)
	l.queued[digest] = true
	return true
}

// next is the input to share now, if there is one.
func (l *ledger) next() (Entry, bool) {
	for len(l.waits) > 0 {
		digest := l.waits[0]
		if h, found := l.held[digest]; found && !h.shared {
			return h.Entry, true
		}
		if found := l.struck[digest]; found != nil {
			return found.Value.(Entry), true
		}
		l.dequeue(digest) // lifted, expired, or shared by another gateway meanwhile
	}
	return Entry{}, false
}

// shared notes that the store knows as much of an input as e. When more has been
// seen of it meanwhile, it waits on.
func (l *ledger) shared(e Entry) {
	h, found := l.held[e.Digest]
	if found && len(h.Calls) > len(e.Calls) {
		return
	}
	if found {
		l.held[e.Digest] = held{h.Entry, true}
	}
	l.dequeue(e.Digest)
}

func (l *ledger) dequeue(digest lightcone.Digest) {
	l.waits = slices.DeleteFunc(l.waits, func(d lightcone.Digest) bool { return d == digest })
	delete(l.queued, digest)
}

// postpone has an input that could not be shared wait behind the others.
func (l *ledger) postpone(digest lightcone.Digest) {
	if i := slices.Index(l.waits, digest); i >= 0 {
		l.waits = append(slices.Delete(l.waits, i, i+1), digest)
	}
}

// lift forgets all about an input.
func (l *ledger) lift(digest lightcone.Digest) {
	l.forget(digest)
	delete(l.held, digest)
}

// apply takes over changes of the head, the oldest first.
func (l *ledger) apply(now time.Time, changes []change) {
	for _, c := range changes {
		switch {
		case c.Lifted != nil:
			l.lift(*c.Lifted)
		case c.Quarantined != nil && !c.Quarantined.expired(now):
			l.hold(*c.Quarantined, true)
		}
	}
}

// replace takes over all that the store holds. What this gateway has not shared
// yet stays.
func (l *ledger) replace(now time.Time, all []Entry) {
	maps.DeleteFunc(l.held, func(_ lightcone.Digest, h held) bool { return h.shared })
	for _, e := range all {
		if !e.expired(now) {
			l.hold(e, true)
		}
	}
}
