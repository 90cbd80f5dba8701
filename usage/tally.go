package usage

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tally keeps what becomes Counts: calls answered, in a mapped file as segments
// are, and what each sealed segment holds of each hour, in a small file an hour.
//
// The mapped file is one page of slots of 16 bytes, the hour and its count; the
// first says whether the ledger was stopped in order. A count is absolute: the
// greater of the slot's and the hour's file is right.
type tally struct {
	dir    string
	ledger string // the ledger's name in Counts

	writing sync.Mutex // held while an hour's file is written; taken before mu

	mu    sync.Mutex // never held while something is written: calls wait for it
	slots []byte
	file  *os.File
	hours map[int64]*hourTally
}

// hourTally is what the hour's file holds.
type hourTally struct {
	Answered    int64           `json:"answered"` // or the slot's, if that is more
	Interrupted int64           `json:"interrupted"`
	Sequences   []SequenceCount `json:"sequences"` // ascending

	Uploaded Share `json:"uploaded"` // as the bucket has it
	Sent     int   `json:"sent"`     // so many sequences as well; -1 = it must be sent again

	written int64 // Answered as the file has it
}

const (
	tallyBytes = 4096
	slotBytes  = 16
	slots      = tallyBytes/slotBytes - 1
	stopped    = 1 // in the first slot
	// tallyKept is how long an hour is remembered: longer than any call may be old.
	tallyKept = 40 * 24 * time.Hour
)

// openTally reads what there is in dir. It is unclean if the ledger was not stopped
// in order.
func openTally(dir, ledger string) (t *tally, unclean bool, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "counts"), 0o750); err != nil {
		return nil, false, err
	}
	t = &tally{dir: filepath.Join(dir, "counts"), ledger: ledger, hours: make(map[int64]*hourTally)}
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, false, err
	}
	for _, entry := range entries {
		when, err := time.Parse(tallyLayout, strings.TrimSuffix(entry.Name(), ".json"))
		if err != nil {
			continue // what was being written when the process was killed
		}
		content, err := os.ReadFile(filepath.Join(t.dir, entry.Name()))
		h := &hourTally{Sent: -1}
		if err == nil {
			err = json.Unmarshal(content, h)
		}
		h.written = h.Answered
		if err != nil {
			return nil, false, fmt.Errorf("read the counts in %s: %w; it is written whole or not at all: restore or remove it", filepath.Join(t.dir, entry.Name()), err)
		}
		t.hours[hourNumber(when)] = h
	}
	unclean, err = t.open(filepath.Join(dir, "answered"))
	return t, unclean, err
}

// open maps the file of calls answered.
func (t *tally) open(name string) (unclean bool, err error) {
	if t.file, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640); err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open %s: %w", name, err), t.file.Close())
		}
	}()
	info, err := t.file.Stat()
	if err != nil {
		return false, err
	}
	if err := allocate(t.file, tallyBytes); err != nil {
		return false, err
	}
	if t.slots, err = unix.Mmap(int(t.file.Fd()), 0, tallyBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return false, err
	}
	unclean = info.Size() > 0 && binary.LittleEndian.Uint64(t.slots) != stopped
	binary.LittleEndian.PutUint64(t.slots, 0)
	for at := slotBytes; at < tallyBytes; at += slotBytes {
		if hour, count := t.slot(at); hour != 0 {
			h := t.hour(hour)
			h.Answered = max(h.Answered, count)
		}
	}
	return unclean, nil
}

const tallyLayout = "2006-01-02T15"

func hourNumber(t time.Time) int64    { return t.Unix() / 3600 }
func hourTime(number int64) time.Time { return time.Unix(number*3600, 0).UTC() }

// slot reads what is at an offset: an hour, 0 for none, and its count.
func (t *tally) slot(at int) (hour, count int64) {
	return int64(binary.LittleEndian.Uint64(t.slots[at:])), int64(binary.LittleEndian.Uint64(t.slots[at+8:]))
}

