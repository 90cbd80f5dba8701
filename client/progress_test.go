package client

import (
	"testing"
	"time"
)

func TestProgressLine(t *testing.T) {
	tally := newTally(100)
	if got, want := func() string { p := tally.at(0, 0); return p.Line() }(), "0/100 · 0.0 calls/s · 0 B in, 0 B out"; got != want {
		t.Errorf("at the start:\n got %s\nwant %s", got, want)
	}
	for i := range 40 {
		took := 10 * time.Millisecond
		if i == 39 {
			took = 300 * time.Millisecond
		}
		tally.succeeded(Answer{BytesIn: 265_000, BytesOut: 8_100, CPU: 8 * time.Millisecond, Took: took})
	}
	tally.Failed, tally.Skipped = 2, 8
	progress := tally.at(21*time.Second, 3)
	want := "50/100, 2 failed, 8 skipped, 3 retried · 2.0 calls/s · 10.6 MB in, 324.0 KB out · p50 10.0 ms, p99 301 ms · 25s left"
	if got := progress.Line(); got != want {
		t.Errorf("half way:\n got %s\nwant %s", got, want)
	}
	if tally.CPU != 320*time.Millisecond {
		t.Errorf("CPU of 40 calls at 8 ms = %v", tally.CPU)
	}
	tally.Skipped = 58
	progress = tally.at(42*time.Second, 3)
	want = "100/100, 2 failed, 58 skipped, 3 retried · 1.0 calls/s · 10.6 MB in, 324.0 KB out · p50 10.0 ms, p99 301 ms · took 42s"
	if got := progress.Line(); got != want {
		t.Errorf("at the end:\n got %s\nwant %s", got, want)
	}
}

func TestLatenciesOutOfRangeAreCountedAtItsEnds(t *testing.T) {
	tally := newTally(2)
	tally.succeeded(Answer{Took: 0})
	tally.succeeded(Answer{Took: 24 * time.Hour})
	progress := tally.at(time.Second, 0)
	if progress.P50 != time.Microsecond {
		t.Errorf("p50 = %v, want 1µs", progress.P50)
	}
	if progress.P99 < longestLatency || progress.P99 > longestLatency*101/100 {
		t.Errorf("p99 = %v, want %v within a hundredth", progress.P99, longestLatency)
	}
}

func TestSizesAndDurations(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Size(0), "0 B"}, {Size(999), "999 B"}, {Size(1_000), "1.0 KB"}, {Size(264_831), "264.8 KB"},
		{Size(1_000_000), "1.0 MB"}, {Size(2_345_000_000), "2.35 GB"},
		{Milliseconds(0), "0.0 ms"}, {Milliseconds(8_430 * time.Microsecond), "8.4 ms"}, {Milliseconds(1500 * time.Millisecond), "1500 ms"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
