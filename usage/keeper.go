package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lightcone/internal/retry"
)

// reserveBytes are kept for the small files that sealing writes: without them a
// full disk could not be emptied.
const reserveBytes = 256 << 10

// keepReserve allocates the reserve if it is not there.
func (l *Ledger) keepReserve() error {
	if l.reserved {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(l.config.Dir, "reserve"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	if err := errors.Join(allocate(file, reserveBytes), file.Close()); err != nil {
		return fmt.Errorf("reserve %d bytes of the disk: %w", reserveBytes, err)
	}
	l.reserved = true
	return nil
}

// releaseReserve lends the reserve to sealing: until that has gone well, no new
// segment takes the room.
func (l *Ledger) releaseReserve() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent = true
	if !l.reserved {
		return nil
	}
	l.reserved = false
	return os.Remove(filepath.Join(l.config.Dir, "reserve"))
}

// numbersFile is in the folder of every ledger.
const numbersFile = "sequence.json"

// openNumbers reads the ledger's numbers, or begins with the time in microseconds:
// a node that has lost its disk must not use a number again.
func openNumbers(dir, node string) (numbers, error) {
	n, err := readNumbers(dir)
	if errors.Is(err, os.ErrNotExist) {
		first := uint64(time.Now().UnixMicro())
		n = numbers{Node: node, First: first, Last: first - 1}
		return n, writeWhole(filepath.Join(dir, numbersFile), n)
	}
	if err == nil && n.Node != node {
		err = fmt.Errorf("the folder is of node %q, not of %q: open it under its own name, or another folder", n.Node, node)
	}
	return n, err
}

// readNumbers reads a ledger's numbers; os.ErrNotExist is in the error if it has none.
func readNumbers(dir string) (n numbers, err error) {
	name := filepath.Join(dir, numbersFile)
	content, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(content, &n)
	}
	if err == nil && (n.First == 0 || n.Last < n.First-1) {
		err = fmt.Errorf("first %d, last %d", n.First, n.Last)
	}
	if err != nil {
		return n, fmt.Errorf("read %s: %w; it is written whole or not at all: restore it", name, err)
	}
	return n, nil
}

// recover takes up the segments in the folder: the sealed ones as they are, the
// others with what is valid in them. Nothing else is going on yet.
func (l *Ledger) recover() error {
	entries, err := os.ReadDir(l.config.Dir)
	if err != nil {
		return err
	}
	l.last = l.numbers.Last
	for _, entry := range entries { // sorted by name, and so by number
		sequence, ok := parseSegment(entry.Name())
		if !ok {
			continue
		}
		if err := l.take(sequence); err != nil {
			return err
		}
	}
	return l.remember()
}

// take takes up one segment of an earlier process.
func (l *Ledger) take(sequence uint64) error {
	name := segmentPath(l.config.Dir, sequence)
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	seed := seedOf(l.config.Node, sequence)
	hours, counts := countHours(data, seed, hourNumber(info.ModTime()))
	_, _, sealed := readSeal(data, seed)
	var rows, torn int64
	for _, c := range counts {
		rows, torn = rows+c.rows, torn+c.torn
	}
	if !sealed && rows+torn > 0 {
		l.config.Logger.Warn("took up a segment that was not sealed", "sequence", sequence, "records", rows, "torn", torn)
	}
	if l.torn += torn; torn > 0 {
		l.config.Logger.Error("usage records are damaged and lost", "sequence", sequence, "torn", torn, "records", rows)
	}
	if len(hours) == 0 { // made and never written to: its number is free
		return os.Remove(name)
	}
	if err := l.tally.note(sequence, counts); err != nil {
		return err
	}
	l.last = max(l.last, sequence)
	if rows == 0 {
		return os.Rename(name, name+".damaged") // for whoever wants to look: what there was of it is counted
	}
	size := int64(len(data))
	if !sealed { // its frames stay as they are: the shipper reads them as was done here
		end := int64(endOf(data, seed))
		if err := errors.Join(os.Truncate(name, end), syncPath(name)); err != nil {
			return err
		}
		size = end
	}
	l.disk += size
	l.sealed = append(l.sealed, &sealedSegment{sequence: sequence, bytes: size, hours: hours, sealed: info.ModTime()})
	return nil
}

// endOf is where the last valid frame of a segment ends, if anything but zeros is
// behind it where the data ends: so a tear is found again.
func endOf(data []byte, seed uint32) int {
	s := newScanner(data, seed)
	end := headerLength
	for s.scan() {
		end = s.at
	}
	if s.torn > 0 {
		return len(data)
	}
	return end
}