func slotOf(hour int64) int { return int(1+uint64(hour)%slots) * slotBytes }

// hour is the hour's tally, made if there is none. The caller holds mu, or is alone.
func (t *tally) hour(number int64) *hourTally {
	h := t.hours[number]
	if h == nil {
		h = &hourTally{Sent: -1}
		t.hours[number] = h
	}
	return h
}

// answered counts one call that started in the hour.
func (t *tally) answered(hour int64) (err error) {
	at := slotOf(hour)
	t.mu.Lock()
	defer t.mu.Unlock()
	tag, count := t.slot(at)
	if tag != hour {
		if h := t.hours[tag]; tag != 0 && count != h.written { // ten days apart, and nobody has written it: the clock leaps
			t.mu.Unlock()
			err = t.write(tag)
			t.mu.Lock()
		}
		count = t.retag(at, hour)
	}
	binary.LittleEndian.PutUint64(t.slots[at+8:], uint64(count+1))
	return err
}

// retag gives a slot to an hour and returns that hour's count so far. The caller
// holds mu.
func (t *tally) retag(at int, hour int64) (count int64) {
	if tag, _ := t.slot(at); tag != 0 {
		t.count(tag) // which keeps it
	}
	count = t.count(hour).Answered
	binary.LittleEndian.PutUint64(t.slots[at:], 0) // a kill from here on leaves no wrong pair
	binary.LittleEndian.PutUint64(t.slots[at+8:], uint64(count))
	binary.LittleEndian.PutUint64(t.slots[at:], uint64(hour))
	return count
}

// note puts what a sealed segment holds into its hours, whatever stood there of it.
func (t *tally) note(sequence uint64, counts map[int64]hourCount) error {
	var failed error
	for _, number := range slices.Sorted(maps.Keys(counts)) {
		c := counts[number]
		t.enter(number, SequenceCount{Sequence: sequence, Rows: c.rows, Torn: c.torn, Ledger: t.ledger})
		failed = errors.Join(failed, t.write(number))
	}
	return failed
}

func (t *tally) enter(number int64, entry SequenceCount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hour(number)
	i, known := slices.BinarySearchFunc(h.Sequences, entry.Sequence, func(s SequenceCount, n uint64) int { return cmp.Compare(s.Sequence, n) })
	switch {
	case !known:
		h.Sequences = slices.Insert(h.Sequences, i, entry)
	case h.Sequences[i] != entry:
		h.Sequences[i], h.Sent = entry, -1
	}
}

// interrupt takes what is recorded and not answered for calls that were killed in
// between: nothing is in flight when it is called, after a kill.
func (t *tally) interrupt() error {
	var failed error
	for _, number := range slices.Sorted(maps.Keys(t.hours)) {
		h := t.hours[number]
		over := -t.count(number).Answered - h.Interrupted
		for _, s := range h.Sequences {
			over += s.Rows + s.Torn
		}
		if over > 0 {
			h.Interrupted += over
			failed = errors.Join(failed, t.write(number))
		}
	}
	return failed
}

// count is an hour's share of Counts, but for Closed. The caller holds mu.
func (t *tally) count(number int64) Share {
	h := t.hour(number)
	if tag, count := t.slot(slotOf(number)); tag == number {
		h.Answered = max(h.Answered, count)
	}
	return Share{Answered: h.Answered, Interrupted: h.Interrupted}
}

// write brings an hour to its file.
func (t *tally) write(number int64) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	t.count(number)
	content := *t.hour(number)
	content.Sequences = slices.Clone(content.Sequences)
	t.mu.Unlock()
	if err := writeWhole(t.path(number), content); err != nil {
		return err
	}
	t.mu.Lock()
	t.hour(number).written = content.Answered
	t.mu.Unlock()
	return nil
}

