package usage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"lightcone/internal/retry"
	"lightcone/usage/store"
)

// objects is the bucket, as the shipper needs it: a store.Bucket, but in tests.
type objects interface {
	// WriteNew makes an object; its error is store.ErrExists if there is another.
	WriteNew(ctx context.Context, key string, body []byte) error
	// Write makes or replaces an object.
	Write(ctx context.Context, key string, body []byte) error
	// Read reads an object of at most so many bytes; its error is store.ErrNotFound if
	// there is none.
	Read(ctx context.Context, key string, most int64) ([]byte, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// errTaken is about an object that is there with other records than the segment's
// under the same name: two ledgers are called the same, or one folder was copied.
// Neither is overwritten.
var errTaken = errors.New("its name is taken by other records")

const (
	backOffBase = 200 * time.Millisecond
	backOffMost = 30 * time.Second
	// countsEvery is how often an hour that goes on is told to the bucket.
	countsEvery = time.Minute
	// settleAfter is how long after an hour's end a call of it may still be answered
	// without opening the hour again: longer than any deadline.
	settleAfter = 2 * time.Minute
	// mostCounts bounds a node's counts of an hour: some hundred thousand segments.
	mostCounts = 32 << 20
)

// ship is the goroutine that brings sealed segments to the bucket, oldest first.
// A segment is tried until it is there, however long that takes; the wait between
// tries grows to backOffMost.
func (l *Ledger) ship(ctx context.Context) {
	defer close(l.shipped)
	encoder, failures := NewEncoder(), 0
	ticker := time.NewTicker(countsEvery)
	defer ticker.Stop()
	draining := false
	for ctx.Err() == nil {
		err := l.appear(ctx, l.config.clock())
		if err == nil {
			err = l.shipOldest(ctx, encoder)
		}
		if errors.Is(err, errNothing) {
			err = l.sendCounts(ctx, l.config.clock(), draining)
			if err == nil && draining {
				err = l.withdraw(ctx)
			}
			if err == nil {
				if draining {
					return
				}
				failures = 0
				select {
				case <-l.wakeShipper:
				case <-ticker.C:
				case <-l.drain:
					draining = true
				case <-ctx.Done():
				}
				continue
			}
		}
		if err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		failures++
		l.metrics.shipFailures.Inc()
		wait := retry.BackOff(failures, backOffBase, backOffMost, rand.Float64())
		l.config.Logger.Warn("usage could not be brought to the bucket; it is tried again", "failures", failures, "wait", wait, "error", err)
		l.pause(ctx, wait)
	}
}

// pause waits before another try, but not long when the ledger begins to stop: then
// the bucket may have come back.
func (l *Ledger) pause(ctx context.Context, wait time.Duration) {
	select {
	case <-l.drain:
		wait = min(wait, backOffBase)
		_ = retry.Pause(ctx, wait) // the loop looks at ctx
		return
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.drain:
	case <-ctx.Done():
	}
}

// errNothing says that no segment waits.
var errNothing = errors.New("nothing to ship")

// shipOldest brings one segment to the bucket and then removes its file.
func (l *Ledger) shipOldest(ctx context.Context, encoder *Encoder) error {
	l.mu.Lock()
	if len(l.sealed) == 0 {
		l.mu.Unlock()
		return errNothing
	}
	s := l.sealed[0]
	l.mu.Unlock()
	name := segmentPath(l.config.Dir, s.sequence)
	data, err := os.ReadFile(name)
	if err == nil {
		err = l.shipHours(ctx, encoder, s, data)
	}
	if errors.Is(err, errTaken) {
		l.config.Logger.Error("a segment is set aside until the next start: see which other ledger has this node's name", "sequence", s.sequence, "error", err)
		l.mu.Lock()
		l.sealed, l.aside = slices.Delete(l.sealed, 0, 1), append(l.aside, s)
		l.mu.Unlock()
		return nil
	}
	if err != nil {
		return fmt.Errorf("segment %d: %w", s.sequence, err)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l.mu.Lock()
	l.sealed = slices.Delete(l.sealed, 0, 1)
	l.disk -= s.bytes
	l.mu.Unlock()
	wake(l.wakeKeeper) // there is room again
	return nil
}

// shipHours stores a segment's records, an object an hour.
func (l *Ledger) shipHours(ctx context.Context, encoder *Encoder, s *sealedSegment, data []byte) error {
	seed := seedOf(l.config.Node, s.sequence)
	for _, hour := range s.hours {
		o := Object{Node: l.config.Node, Hour: hourTime(hour), Sequence: s.sequence}
		l.encoded.Reset()
		count, err := encoder.Encode(&l.encoded, o, rowsOf(data, seed, hour))
		if err != nil {
			return err
		}
		if count == 0 {
			continue // nothing but damaged records
		}
		if err := l.storeObject(ctx, o, l.encoded.Bytes()); err != nil {
			return err
		}
		l.metrics.shippedRows.Add(float64(count))
	}
	return nil
}

// rowsOf are a segment's records of one hour, as rows.
func rowsOf(data []byte, seed uint32, hour int64) func(yield func(Row) bool) {
	return func(yield func(Row) bool) {
		names := make(map[string]string) // each name is made a string once
		text := func(name []byte) string {
			known, ok := names[string(name)]
			if !ok {
				known = string(name)
				names[known] = known
			}
			return known
		}
		for s := newScanner(data, seed); s.scan(); {
			b := s.body
			if b.hour() != hour {
				continue
			}
			row := Row{
				Call: b.call(), Tenant: text(b.tenant()), Function: text(b.function()), Outcome: b.outcome(), Start: b.start(),
				Duration: b.number(24), CPU: b.number(32), BytesIn: b.number(40), BytesOut: b.number(48),
			}
			if !yield(row) {
				return
			}
		}
	}
}

// storeObject stores one object and believes that it is there when it has read it
// back. An object that is there already is left alone if it has the same records.
func (l *Ledger) storeObject(ctx context.Context, o Object, content []byte) error {
	key := o.Key()
	err := l.store.WriteNew(ctx, key, content)
	if err == nil {
		return l.readBack(ctx, key, content)
	}
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	existing, err := l.store.Read(ctx, key, store.LongestObject)
	if errors.Is(err, store.ErrTooLong) {
		return fmt.Errorf("store %s: %w: %w", key, errTaken, err)
	}
	if err != nil {
		return err
	}
	switch same, readable := sameRows(existing, content, o); {
	case same:
		return nil
	case readable:
		return fmt.Errorf("store %s: %w", key, errTaken)
	}
	l.config.Logger.Error("a damaged object is replaced", "key", key, "bytes", len(existing))
	if err := l.store.Write(ctx, key, content); err != nil {
		return err
	}
	return l.readBack(ctx, key, content)
}

// readBack says what is wrong with an object that was written: nil if it is there.
func (l *Ledger) readBack(ctx context.Context, key string, content []byte) error {
	there, err := l.store.Read(ctx, key, int64(len(content)))
	if err == nil && !bytes.Equal(there, content) {
		err = errors.New("it has other bytes than it was given")
	}
	if err != nil {
		return fmt.Errorf("read %s back: %w", key, err)
	}
	return nil
}

// sameRows says whether two objects of one name have the same records, by whichever
// version of the encoder they were written; readable, whether the first can be read.
func sameRows(existing, content []byte, o Object) (same, readable bool) {
	rows := func(object []byte) (all []Row, err error) {
		err = Decode(object, o, func(r *Row) error {
			copied := *r
			all = append(all, copied)
			return nil
		})
		return all, err
	}
	a, err := rows(existing)
	if err != nil {
		return false, false
	}
	b, err := rows(content)
	return err == nil && slices.Equal(a, b), true
}

// sendCounts brings to the bucket what has changed of the hours' counts; last says
// that nothing more is appended.
func (l *Ledger) sendCounts(ctx context.Context, now time.Time, last bool) error {
	closed := l.closedHours(now, last)
	hours, err := l.tally.due(now, closed)
	if err != nil {
		return err
	}
	for _, hour := range hours {
		share, sequences := l.tally.part(hour)
		share.Closed = closed(hour)
		if err := l.tally.opens(hour, share); err != nil {
			return err
		}
		if err := l.sendHour(ctx, hour, share, sequences); err != nil {
			return err
		}
		if err := l.tally.sent(hour, share, len(sequences)); err != nil {
			return err
		}
	}
	return nil
}

// sendHour replaces the ledger's part in an hour's counts.
func (l *Ledger) sendHour(ctx context.Context, hour int64, share Share, sequences []SequenceCount) error {
	key := CountsKey(l.config.Node, hourTime(hour))
	before := Counts{Node: l.config.Node, Hour: hourTime(hour)}
	existing, err := l.store.Read(ctx, key, mostCounts)
	switch {
	case err == nil:
		if before, err = ParseCounts(existing); err != nil || before.Node != l.config.Node || !before.Hour.Equal(hourTime(hour)) {
			l.config.Logger.Error("counts in the bucket are damaged and are written anew", "key", key, "error", err)
			before = Counts{Node: l.config.Node, Hour: hourTime(hour)}
		}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	content, err := json.Marshal(before.replace(l.tally.ledger, share, sequences))
	if err != nil {
		return err
	}
	if bytes.Equal(content, existing) {
		return nil
	}
	return l.store.Write(ctx, key, content)
}

// closedHours says which hours have ended for this ledger, with all that started in
// them shipped: those that are over, or all when its own process ends it, which may
// never be back. The answer holds for this moment.
func (l *Ledger) closedHours(now time.Time, last bool) func(hour int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := make(map[int64]bool)
	for _, s := range slices.Concat(l.sealed, l.aside) {
		for _, hour := range s.hours {
			waiting[hour] = true
		}
	}
	for _, s := range append(slices.Clone(l.closing), l.active) {
		if s == nil {
			continue
		}
		for _, hour := range s.hours {
			waiting[hour] = true
		}
	}
	return func(hour int64) bool {
		return (last && l.config.orphan == nil || now.Sub(hourTime(hour+1)) > settleAfter) && !waiting[hour]
	}
}