// keep is the goroutine that seals, syncs and makes spares.
func (l *Ledger) keep() {
	defer close(l.kept)
	ticker := time.NewTicker(l.config.SyncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.sync()
			l.retire(time.Now())
		case <-l.wakeKeeper:
		case <-l.quit:
			l.sealAgain = time.Time{}
			l.sealAll()
			return
		}
		l.sealAll()
		l.makeSpare()
		l.report(time.Now())
	}
}

// sync brings the active segment, and then what was answered, to the disk: in this
// order a lost machine hides no record that it lost.
func (l *Ledger) sync() {
	l.mu.Lock()
	active := l.active
	l.mu.Unlock()
	var err error
	if active != nil { // only this goroutine closes it
		err = active.file.Sync()
	}
	if err = errors.Join(err, l.tally.sync()); err != nil {
		l.metrics.diskFailures.Inc()
		l.config.Logger.Error("usage records could not be brought to the disk; they are safe while the machine lives", "error", err)
	}
}

// retire has the active segment sealed if it is old enough.
func (l *Ledger) retire(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == nil || l.active.count == 0 || now.Sub(l.active.begun) < l.config.SealAge {
		return
	}
	l.closing = append(l.closing, l.active) // the next Append takes the spare
	l.active = nil
}

// makeSpare makes the next segment beforehand.
func (l *Ledger) makeSpare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spare == nil && !l.ended && l.config.orphan == nil {
		l.create()
	}
}

// sealAll seals what has been retired, oldest first.
func (l *Ledger) sealAll() {
	for {
		l.mu.Lock()
		var s *segment
		if len(l.closing) > 0 {
			s = l.closing[0]
		}
		l.mu.Unlock()
		if s == nil || time.Now().Before(l.sealAgain) {
			return
		}
		err := l.seal(s)
		if err == nil {
			l.sealFailures, l.sealAgain = 0, time.Time{}
		} else {
			l.sealFailures++
			wait := retry.BackOff(l.sealFailures, l.config.SyncEvery, backOffMost, rand.Float64())
			l.sealAgain = time.Now().Add(wait)
			if errors.Is(err, unix.ENOSPC) { // for the next try: what is sealed can be shipped and makes room
				err = errors.Join(err, l.releaseReserve())
			}
			l.metrics.diskFailures.Inc()
			l.config.Logger.Error("a segment could not be sealed; it is tried again", "sequence", s.sequence, "wait", wait, "error", err)
			return
		}
	}
}

// seal hands one segment to the shipper, once all that must be known of it then is
// on the disk. It can be repeated after an error.
func (l *Ledger) seal(s *segment) error {
	name := segmentPath(l.config.Dir, s.sequence)
	if s.count == 0 { // at the end only; the number is used again
		err := errors.Join(s.drop(), os.Remove(name))
		l.mu.Lock()
		l.closing = slices.Delete(l.closing, 0, 1)
		l.disk -= l.config.SealBytes
		l.mu.Unlock()
		return err
	}
	if err := s.seal(); err != nil {
		return err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	hours, counts := countHours(data, s.seed, hourNumber(s.begun))
	if err := l.tally.note(s.sequence, counts); err != nil {
		return err
	}
	if err := l.rememberUpTo(s.sequence); err != nil {
		return err
	}
	l.mu.Lock()
	l.lent = false
	l.closing = slices.Delete(l.closing, 0, 1)
	l.disk -= l.config.SealBytes - int64(s.end)
	l.sealed = append(l.sealed, &sealedSegment{sequence: s.sequence, bytes: int64(s.end), hours: hours, sealed: time.Now()})
	l.mu.Unlock()
	wake(l.wakeShipper)
	return s.file.Close()
}

// remember writes down the highest number that has been used.
func (l *Ledger) remember() error { return l.rememberUpTo(l.last) }

func (l *Ledger) rememberUpTo(last uint64) error {
	if last == l.numbers.Last {
		return nil
	}
	next := l.numbers
	next.Last = last
	if err := writeWhole(filepath.Join(l.config.Dir, numbersFile), next); err != nil {
		return err
	}
	l.numbers = next
	return nil
}

// report says loudly, once a minute, that admission should stop.
func (l *Ledger) report(now time.Time) {
	full := l.Full()
	if full == nil || l.config.orphan != nil { // nothing is admitted for an orphan
		l.complained = time.Time{}
		return
	}
	if now.Sub(l.complained) >= time.Minute {
		l.complained = now
		l.config.Logger.Error("no more calls can be recorded: admission must stop", "error", full)
	}
}
