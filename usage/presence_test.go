package usage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// Who may hold records that the bucket does not have is missed while it does not answer,
// in the hours that they may be of, whether anything else knows of it or not.
func TestWhoIsAwayIsMissed(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	config.SealAge = time.Hour
	s := bucketOf(t, config)
	r, err := OpenReader(t.Context(), config.withDefaults().Bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	now := time.Now()
	today, lastWeek, nextWeek := HoursOf(past, now), HoursOf(past.Add(-8*24*time.Hour), past.Add(-7*24*time.Hour)), HoursOf(now.Add(7*24*time.Hour), now.Add(8*24*time.Hour))
	expect := func(when string, of Period, want int, answers ...Unshipped) {
		t.Helper()
		if away, err := r.Away(t.Context(), of, answers); err != nil || away != want {
			t.Errorf("%s: %d are away, want %d: %v", when, away, want, err)
		}
	}
	expect("before it is opened", today, 0)
	l := begin(t, config)
	await(t, "it is there", func() bool {
		away, err := r.Away(t.Context(), today, nil)
		return err == nil && away == 1
	})
	put(t, l, records(0, 10))
	answer, err := l.Totals(t.Context(), "", today)
	if err != nil {
		t.Fatal(err)
	}
	expect("when it has answered", today, 0, answer)
	expect("when another has answered", today, 1, Unshipped{Node: "gw-2"})
	expect("for hours before it", lastWeek, 0)
	expect("for hours after it", nextWeek, 0)
	abandon(l)
	expect("when it is killed", today, 1)
	l = begin(t, config)
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	expect("when it has shipped all", today, 0)

	// Records that have waited for long are missed in the hours that they are of.
	l = begin(t, config)
	old := records(20, 30)
	for i := range old {
		old[i].Start = old[i].Start.Add(-8*24*time.Hour + 30*time.Minute)
	}
	put(t, l, old)
	abandon(l)
	blocked := &mortal{Bucket: s, steps: 3, dead: make(chan struct{})} // so many that it says that it is there, and ships nothing
	l, err = open(config.withDefaults(), blocked)
	if err != nil {
		t.Fatal(err)
	}
	<-blocked.dead
	abandon(l)
	expect("when it holds what is old", lastWeek, 1)

	for _, key := range []string{"open/notes.txt", "open/node=GW.json"} {
		if err := s.Write(t.Context(), key, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	expect("with foreign files", today, 1)
	if err := s.Write(t.Context(), "open/node=gw-3.json", []byte("{")); err != nil {
		t.Fatal(err)
	}
	expect("with a word that cannot be read", today, 2)
}

// crowd is a bucket that answers nobody before so many are asking; a fake, for a real one
// answers each.
type crowd struct {
	memory
	most    int64
	asking  atomic.Int64
	enough  chan struct{}
	patient context.Context
}

func (c *crowd) Read(ctx context.Context, key string, most int64) ([]byte, error) {
	if c.asking.Add(1) == c.most {
		close(c.enough)
	}
	select {
	case <-c.enough:
		return c.memory.Read(ctx, key, most)
	case <-c.patient.Done():
		return nil, errors.New("it is asked one by one")
	}
}

func TestTheWordsOfManyNodesAreReadSideBySide(t *testing.T) {
	t.Parallel()
	patient, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := &crowd{memory: make(memory), most: wordsAtOnce, enough: make(chan struct{}), patient: patient}
	for n := range 3 * wordsAtOnce {
		word := fmt.Sprintf(`{"from": %q, "until": %q}`, past.Format(time.RFC3339), past.Add(time.Duration(n%3)*time.Hour).Format(time.RFC3339))
		c.memory[presenceKey(fmt.Sprintf("gw-%d", n))] = []byte(word) // a third of them cannot be
	}
	r := &Reader{store: c}
	for of, want := range map[Period]int{HoursOf(past, past.Add(time.Hour)): 3 * wordsAtOnce, HoursOf(past.Add(time.Hour), past.Add(2*time.Hour)): 2 * wordsAtOnce} {
		if away, err := r.Away(t.Context(), of, nil); err != nil || away != want {
			t.Errorf("%d are away, want %d: %v", away, want, err)
		}
	}
}
