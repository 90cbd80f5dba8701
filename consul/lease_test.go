package consul

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// at is a test's time: an offset from an arbitrary start.
func at(offset time.Duration) time.Time { return time.Unix(1_000_000, 0).Add(offset) }

// TestLeaseTranscripts plays testdata/lease.txt: what renewals do to the trust.
func TestLeaseTranscripts(t *testing.T) {
	var l lease
	state := func(now time.Time) string {
		since := func(moment time.Time) time.Duration { return moment.Sub(at(0)) }
		return fmt.Sprintf("trusted %v until %v, renew at %v..%v", l.trusted(now), since(l.trustEnds()), since(l.renewAt(0)), since(l.renewAt(1)))
	}
	datadriven.RunTest(t, "testdata/lease.txt", func(t *testing.T, d *datadriven.TestData) string {
		duration := func(key string) time.Duration {
			var text string
			d.ScanArgs(t, key, &text)
			value, err := time.ParseDuration(text)
			if err != nil {
				d.Fatalf(t, "%s: %v", key, err)
			}
			return value
		}
		switch d.Cmd {
		case "created":
			l = lease{ttl: duration("ttl"), margin: duration("margin"), proved: at(duration("sent")), tried: at(duration("sent"))}
			return state(at(duration("now")))
		case "look":
			return state(at(duration("now")))
		case "timeout":
			return l.renewTimeout(at(duration("now"))).String()
		case "renewal":
			var came string
			d.ScanArgs(t, "came", &came)
			l = l.after(outcome(came), at(duration("sent")), at(duration("now")))
			return state(at(duration("now")))
		default:
			d.Fatalf(t, "no command %s", d.Cmd)
			return ""
		}
	})
}

// TestTrustNeverOutlivesThePromise plays any renewals: a trusted lease is always
// within TTL - margin of a moment before Consul last counted the TTL anew, and a
// lease once seen untrusted stays so.
func TestTrustNeverOutlivesThePromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.IntRange(1_000, 60_000).Draw(t, "ttl ms")) * time.Millisecond
		margin := time.Duration(rapid.Int64Range(0, int64(ttl/2)).Draw(t, "margin"))
		l := lease{ttl: ttl, margin: margin, proved: at(0), tried: at(0)}
		now, counted, everUntrusted := at(0), at(0), false
		for range rapid.IntRange(1, 20).Draw(t, "renewals") {
			step := func(name string) time.Time {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(ttl)).Draw(t, name)))
				return now
			}
			sent, handled := step("sent after"), step("handled after")
			came := rapid.SampledFrom([]outcome{renewed, renewed, unknown, gone}).Draw(t, "came")
			if came == renewed {
				counted = handled
			}
			everUntrusted = everUntrusted || !l.trusted(handled)
			l = l.after(came, sent, step("answered after"))
			everUntrusted = everUntrusted || !l.trusted(now)
			look := now.Add(time.Duration(rapid.Int64Range(0, int64(2*ttl)).Draw(t, "look after")))
			if l.trusted(look) && everUntrusted {
				t.Fatalf("trust came back")
			}
			if trust := l.trustEnds().Sub(counted); trust > ttl-margin {
				t.Fatalf("trusted for %v after Consul counted anew, TTL %v, margin %v", trust, ttl, margin)
			}
			if l.trusted(look) && !look.Before(l.trustEnds()) {
				t.Fatalf("trusted at the end of trust or after it")
			}
			if l.trusted(now) && l.renewTimeout(now) > l.trustEnds().Sub(now) {
				t.Fatalf("a renewal may take longer than the trust")
			}
		}
	})
}
