package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lightcone/usage/store"
)

// presence is a ledger's word that it may hold records which the bucket does not have:
// open/node=NAME.json. It is there before anything of the ledger's is shipped, and gone
// when all of it has been and the ledger is stopped. So whoever adds up usage knows who
// is to be asked, also when nothing else knows of that process any more.
type presence struct {
	Node  string    `json:"node"`
	From  time.Time `json:"from"`  // the first hour that such records may be of
	Until time.Time `json:"until"` // and the end of the last
}

const (
	// lateBy is how much older than its process a record may be: queued calls wait for
	// hours. One that an operator has redriven after days may be older, and is not missed.
	lateBy = 24 * time.Hour
	// silentFor is how long a ledger that lives may be kept from saying so.
	silentFor = 24 * time.Hour
	// longestPresence bounds such an object, in bytes.
	longestPresence = 4096
	// wordsAtOnce are read: a region has hundreds, and somebody waits for the answer.
	wordsAtOnce = 16
)

// appear opens the present hour, and says that the ledger is there. For one whose
// process is gone, both have been done.
func (l *Ledger) appear(ctx context.Context, now time.Time) error {
	if l.config.orphan != nil {
		return nil
	}
	if err := l.tally.openHour(now); err != nil {
		return err
	}
	return l.announce(ctx, now)
}

// announce says that the ledger is there, every hour anew.
func (l *Ledger) announce(ctx context.Context, now time.Time) error {
	word := presence{Node: l.config.Node, From: HourOf(now.Add(-lateBy)), Until: HourOf(now.Add(silentFor + time.Hour))}
	l.mu.Lock()
	for _, s := range l.sealed {
		for _, hour := range s.hours {
			if at := hourTime(hour); at.Before(word.From) {
				word.From = at
			}
		}
	}
	l.mu.Unlock()
	if word.Until.Equal(l.announced.Until) && !word.From.Before(l.announced.From) {
		return nil
	}
	content, err := json.Marshal(word)
	if err != nil {
		return err
	}
	if err := l.store.Write(ctx, presenceKey(word.Node), content); err != nil {
		return err
	}
	l.announced = word
	return nil
}

// withdraw takes the word back, if the bucket has all.
func (l *Ledger) withdraw(ctx context.Context) error {
	l.mu.Lock()
	holds := len(l.sealed) + len(l.aside) + len(l.closing)
	l.mu.Unlock()
	if holds > 0 {
		return nil
	}
	return l.store.Delete(ctx, presenceKey(l.config.Node))
}

// Away counts the nodes that may hold records of the period which the bucket does not
// have, by their own last word, and that have not answered. A node that is lost for good is
// missed in its hours for ever, until an operator, who has given its records up, deletes its
// word from the bucket: open/node=NAME.json.
func (r *Reader) Away(ctx context.Context, period Period, answers []Unshipped) (away int, err error) {
	here := make(map[string]bool)
	for _, answer := range answers {
		here[answer.Node] = true
	}
	var keys []string
	err = r.store.List(ctx, presencePrefix, func(o store.Object) error {
		if node, ok := parsePresenceKey(o.Key); ok && !here[node] {
			keys = append(keys, o.Key)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("usage: see who keeps some: %w", err)
	}
	var missed atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(wordsAtOnce)
	for _, key := range keys {
		group.Go(func() error {
			held, err := r.mayHold(groupCtx, key, period)
			if held {
				missed.Add(1)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("usage: see who keeps some: %w", err)
	}
	return int(missed.Load()), nil
}

// mayHold reads a node's word. One that cannot be understood may mean anything.
func (r *Reader) mayHold(ctx context.Context, key string, period Period) (bool, error) {
	content, err := r.store.Read(ctx, key, longestPresence)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil // it has shipped all meanwhile
	case errors.Is(err, store.ErrTooLong):
		return true, nil
	case err != nil:
		return false, err
	}
	var word presence
	unknown := json.Unmarshal(content, &word) != nil || !word.From.Before(word.Until)
	return unknown || word.From.Before(period.To) && period.From.Before(word.Until), nil
}
