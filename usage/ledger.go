package usage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lightcone"
	"lightcone/usage/store"
)

// ErrFull is in the errors of Full and Append when records cannot be kept until
// the bucket takes some, or the disk has room again.
var ErrFull = errors.New("the usage ledger is full")

// ErrStopped is in the error of an Append that comes after Stop.
var ErrStopped = errors.New("the usage ledger is stopped")

// Ledger keeps the records of one process. Make it with Open. Its methods may be
// called from any goroutine.
type Ledger struct {
	config  Config
	store   objects
	bucket  *store.Bucket // what store is, but in tests
	tally   *tally
	metrics *metrics
	lock    *os.File

	mu       sync.Mutex
	active   *segment // the one that is being written
	spare    *segment // the next, made beforehand; its number is one more than active's
	closing  []*segment
	sealed   []*sealedSegment // not yet in the bucket, ascending
	aside    []*sealedSegment // that the bucket will not take: see errTaken
	last     uint64           // the highest number in use
	disk     int64            // bytes of all segments' files
	failure  error            // why there is no spare
	reserved bool             // there is a reserve on the disk
	lent     bool             // sealing needs it: no segment is made
	ended    bool
	appended int64
	torn     int64 // found damaged at the start

	numbers    numbers   // as they were last written; the keeper's
	complained time.Time // of being full; the keeper's, as what follows

	sealFailures int
	sealAgain    time.Time // not before

	asking  chan struct{} // full while Totals reads
	encoded bytes.Buffer  // an object; the shipper's, as what follows

	announced presence // as the bucket has it

	wakeKeeper, wakeShipper chan struct{}
	quit                    chan struct{} // closed to end the keeper
	drain                   chan struct{} // closed when nothing more will be sealed
	kept, shipped           chan struct{} // closed when the goroutine has ended
	abort                   context.CancelFunc
	stop                    sync.Once
	stopError               error
}

// numbers is what a ledger remembers of its sequence when all is shipped.
type numbers struct {
	Node  string `json:"node"`
	First uint64 `json:"first"` // also the ledger's name
	Last  uint64 `json:"last"`
}

// Open opens the ledger in config.Dir, or makes it, and takes up what an earlier
// process left: segments it had not sealed are sealed with the records whose
// checksums fit. It reads all that waits, about a second for each GiB; the bucket need
// not be in reach. Open fails if another process has the folder.
func Open(ctx context.Context, config Config) (*Ledger, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	bucket, err := store.Open(ctx, config.Bucket)
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	l, err := open(config, bucket)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("usage: open the ledger in %s: %w", config.Dir, err), bucket.Close())
	}
	l.bucket = bucket
	return l, nil
}

// open is Open for any store.
func open(config Config, bucket objects) (_ *Ledger, err error) {
	l := &Ledger{
		config: config, store: bucket,
		wakeKeeper: make(chan struct{}, 1), wakeShipper: make(chan struct{}, 1),
		asking: make(chan struct{}, 1),
		quit:   make(chan struct{}), drain: make(chan struct{}), kept: make(chan struct{}), shipped: make(chan struct{}),
	}
	if l.lock, err = lockFolder(config.Dir, config.lockWait); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.lock.Close())
		}
	}()
	if l.numbers, err = openNumbers(config.Dir, config.Node); err != nil {
		return nil, err
	}
	tally, unclean, err := openTally(config.Dir, fmt.Sprint(l.numbers.First))
	if err != nil {
		return nil, err
	}
	l.tally = tally
	defer func() {
		if err != nil {
			err = errors.Join(err, tally.close(!unclean))
		}
	}()
	if err := l.recover(); err != nil {
		return nil, err
	}
	if unclean {
		if err := tally.interrupt(); err != nil {
			return nil, err
		}
	}
	if config.orphan == nil { // before the first record: a kill may come before the shipper has looked
		if err := tally.openHour(config.clock()); err != nil {
			return nil, err
		}
	}
	if l.metrics, err = newMetrics(config.Metrics, l); err != nil {
		return nil, err
	}
	life, abort := context.WithCancel(context.Background())
	l.abort = abort
	l.makeSpare()
	go l.keep()
	go l.ship(life)
	return l, nil
}

// lockFolder makes the folder, if it is missing, and makes it this process's own for as
// long as it lives. It waits if another has it.
func lockFolder(dir string, wait time.Duration) (*os.File, error) {
	for deadline := time.Now().Add(wait); ; time.Sleep(lockPause) {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, err
		}
		file, err := tryLock(dir)
		if err == nil || !errors.Is(err, errLocked) || !time.Now().Before(deadline) {
			return file, err
		}
	}
}

// errLocked says that the folder is not to be had now.
var errLocked = errors.New("another process has it")

// tryLock locks a folder that is there, or says that it is somebody's, or going: errLocked.
func tryLock(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errLocked, err)
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var locked, there os.FileInfo
		if locked, err = file.Stat(); err == nil {
			there, err = os.Stat(name)
		}
		if err == nil && os.SameFile(locked, there) {
			return file, nil
		}
		err = errors.New("it was removed meanwhile") // by an Adopter, which was done with it
	}
	return nil, errors.Join(fmt.Errorf("lock the folder %s: %w: %w", dir, errLocked, err), file.Close())
}

