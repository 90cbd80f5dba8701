package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/retry"
)

// trail follows the audit trail at the origin. Every change has its entry there, so
// who has read the trail to its end without a gap knows that whatever it has not
// heard of is as it was.
type trail struct {
	outage   *outage
	store    document.Store
	clock    *clock
	freshFor time.Duration
	changed  func(ctx context.Context, path string, version uint64) // is told of every change
	gap      func()                                                 // is told that changes may have been missed

	last    uint64 // sequence of the last entry read
	started bool

	since         atomic.Int64 // instant: what was confirmed before may lack a change that the trail does not tell again
	readAt        atomic.Int64 // instant at which the trail was known to its end
	doubtedBefore atomic.Int64 // instant: what was confirmed before is refreshed when it is used
}

const (
	mostEntries = 1000 // read one by one: more behind is a gap
	longestGap  = 2 * time.Second
)

func newTrail(store document.Store, clock *clock, freshFor time.Duration, logger *slog.Logger) *trail {
	t := &trail{store: store, clock: clock, freshFor: freshFor, outage: newOutage("The audit trail at the origin", logger, 1)}
	t.since.Store(math.MaxInt64)
	return t
}

// vouches says whether what was confirmed then is known not to have changed.
func (t *trail) vouches(confirmed, now instant) bool {
	return confirmed >= t.since.Load() && t.isRead(now)
}

// knownAt is when what was confirmed then was last known not to have changed.
func (t *trail) knownAt(confirmed instant) instant {
	readAt := t.readAt.Load() // before since: a gap that comes between makes it count for less, not for more
	if confirmed < t.since.Load() {
		return confirmed
	}
	return max(confirmed, readAt)
}

// isRead says whether the trail is known to its end.
func (t *trail) isRead(now instant) bool {
	return t.since.Load() != math.MaxInt64 && now-t.readAt.Load() < int64(t.freshFor)
}

// age is how long ago the trail was last read to its end, in seconds.
func (t *trail) age() float64 { return time.Duration(t.clock.now() - t.readAt.Load()).Seconds() }

// missed notes that changes before now may not have been heard of.
func (t *trail) missed(now instant) {
	// A store that lags, and Redis within freshFor, may still show what was there
	// before: only what is confirmed after that is vouched for.
	t.since.Store(now + int64(t.freshFor))
	t.doubtedBefore.Store(now)
	t.gap()
}

// follow reads the trail until ctx ends.
func (t *trail) follow(ctx context.Context) {
	canWait := true
	for failures := 0; ctx.Err() == nil; {
		version, err := t.readToEnd(ctx)
		if err == nil {
			failures = 0
			if canWait { // else it is still in the same outage
				t.outage.report(nil)
			}
			err = t.wait(ctx, version)
			canWait = err == nil
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		failures++
		t.outage.report(err)
		_ = retry.Pause(ctx, retry.BackOff(failures, shortestBreak, longestGap, rand.Float64())) // the loop asks ctx
	}
}

// wait returns when the head is at another version, and at the latest in time to
// read it again before what it vouches for is no longer fresh.
func (t *trail) wait(ctx context.Context, version uint64) error {
	bounded, cancel := context.WithTimeout(ctx, t.freshFor/3)
	defer cancel()
	_, _, err := t.store.Wait(bounded, identity.AuditHead, version)
	if bounded.Err() != nil {
		return nil
	}
	return err
}

// readToEnd reads the entries since the last, tells of what they changed, and
// returns the head's version.
func (t *trail) readToEnd(ctx context.Context) (uint64, error) {
	asked := t.clock.now()
	head, version, err := t.head(ctx)
	if err != nil {
		return 0, err
	}
	if !t.started || head.Sequence < t.last || head.Sequence-t.last > mostEntries {
		t.started, t.last = true, head.Sequence
		t.missed(asked)
	}
	for t.last < head.Sequence {
		if err := t.tell(ctx, t.last+1); errors.Is(err, errNoEntry) {
			t.outage.logger.Error("The audit trail has a gap; everything known is confirmed again.", "error", err)
			t.missed(t.clock.now())
		} else if err != nil {
			return 0, err
		}
		t.last++
	}
	t.readAt.Store(asked)
	return version, nil
}

func (t *trail) head(ctx context.Context) (head identity.Head, version uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	d, exists, err := t.store.Get(ctx, identity.AuditHead)
	if err != nil || !exists { // nothing was ever changed
		return identity.Head{}, 0, err
	}
	if err := json.Unmarshal(d.Value, &head); err != nil {
		return identity.Head{}, 0, fmt.Errorf("the audit trail's head is %.100q: %w", d.Value, err)
	}
	return head, d.Version, nil
}

var errNoEntry = errors.New("an entry of the audit trail is not there, or cannot be read")

// tell reads an entry and tells of what it changed.
func (t *trail) tell(ctx context.Context, sequence uint64) error {
	path := identity.AuditPath(sequence)
	for try := 0; ; try++ {
		bounded, cancel := context.WithTimeout(ctx, loadTimeout)
		d, exists, err := t.store.Get(bounded, path)
		cancel()
		if err != nil {
			return err
		}
		var e identity.Entry
		if exists {
			if err := json.Unmarshal(d.Value, &e); err != nil {
				return fmt.Errorf("%s: %w: %w", path, errNoEntry, err)
			}
			for _, changed := range e.Changed {
				t.changed(ctx, changed, d.Version) // a commit gives all its documents one version
			}
			return nil
		}
		if try == 5 { // the head may have come from a server that is ahead of this one
			return fmt.Errorf("%s: %w", path, errNoEntry)
		}
		if err := retry.Pause(ctx, 2*lagPause); err != nil {
			return err
		}
	}
}
