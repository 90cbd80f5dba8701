package client

import (
	"testing"
	"time"
)

func TestProgressLine(t *testing.T) {
	tally := newTally(100)
	if got, want := func() string { p := tally.at(0, 0); return p.Line(0) }(), "0/100 · 0.0 calls/s · 0 B in, 0 B out"; got != want {
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
	want := "50/100 · 2.0 calls/s · 25s left · 2 failed, 8 skipped, 3 retried · 10.6 MB in, 324.0 KB out · p50 10.0 ms, p99 301 ms"
	if got := progress.Line(0); got != want {
		t.Errorf("half way:\n got %s\nwant %s", got, want)
	}
	if tally.CPU != 320*time.Millisecond {
		t.Errorf("CPU of 40 calls at 8 ms = %v", tally.CPU)
	}
	tally.Skipped = 58
	progress = tally.at(42*time.Second, 3)
	want = "100/100 · 1.0 calls/s · took 42s · 2 failed, 58 skipped, 3 retried · 10.6 MB in, 324.0 KB out · p50 10.0 ms, p99 301 ms"
	if got := progress.Line(0); got != want {
		t.Errorf("at the end:\n got %s\nwant %s", got, want)
	}
}

func TestProgressOfAQueuedJobFitsItsTerminal(t *testing.T) {
	p := Progress{
		Total: 64, Done: 43, Failed: 1, Accepted: 64, Running: 1, Queued: true, Retries: 2, BytesIn: 25_400_000, BytesOut: 382_600,
		Elapsed: 1530 * time.Millisecond, CallsPerSecond: 4.1, Remaining: 5 * time.Second, P50: 8585 * time.Millisecond, P99: 9306 * time.Millisecond,
	}
	const head = "[#############-------] 44/64 · 4.1 calls/s"
	const counts = " · 64 accepted, 1 running"
	for columns, want := range map[int]string{
		0:   head + " · 5s left" + counts + ", 43 finished, 1 failed, 2 retried · 25.4 MB in, 382.6 KB out · p50 8585 ms, p99 9306 ms",
		79:  head + " · 5s left" + counts,
		120: head + " · 5s left" + counts + ", 43 finished, 1 failed, 2 retried",
		52:  head + " · 5s left",
		51:  head,
		1:   "",
	} {
		if got := p.Line(columns); got != want {
			t.Errorf("in %d columns:\n got %s\nwant %s", columns, got, want)
		}
	}
	p.Ended = true
	if got, want := p.Line(79), head+" · stopped after 1.5s · 64 accepted"; got != want {
		t.Errorf("stopped:\n got %s\nwant %s", got, want)
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