func (t *tally) path(number int64) string {
	return filepath.Join(t.dir, hourTime(number).Format(tallyLayout)+".json")
}

// openHour has the present hour counted, even if no call comes in it. It is written
// down, so that somebody closes it, should this process be killed.
func (t *tally) openHour(now time.Time) error {
	number := hourNumber(now)
	t.mu.Lock()
	_, open := t.hours[number]
	t.hour(number)
	t.mu.Unlock()
	if open {
		return nil
	}
	return t.write(number)
}

// settled says whether the bucket has the counts of every hour, each of them closed.
func (t *tally) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for number, h := range t.hours {
		share := t.count(number)
		share.Closed = true
		if h.Uploaded != share || h.Sent != len(h.Sequences) {
			return false
		}
	}
	return true
}

// due are the hours whose counts the bucket does not have as they are, ascending;
// closed says which are over. What was counted in those is brought to its file, and the
// old ones are forgotten.
func (t *tally) due(now time.Time, closed func(hour int64) bool) (hours []int64, failed error) {
	var unwritten, old []int64
	t.mu.Lock()
	for number, h := range t.hours {
		share := t.count(number)
		if share.Closed = closed(number); share.Closed && h.written != h.Answered {
			unwritten = append(unwritten, number)
		}
		if h.Sent != len(h.Sequences) || h.Uploaded != share {
			hours = append(hours, number)
		} else if now.Sub(hourTime(number)) > tallyKept {
			old = append(old, number)
		}
	}
	t.mu.Unlock()
	slices.Sort(hours)
	for _, number := range unwritten {
		failed = errors.Join(failed, t.write(number))
	}
	for _, number := range old {
		failed = errors.Join(failed, t.forget(number))
	}
	return hours, failed
}

// forget removes what is known of an hour.
func (t *tally) forget(number int64) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	if tag, _ := t.slot(slotOf(number)); tag == number {
		binary.LittleEndian.PutUint64(t.slots[slotOf(number):], 0)
	}
	delete(t.hours, number)
	t.mu.Unlock()
	if err := os.Remove(t.path(number)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// part is the ledger's share of an hour, but for Closed.
func (t *tally) part(number int64) (Share, []SequenceCount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	share := t.count(number)
	return share, slices.Clone(t.hours[number].Sequences)
}

// opens notes, before the bucket is told, that an hour which it has as closed is not: a
// record came late, or the clock went back. The next process must not believe otherwise.
func (t *tally) opens(number int64, share Share) error {
	t.mu.Lock()
	h := t.hour(number)
	again := h.Uploaded.Closed && !share.Closed
	if again {
		h.Uploaded, h.Sent = Share{}, -1
	}
	t.mu.Unlock()
	if !again {
		return nil
	}
	return t.write(number)
}

// sent notes what the bucket now has of an hour; of one that is closed, for the next
// process as well.
func (t *tally) sent(number int64, share Share, sequences int) error {
	t.mu.Lock()
	h := t.hour(number)
	h.Uploaded, h.Sent = share, sequences
	t.mu.Unlock()
	if !share.Closed {
		return nil
	}
	return t.write(number)
}

// sync brings the calls answered to the disk.
func (t *tally) sync() error { return t.file.Sync() }

// close lets go of the file; clean says that the ledger was stopped in order.
func (t *tally) close(clean bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if clean {
		binary.LittleEndian.PutUint64(t.slots, stopped)
	}
	return errors.Join(t.file.Sync(), unix.Munmap(t.slots), t.file.Close())
}

// writeWhole replaces a JSON file as a whole, and brings it to the disk.
func writeWhole(name string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	temporary := name + ".tmp"
	if err := os.WriteFile(temporary, text, 0o640); err != nil {
		return err
	}
	if err := syncPath(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, name); err != nil {
		return err
	}
	return syncPath(filepath.Dir(name))
}

// syncPath brings a file or folder to the disk.
func syncPath(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
