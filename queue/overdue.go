package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
)

// Workers end the calls that are too old as they meet them. A function without workers,
// because it was taken away or has never come, has nobody to do that: so whoever tends
// the queue looks into the lanes, too.

const (
	buryMost = 1000            // messages that a look takes, unless there are more lanes than that
	buryFor  = 2 * time.Minute // and how long it takes at most
)

var (
	errNotOver = errors.New("queue: the call is not over: it waits for a worker")
	errUntold  = errors.New("queue: what the call spent has not been told of: its message waits for a worker")
)

// untoldRests is for how long a call that has ended is left for a worker to tell what it
// spent, before it is looked at again: so long that such calls do not keep a look busy.
func untoldRests(l Limits) time.Duration { return l.MaxAge / 6 }

// waitingLane is a lane of a function that has calls.
type waitingLane struct {
	function lightcone.FunctionName
	lane     int
	oldest   time.Time // when the first of its calls was queued
}

// overdue decides which lanes to look into, those with the oldest calls first, and how
// many calls to take at most from each: as many from one as from another, for a long
// lane must not keep the others waiting.
func overdue(lanes []waitingLane, now time.Time, l Limits) (due []waitingLane, each int) {
	for _, w := range lanes {
		if now.Sub(w.oldest) > l.MaxAge {
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b waitingLane) int {
		return cmp.Or(a.oldest.Compare(b.oldest), cmp.Compare(a.function, b.function), cmp.Compare(a.lane, b.lane))
	})
	return due, max(1, buryMost/max(1, len(due)))
}

// buryOverdue looks once for calls that are too old, and says how many have ended. What
// is in a live worker's hands it does not meet; of two that end the same call, the
// compare-and-set of its record decides.
func (c *Client) buryOverdue(ctx context.Context) (buried int, err error) {
	ctx, cancel := context.WithTimeout(ctx, buryFor)
	defer cancel()
	lanes, err := c.waitingLanes(ctx)
	if err != nil {
		return 0, err
	}
	due, each := overdue(lanes, c.now(), c.limits)
	for _, w := range due {
		if ctx.Err() != nil {
			return buried, errors.Join(err, ctx.Err())
		}
		n, laneErr := c.buryLane(ctx, w, each)
		buried += n
		if laneErr != nil {
			err = errors.Join(err, fmt.Errorf("lane %d of %s: %w", w.lane, w.function, laneErr))
		}
	}
	return buried, err
}

// waitingLanes are the lanes that have calls.
func (c *Client) waitingLanes(ctx context.Context) ([]waitingLane, error) {
	listing, cancel := context.WithTimeout(ctx, c.limits.Patience)
	defer cancel()
	queued, err := c.store.queued(listing)
	if err != nil {
		return nil, err
	}
	var all []waitingLane
	for function, lanes := range queued {
		for lane, n := range lanes {
			if n == 0 {
				continue
			}
			m, err := c.store.nextGet(ctx, workStream, workSubject(function, lane, "*"), 1)
			if err != nil {
				return nil, err
			}
			if m == nil { // done meanwhile
				continue
			}
			w := waitingLane{function: function, lane: lane}
			var j job
			if decode(m.Header.Get(headHeader), &j) == nil { // or else it counts as old, lest it hide those behind it
				w.oldest = j.QueuedAt
			}
			all = append(all, w)
		}
	}
	return all, nil
}

// buryLane takes calls from a lane as a worker does, and ends those that are over, until
// it meets one that is not, there is none, or it has taken that many.
func (c *Client) buryLane(ctx context.Context, w waitingLane, most int) (buried int, err error) {
	if err := c.findLane(ctx, w); err != nil {
		return 0, err
	}
	inbox := c.nc.NewInbox()
	pulled, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return 0, err
	}
	defer func() { _ = pulled.Unsubscribe() }() // what comes later is delivered again when Limits.Silence is over
	k := &crew{
		Client: c, hands: make(map[*hand]struct{}),
		WorkConfig: WorkConfig{Function: w.function, Ended: func(*lightcone.UsageRecord) error { return errUntold }},
	}
	for range most {
		m, err := c.pullOne(ctx, w, inbox, pulled)
		if m == nil || err != nil {
			return buried, err
		}
		h := &hand{crew: k, taken: k.taken(m)}
		switch err := h.see(ctx, m, nil); {
		case errors.Is(err, errNotOver):
			return buried, nil
		case errors.Is(err, errUntold):
		case err != nil:
			return buried, err
		default:
			buried++
		}
	}
	return buried, nil
}

// findLane makes the lane's consumer when no worker ever has.
func (c *Client) findLane(ctx context.Context, w waitingLane) error {
	try, cancel := context.WithTimeout(ctx, tryFor)
	_, _, err := c.store.laneLength(try, w.function, w.lane)
	cancel()
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	making, cancel := context.WithTimeout(ctx, c.limits.Patience)
	defer cancel()
	if !c.makeLanes(making, w.function) {
		return fmt.Errorf("queue: the lanes of %s could not be made: %w", w.function, making.Err())
	}
	return nil
}

// pullOne takes a call; nil when there is none.
func (c *Client) pullOne(ctx context.Context, w waitingLane, inbox string, pulled *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	if err := c.ask(w.function, w.lane, inbox, map[string]any{"batch": 1, "no_wait": true}); err != nil {
		return nil, err
	}
	m, err := pulled.NextMsgWithContext(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("queue: pull: %w", err)
	case m.Subject != inbox:
		return m, nil
	case m.Header.Get("Status") == "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("queue: pull: %s %s", m.Header.Get("Status"), m.Header.Get("Description"))
	}
}
