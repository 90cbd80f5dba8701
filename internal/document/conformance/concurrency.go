package conformance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"lightcone/internal/document"
)

// seenWhole reads two documents, one after the other, that every commit changes
// together: the one that is read later is never the older one.
func seenWhole(t *trial) {
	version := t.commit(put("a", "0", 0), put("b", "0", 0))
	var group sync.WaitGroup
	stop := make(chan struct{})
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				first, _, err1 := t.store.Get(t.ctx, order[0])
				second, _, err2 := t.store.Get(t.ctx, order[1])
				if err := errors.Join(err1, err2); err != nil || second.Version < first.Version {
					t.Errorf("%s was at version %d, and %s then at %d, %v", order[0], first.Version, order[1], second.Version, err)
					return
				}
			}
		})
	}
	for i := range 50 {
		version = t.commit(put("a", strconv.Itoa(i), version), put("b", strconv.Itoa(i), version))
	}
	close(stop)
	group.Wait()
}

// oneWins lets two writers change the same version, again and again.
func oneWins(t *trial) {
	version := uint64(0)
	for range 25 {
		type outcome struct {
			version uint64
			err     error
		}
		outcomes := make(chan outcome, 2)
		for _, writer := range []string{"first", "second"} {
			go func() {
				v, err := t.store.Commit(t.ctx, put("a", writer, version), put("writers/"+writer+strconv.FormatUint(version, 10), "", 0))
				outcomes <- outcome{v, err}
			}()
		}
		one, other := <-outcomes, <-outcomes
		if one.err != nil {
			one, other = other, one
		}
		if one.err != nil || !errors.Is(other.err, document.ErrConflict) {
			t.Fatalf("%v and %v; want one to win, and ErrConflict", one.err, other.err)
		}
		version = one.version
	}
	if winners, err := t.store.Paths(t.ctx, "writers/"); err != nil || len(winners) != 25 {
		t.Errorf("%d commits of 25 went through, %v", len(winners), err)
	}
}

// noneLost counts up from several goroutines, each of which tries again after
// a conflict.
func noneLost(t *trial) {
	const writers, each = 4, 10
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				if err := countUp(t); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if d, _, err := t.store.Get(t.ctx, "count"); err != nil || string(d.Value) != strconv.Itoa(writers*each) {
		t.Errorf("counted to %q, %v", d.Value, err)
	}
}

func countUp(t *trial) error {
	for {
		d, found, err := t.store.Get(t.ctx, "count")
		if err != nil {
			return err
		}
		n := 0
		if found {
			if n, err = strconv.Atoi(string(d.Value)); err != nil {
				return err
			}
		}
		if _, err = t.store.Commit(t.ctx, put("count", strconv.Itoa(n+1), d.Version)); !errors.Is(err, document.ErrConflict) {
			return err
		}
	}
}

// answer is what a Wait brought.
type answer struct {
	d     document.Document
	found bool
	err   error
}

// wait begins to wait.
func (t *trial) wait(path string, version uint64) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		d, found, err := t.store.Wait(t.ctx, path, version)
		answers <- answer{d, found, err}
	}()
	return answers
}

// heard is what a Wait must have brought.
func (t *trial) heard(answers <-chan answer, path, value string, version uint64) {
	t.Helper()
	a := <-answers // within the trial's bound, by its context
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.is(a.d, a.found, path, value, version)
}

func waits(t *trial) {
	created := t.wait("a", 0)
	t.commit(put("ab", "", 0), put("b", "1", 0)) // not what it waits for
	first := t.commit(put("a", "1", 0))
	t.heard(created, "a", "1", first)
	t.heard(t.wait("a", 0), "a", "1", first) // already
	t.heard(t.wait("a", first+1), "a", "1", first)

	changed := t.wait("a", first)
	also := t.wait("a", first)
	t.conflicts(put("a", "2", 0)) // no change
	second := t.commit(put("a", "1", first))
	t.heard(changed, "a", "1", second)
	t.heard(also, "a", "1", second)

	gone := t.wait("a", second)
	t.commit(remove("a", second))
	t.heard(gone, "a", "", 0)
	t.heard(t.wait("a", second), "a", "", 0) // already

	back := t.wait("a", 0)
	third := t.commit(put("a", "3", 0))
	t.heard(back, "a", "3", third)
}

func waitEnds(t *trial) {
	version := t.commit(put("a", "1", 0))
	for _, test := range []struct {
		path    string
		version uint64
	}{{"a", version}, {"none", 0}} {
		short, cancel := context.WithTimeout(t.ctx, 300*time.Millisecond)
		d, found, err := t.store.Wait(short, test.path, test.version)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || found || d.Version != 0 {
			t.Errorf("%s: got %+v, %v; want the context's end", test.path, d, err)
		}
	}
	short, cancel := context.WithCancel(t.ctx)
	cancel()
	if _, _, err := t.store.Wait(short, "a", version); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want the context's end", err)
	}
}

// waitMissesNothing follows a document while others write it and more. A wake-up
// that is lost at the last commit keeps a follower for ever.
func waitMissesNothing(t *trial) {
	const commits, last = 40, "the last"
	var group sync.WaitGroup
	for follower := range 4 {
		group.Go(func() {
			for version, value := uint64(0), ""; value != last; {
				d, found, err := t.store.Wait(t.ctx, "a", version)
				if err != nil || !found || d.Version <= version {
					t.Errorf("follower %d: after version %d: %+v, found %v, %v", follower, version, d, found, err)
					return
				}
				version, value = d.Version, string(d.Value)
			}
		})
	}
	group.Go(func() {
		for i := range commits {
			if _, err := t.store.Commit(t.ctx, put(fmt.Sprintf("others/%d", i), "", 0)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	version := uint64(0)
	for i := range commits {
		version = t.commit(put("a", strconv.Itoa(i), version))
	}
	t.commit(put("a", last, version))
	group.Wait()
}
