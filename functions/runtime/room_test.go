package runtime

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"lightcone/functions"
)

// workerStory is a pool's places in a story, without its processes.
type workerStory struct {
	slots, attended, queued int
	now, refused            time.Time
}

// attend is a call whose caller waits.
func (w *workerStory) attend() bool {
	if w.attended+w.queued == w.slots {
		w.refused = w.now
		return false
	}
	w.attended++
	return true
}

// queue is a queued call.
func (w *workerStory) queue() bool {
	if !roomForQueued(w.slots, w.attended, w.queued, w.refused, w.now) {
		return false
	}
	w.queued++
	return true
}

// TestRoomForQueuedCalls plays the stories in testdata/room.txt.
func TestRoomForQueuedCalls(t *testing.T) {
	w := &workerStory{now: time.Unix(1_000_000, 0)}
	datadriven.RunTest(t, "testdata/room.txt", func(t *testing.T, d *datadriven.TestData) string {
		n := 1
		d.MaybeScanArgs(t, "n", &n)
		taken, refused := 0, 0
		count := func(admit func() bool) {
			for range n {
				if admit() {
					taken++
				} else {
					refused++
				}
			}
		}
		switch d.Cmd {
		case "worker":
			*w = workerStory{slots: n, now: w.now}
			return fmt.Sprintf("%d slots, %d in reserve\n", n, functions.SyncReserve(n))
		case "attended":
			count(w.attend)
		case "queued":
			count(w.queue)
		case "attended-end":
			w.attended -= n
		case "queued-end":
			w.queued -= n
		case "pass":
			var text string
			d.ScanArgs(t, "time", &text)
			length, err := time.ParseDuration(text)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			w.now = w.now.Add(length)
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		story := fmt.Sprintf("%d attended, %d queued of %d", w.attended, w.queued, w.slots)
		if taken+refused > 0 {
			story = fmt.Sprintf("%d taken, %d refused: %s", taken, refused, story)
		}
		return story + "\n"
	})
}

// TestQueuedCallsNeverTakeTheReserve lives through any order of calls.
func TestQueuedCallsNeverTakeTheReserve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &workerStory{slots: rapid.IntRange(1, 64).Draw(t, "slots"), now: time.Unix(1_000_000, 0)}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				w.attend()
			case 1:
				since, idle := w.now.Sub(w.refused), w.slots-w.attended-w.queued
				reserve := functions.SyncReserve(w.slots)
				taken := w.queue()
				if taken && idle-1 < reserve || taken && !w.refused.IsZero() && since < yieldTime {
					t.Fatalf("a queued call took a slot of %+v, %v after a refusal", w, since)
				}
				if !taken && (w.refused.IsZero() || since >= yieldTime) && idle > reserve {
					t.Fatalf("a queued call got no slot of %+v", w)
				}
			case 2:
				w.attended = max(w.attended-1, 0)
			case 3:
				w.queued = max(w.queued-1, 0)
			case 4:
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "milliseconds")) * time.Millisecond)
			}
		}
	})
}

// TestTheReserve checks the share itself: a quarter, rounded up, but never all.
func TestTheReserve(t *testing.T) {
	for slots := 1; slots <= 1024; slots++ {
		reserve := functions.SyncReserve(slots)
		if slots == 1 && reserve != 0 || slots > 1 && (4*reserve < slots || 4*(reserve-1) >= slots || reserve >= slots) {
			t.Errorf("%d slots have a reserve of %d", slots, reserve)
		}
	}
}
