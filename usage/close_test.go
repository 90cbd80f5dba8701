package usage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lightcone/usage/store"
)

// A ledger that stops in order closes the present hour, too: its node may never be
// back. If it is, the hour is open again, also when that ends in a kill.
func TestAStopInOrderClosesTheHour(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	config = config.withDefaults()
	s := bucketOf(t, config)
	some := records(0, 60)
	for i := range some {
		some[i].Start = time.Now()
	}
	expect := func(closed bool, recorded int) {
		t.Helper()
		total := 0
		for key, c := range counts(t, s) { // the test may have begun in the hour before
			total += int(c.Recorded)
			if c.Closed != closed {
				t.Errorf("%s: %+v, want closed: %v", key, c, closed)
			}
		}
		if total != recorded {
			t.Errorf("%d are counted, want %d", total, recorded)
		}
	}
	l, err := open(config, s)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, some[:20])
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	expect(true, 20)

	if l, err = open(config, s); err != nil {
		t.Fatal(err)
	}
	await(t, "the counts are sent", func() bool { return idle(l) })
	put(t, l, some[20:40])
	await(t, "all is shipped", func() bool { return idle(l) })
	put(t, l, some[40:])
	abandon(l)
	for key, c := range counts(t, s) {
		if c.Recorded > 0 && c.Closed && c.Hour.Equal(HourOf(time.Now())) {
			t.Errorf("%s is closed, and the node may have more: %+v", key, c)
		}
	}
	if l, err = open(config, s); err != nil {
		t.Fatal(err)
	}
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	expect(true, 60)
}

// countless is a bucket that takes no counts.
type countless struct{ *store.Bucket }

func (c countless) Write(ctx context.Context, key string, body []byte) error {
	if strings.HasPrefix(key, "counts/") {
		return errors.New("no counts are taken")
	}
	return c.Bucket.Write(ctx, key, body)
}

// A stop that has brought all records to the bucket, and not the counts, says so.
func TestAStopThatLeavesCountsSaysSo(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	config = config.withDefaults()
	s := bucketOf(t, config)
	l, err := open(config, countless{s})
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, records(0, 10))
	await(t, "all is shipped", func() bool { return waiting(l) == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := l.Stop(ctx); err == nil || !strings.Contains(err.Error(), "what was counted is not in") {
		t.Errorf("stopped as if all was told: %v", err)
	}
	if l, err = open(config, s); err != nil {
		t.Fatal(err)
	}
	if err := halt(l); err != nil {
		t.Fatal(err)
	}
	expectStored(t, s, records(0, 10))
}
