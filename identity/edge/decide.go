package edge

import "time"

// action is what a call does about a document that it needs.
type action int

const (
	load            action = iota // wait for it
	serve                         // use what is held
	serveAndRefresh               // use what is held, and have it refreshed
)

// standing is how a document stands that is held in memory.
type standing struct {
	age     time.Duration // since it was last confirmed
	unheard time.Duration // since it was last known to be current, by that or by the audit trail; at most age
	jitter  uint8         // shortens its freshness by up to a fifth, so that what came together does not leave together
	doubted bool          // a change was heard of that it does not have, or may have been missed
	vouched bool          // the audit trail says that nothing has changed since it was confirmed
}

// decide is what to do about a document that is held.
func decide(s standing, freshFor, staleFor time.Duration) action {
	switch fresh := freshFor - freshFor/5*time.Duration(s.jitter)/255; {
	case s.unheard >= staleFor:
		return load
	case s.doubted:
		return serveAndRefresh
	case s.age < fresh || s.vouched && s.age < recheckFor-recheckFor/5*time.Duration(s.jitter)/255:
		return serve
	default:
		return serveAndRefresh
	}
}

// reply is how a store answered.
type reply int

const (
	notAsked reply = iota
	failed         // or was not asked because it keeps failing, or too much has been asked
	absent         // there is no such document
	deleted        // there is a note that the document was deleted, with a version
	found
)

// answer is what a store says about a document.
type answer struct {
	reply   reply
	version uint64        // when found or deleted
	age     time.Duration // since the origin confirmed it; 0 for the origin's own
}

// reaches says whether an answer can stand for the document as it was at a version.
func (a answer) reaches(version uint64) bool {
	return (a.reply == found || a.reply == deleted) && a.version >= version
}

// verdict is what to make of the stores' answers.
type verdict int

const (
	askOrigin verdict = iota
	useRedis
	useOrigin
	gone       // there is no such document
	lagging    // the store does not have yet what was heard of: ask again soon
	cannotTell // nobody answers
)

// settle is what to make of Redis's answer and, once it was asked, the origin's.
// heard is the version that a change was lately heard of with, held the one in
// memory; each is 0 for none, and nothing older is believed.
func settle(redis, origin answer, heard, held uint64, freshFor, staleFor time.Duration) verdict {
	required := max(heard, held)
	usable := redis.reaches(required) && redis.age < staleFor
	fromRedis := useRedis
	if redis.reply == deleted {
		fromRedis = gone
	}
	switch {
	case usable && redis.age < freshFor:
		return fromRedis
	case origin.reply == notAsked:
		return askOrigin
	case origin.reply == found && origin.reaches(required) && !(usable && redis.version > origin.version):
		return useOrigin
	case origin.reply == absent && !(usable && heard > 0):
		return gone // else Redis has the change that was heard of, and the origin lags behind it
	case usable:
		return fromRedis
	case origin.reply == found:
		return lagging
	default:
		return cannotTell
	}
}
