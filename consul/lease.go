package consul

import (
	"time"

	"lightcone/internal/retry"
)

// outcome is what asking Consul to renew a session came to.
type outcome string

const (
	renewed outcome = "renewed" // Consul counts the TTL anew
	gone    outcome = "gone"    // Consul knows no such session
	unknown outcome = "unknown" // no answer, or one that does not say
)

// lease is how long a session may be relied on, decided without asking Consul.
//
// Consul promises not to end a session by time before its TTL is over, counted
// from when it handled the last renewal, which cannot be before that renewal was
// sent: https://developer.hashicorp.com/consul/docs/automate/session. So trust
// ends at sent + TTL - margin, the margin being for clocks that run unevenly.
type lease struct {
	ttl, margin time.Duration
	proved      time.Time // when the last successful renewal (or the creation) was sent
	tried       time.Time // when the last renewal was sent, successful or not
	failures    int       // since the last success
	lost        bool      // for good
}

// trustEnds is the first moment at which the lease is not to be trusted.
func (l lease) trustEnds() time.Time { return l.proved.Add(l.ttl - l.margin) }

// trusted compares clocks and nothing else.
func (l lease) trusted(now time.Time) bool { return !l.lost && now.Before(l.trustEnds()) }

// renewAt is when to renew: a third of the TTL after the last success; sooner,
// with back-off and jitter (random in [0, 1)), after failures.
func (l lease) renewAt(random float64) time.Time {
	if l.failures == 0 {
		return l.proved.Add(l.ttl / 3)
	}
	return l.tried.Add(retry.BackOff(l.failures, l.ttl/30, l.ttl/6, random))
}

// renewTimeout bounds a renewal sent at now: a fifth of the TTL, so that several
// fit into it, and never beyond the end of trust.
func (l lease) renewTimeout(now time.Time) time.Duration {
	return min(l.ttl/5, l.trustEnds().Sub(now))
}

// after is the lease once a renewal sent at sent came to an outcome at now. A
// lease that was not trusted any more stays lost, whatever Consul says: somebody
// may have seen it untrusted, and acted on that.
func (l lease) after(came outcome, sent, now time.Time) lease {
	l.tried = sent
	switch {
	case came == gone || !l.trusted(now):
		l.lost = true
	case came == renewed:
		l.proved, l.failures = sent, 0
	default:
		l.failures++
	}
	return l
}
