package usage

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
)

// A clock that leaps to and fro across hours, while records are kept, while they are
// shipped and from one process to the next, costs no record and no count: in the end
// every hour is closed, and answered = recorded = stored.
func TestTheClockJumps(t *testing.T) {
	rapid.Check(t, func(c *rapid.T) {
		dir, err := os.MkdirTemp("", "lightcone-usage-test-*")
		if err != nil {
			c.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		config, log := configFor(t, dir)
		config.SealAge = 10 * time.Millisecond
		var clock atomic.Int64
		clock.Store(past.UnixNano())
		config.clock = func() time.Time { return time.Unix(0, clock.Load()) }
		jump := func() {
			clock.Add(int64(rapid.IntRange(-150, 150).Draw(c, "minutes")) * int64(time.Minute))
		}
		open := func() *Ledger {
			l, err := Open(context.Background(), config)
			if err != nil {
				c.Fatal(err)
			}
			c.Cleanup(func() { abandon(l) })
			return l
		}
		var all []lightcone.UsageRecord
		keep := func(l *Ledger) {
			for range rapid.IntRange(1, 20).Draw(c, "records") {
				r := record(len(all))
				r.Start = config.clock().UTC().Truncate(time.Microsecond)
				all = append(all, r)
				if err := errors.Join(l.Append(&r), l.Answered(r.Start)); err != nil {
					c.Fatal(err)
				}
			}
		}
		for range rapid.IntRange(1, 3).Draw(c, "lives") {
			l := open()
			for range rapid.IntRange(1, 3).Draw(c, "jumps") {
				keep(l)
				if rapid.Bool().Draw(c, "shipped before the clock jumps") {
					for deadline := time.Now().Add(20 * time.Second); !idle(l); time.Sleep(2 * time.Millisecond) {
						if wake(l.wakeShipper); time.Now().After(deadline) { // to what the clock has closed
							c.Fatalf("not shipped within 20 s: %s", log)
						}
					}
				}
				jump()
				if rapid.Bool().Draw(c, "the bucket is told of it") {
					wake(l.wakeShipper)
				}
			}
			keep(l)
			if rapid.Bool().Draw(c, "killed") {
				abandon(l)
			} else if err := halt(l); err != nil {
				c.Fatal(err)
			}
			jump()
		}
		clock.Store(past.Add(100 * time.Hour).UnixNano()) // beyond all leaps
		if err := halt(open()); err != nil {
			c.Fatal(err)
		}
		s := bucketOf(t, config)
		expectStored(t, s, all)
		answered := int64(0)
		for key, hour := range counts(t, s) {
			answered += hour.Answered
			if hour.Difference() != 0 || hour.Torn != 0 || hour.Interrupted != 0 || hour.Recorded > 0 && !hour.Closed {
				t.Errorf("%s: %+v", key, hour)
			}
		}
		if answered != int64(len(all)) || t.Failed() {
			c.Fatalf("%d calls were answered, and the counts say %d", len(all), answered)
		}
	})
}
