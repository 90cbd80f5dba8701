package queue

import (
	"context"
	"time"
)

const (
	sweepFor = 5 * time.Minute
	// fresh inputs are left alone: their calls are being accepted, or are being ended
	// by somebody who removes them.
	fresh = 10 * time.Minute
)

// stray says whether an input that was stored at a time is of no more use: its call
// has ended and is not among the dead letters, or was never accepted. A call without a
// record might be about to be taken, but not when it is too old to be run.
func stray(r *record, buried bool, stored, now time.Time, l Limits) bool {
	age := now.Sub(stored)
	switch {
	case buried || age < fresh:
		return false
	case r == nil:
		return age > l.MaxAge+fresh
	default:
		return r.Status.Final() && now.Sub(r.FinishedAt) > fresh
	}
}

// unread says whether a result that was stored at a time can be had no more: its call's
// record has expired, or has another. While the record may still be written, or read, it
// is not asked for.
func unread(r *record, name string) bool {
	return r == nil || r.Status.Final() && (r.Result == nil || r.Result.Object != name)
}

// Sweep removes, once, the inputs in the object store that no call needs any more, the
// results of calls whose time is over, and inputs and results that were never stored
// whole, and says how many. Anybody may run it, at any time.
func (c *Client) Sweep(ctx context.Context) (removed int, err error) {
	ctx, cancel := within(ctx, sweepFor)
	defer cancel()
	now := c.now()
	err = c.warehouse.all(ctx, inputsBucket, func(o object) error {
		if now.Sub(o.stored) < fresh {
			return nil
		}
		// The letter first: a redrive writes the record before it removes the letter.
		l, _, _, err := c.store.letter(ctx, o.id.String())
		if err != nil {
			return err
		}
		found, err := c.ledger.readNow(ctx, o.tenant, o.id)
		if err != nil || !stray(found.record, l != nil, o.stored, now, c.limits) {
			return err
		}
		if err = c.warehouse.dropInput(ctx, o.tenant, o.id); err == nil {
			removed++
		}
		return err
	})
	if err == nil {
		err = c.warehouse.all(ctx, resultsBucket, func(o object) error {
			if now.Sub(o.stored) < c.limits.Keep+fresh {
				return nil
			}
			found, err := c.ledger.readNow(ctx, o.tenant, o.id)
			if err != nil || !unread(found.record, o.name) {
				return err
			}
			if err = c.warehouse.dropResult(ctx, o.name); err == nil {
				removed++
			}
			return err
		})
	}
	for _, bucket := range []string{inputsBucket, resultsBucket} {
		if err == nil {
			var more int
			more, err = c.sweepParts(ctx, bucket)
			removed += more
		}
	}
	return removed, asProblem(err)
}