// lockPause is between two tries to lock a folder: flock(2) has no time limit.
const lockPause = 50 * time.Millisecond

// Append keeps a record; r stays the caller's. When it returns nil, the record
// survives the end of the process, however it comes, and after SyncEvery the
// machine's. It waits for no disk and no bucket, and allocates nothing. Its errors
// are ErrFull, ErrStopped, and one that names what is wrong with the record.
func (l *Ledger) Append(r *lightcone.UsageRecord) error {
	length, err := check(r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.active == nil || l.active.room() < frameSize(length) {
		if err := l.rotate(); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if l.active.count == 0 {
		l.active.begun = time.Now()
	}
	l.active.append(r, length)
	l.appended++
	l.mu.Unlock()
	return nil
}

// Answered counts one call that has been answered and started at start: once for
// each Append, by whoever answers, so that the two can be compared. An error says
// that the count was kept in memory, and could not be brought to its file.
func (l *Ledger) Answered(start time.Time) error {
	if at := start.UnixMicro(); at < earliest || at >= latest {
		return fmt.Errorf("usage: count an answered call: it started at %s: want 2000 to 2199", start)
	}
	if err := l.tally.answered(hourNumber(start)); err != nil {
		return fmt.Errorf("usage: count an answered call: %w", err)
	}
	return nil
}

// Full says why no more calls should be admitted: nil, or an error with ErrFull,
// when there is no room for another segment and the present one is half full. The
// other half is for calls that were admitted before.
func (l *Ledger) Full() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full()
}

// full is Full for a holder of mu.
func (l *Ledger) full() error {
	switch {
	case l.spare != nil || l.ended || l.failure == nil && l.hasRoom():
		return nil
	case l.active != nil && l.active.room() > len(l.active.mapped)/2:
		return nil
	case l.failure != nil:
		return fmt.Errorf("%w: %w", ErrFull, l.failure)
	default:
		return fmt.Errorf("%w: %d bytes of segments wait in %s for %s, of at most %d", ErrFull, l.disk, l.config.Dir, l.config.Bucket, l.config.MaxDiskBytes)
	}
}

// hasRoom says whether the bound leaves room for another segment.
func (l *Ledger) hasRoom() bool { return l.disk+l.config.SealBytes <= l.config.MaxDiskBytes }

// rotate makes the spare the active segment; if it is not there yet, here and now.
// The caller holds mu.
func (l *Ledger) rotate() error {
	if l.ended {
		return ErrStopped
	}
	if l.spare == nil {
		l.create()
	}
	if l.spare == nil {
		return l.full()
	}
	if l.active != nil {
		l.closing = append(l.closing, l.active)
	}
	l.active, l.spare = l.spare, nil
	wake(l.wakeKeeper)
	return nil
}

// create makes the spare, if there is room. The caller holds mu.
func (l *Ledger) create() {
	if !l.hasRoom() || l.lent {
		return
	}
	if l.failure = l.keepReserve(); l.failure != nil {
		return
	}
	s, err := createSegment(l.config.Dir, l.config.Node, l.last+1, l.config.SealBytes)
	if l.failure = err; err != nil {
		return
	}
	l.spare = s
	l.last++
	l.disk += l.config.SealBytes
}

// Stop ends the ledger: what was appended is sealed, and shipped as far as the
// bucket takes it before ctx ends. What is not shipped is there for the next Open; the
// error says how much that is.
func (l *Ledger) Stop(ctx context.Context) error {
	l.stop.Do(func() { l.stopError = l.end(ctx) })
	return l.stopError
}

func (l *Ledger) end(ctx context.Context) error {
	l.mu.Lock()
	l.ended = true
	for _, s := range []*segment{l.active, l.spare} {
		if s != nil {
			l.closing = append(l.closing, s)
		}
	}
	l.active, l.spare = nil, nil
	l.mu.Unlock()
	close(l.quit)
	<-l.kept
	close(l.drain)
	giveUp := context.AfterFunc(ctx, l.abort)
	<-l.shipped
	giveUp()
	l.abort()

	var failed error
	l.mu.Lock()
	unsealed := len(l.closing)
	if left := len(l.sealed) + len(l.aside); left > 0 {
		failed = fmt.Errorf("usage: %d segments of %d bytes are not in %s: they wait in %s", left, l.disk, l.config.Bucket, l.config.Dir)
	}
	settled := l.tally.settled()
	if failed == nil && !settled && l.config.orphan == nil {
		failed = fmt.Errorf("usage: what was counted is not in %s: it waits in %s", l.config.Bucket, l.config.Dir)
	}
	for _, s := range l.closing {
		failed = errors.Join(failed, fmt.Errorf("usage: segment %d could not be sealed: it is recovered at the next start", s.sequence), s.drop())
	}
	l.mu.Unlock()
	l.metrics.unregister(l.config.Metrics)
	done := failed == nil && settled && l.config.orphan != nil
	failed = errors.Join(failed, l.tally.close(unsealed == 0))
	if done && failed == nil {
		failed = l.config.orphan()
	}
	failed = errors.Join(failed, l.lock.Close())
	if l.bucket != nil {
		failed = errors.Join(failed, l.bucket.Close())
	}
	return failed
}

// wake tells a goroutine that there is something to do.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
