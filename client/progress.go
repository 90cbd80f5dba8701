package client

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Tally counts what has come of a job's files so far.
type Tally struct {
	Total, Done, Failed, Skipped int
	Accepted, Running            int  // of a queued job: calls that it has in the queue or had, and those a worker has
	Queued                       bool // it is one
	BytesIn, BytesOut            int64
	CPU                          time.Duration // as billed
	latencies                    *hdrhistogram.Histogram
}

// longestLatency bounds what the histogram tells apart: above it, calls count as it.
const longestLatency = 10 * time.Minute

// newTally counts from zero. Latencies are kept in microseconds to two
// significant digits.
func newTally(total int) Tally {
	return Tally{Total: total, latencies: hdrhistogram.New(1, longestLatency.Microseconds(), 2)}
}

func (t *Tally) succeeded(answer Answer) {
	t.Done++
	t.BytesIn += answer.BytesIn
	t.BytesOut += answer.BytesOut
	t.CPU += answer.CPU
	latency := min(max(answer.Took, time.Microsecond), longestLatency)
	_ = t.latencies.RecordValue(latency.Microseconds()) // in range by the line above
}

// Progress is how a job stands at one moment.
type Progress struct {
	Total, Done, Failed, Skipped int
	Accepted, Running            int
	Queued                       bool
	Ended                        bool // nothing more is done, whatever is left
	Retries                      int64
	BytesIn, BytesOut            int64
	Elapsed                      time.Duration
	CallsPerSecond               float64       // answered or failed, since the start
	Remaining                    time.Duration // at that rate; negative when it is not known
	P50, P99                     time.Duration // of the good calls, as seen from here
}

// at does the arithmetic of the progress after elapsed.
func (t *Tally) at(elapsed time.Duration, retries int64) Progress {
	p := Progress{
		Total: t.Total, Done: t.Done, Failed: t.Failed, Skipped: t.Skipped,
		Accepted: t.Accepted, Running: t.Running, Queued: t.Queued,
		Retries: retries, BytesIn: t.BytesIn, BytesOut: t.BytesOut,
		Elapsed: elapsed, Remaining: -1,
		P50: time.Duration(t.latencies.ValueAtQuantile(50)) * time.Microsecond,
		P99: time.Duration(t.latencies.ValueAtQuantile(99)) * time.Microsecond,
	}
	if seconds := elapsed.Seconds(); seconds > 0 {
		p.CallsPerSecond = float64(t.Done+t.Failed) / seconds
	}
	left := t.Total - t.Done - t.Failed - t.Skipped
	if left == 0 {
		p.Remaining = 0
	} else if p.CallsPerSecond > 0 {
		p.Remaining = time.Duration(float64(left) / p.CallsPerSecond * float64(time.Second))
	}
	return p
}

// Line is the progress as one line of text, without its end: what it comes to first,
// and the details after it. Of a line longer than columns (in characters), whole items
// are left out at the end; 0 columns leave nothing out.
func (p Progress) Line(columns int) string {
	count := fmt.Sprintf("%d/%d", p.Done+p.Failed+p.Skipped, p.Total)
	if p.Queued {
		count = bar(p.Done+p.Failed+p.Skipped, p.Total) + " " + count
	}
	line, length := "", 0
	for _, item := range append([]string{count}, p.items()...) {
		if length += utf8.RuneCountInString(item); columns > 0 && length > columns {
			break
		}
		line += item
	}
	return line
}

// items are what a line has after the count, each with what parts it from the one before.
func (p Progress) items() []string {
	items := []string{fmt.Sprintf(" · %.1f calls/s", p.CallsPerSecond)}
	switch {
	case p.Remaining == 0:
		items = append(items, " · took "+p.Elapsed.Round(100*time.Millisecond).String())
	case p.Ended:
		items = append(items, " · stopped after "+p.Elapsed.Round(100*time.Millisecond).String())
	case p.Remaining > 0:
		items = append(items, fmt.Sprintf(" · %s left", p.Remaining.Round(time.Second)))
	}
	between := " · "
	for _, count := range []struct {
		of    int64
		what  string
		shown bool
	}{
		{int64(p.Accepted), "accepted", p.Queued},
		{int64(p.Running), "running", p.Queued},
		{int64(p.Done), "finished", p.Queued},
		{int64(p.Failed), "failed", p.Failed > 0},
		{int64(p.Skipped), "skipped", p.Skipped > 0},
		{p.Retries, "retried", p.Retries > 0},
	} {
		if count.shown {
			items = append(items, fmt.Sprintf("%s%d %s", between, count.of, count.what))
			between = ", "
		}
	}
	items = append(items, fmt.Sprintf(" · %s in, %s out", Size(p.BytesIn), Size(p.BytesOut)))
	if p.Done > 0 {
		items = append(items, fmt.Sprintf(" · p50 %s, p99 %s", Milliseconds(p.P50), Milliseconds(p.P99)))
	}
	return items
}

// barWidth is how many characters a whole bar has between its ends.
const barWidth = 20

// bar is how much of total is done, as a picture.
func bar(done, total int) string {
	filled := barWidth
	if total > 0 {
		filled = done * barWidth / total
	}
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", barWidth-filled) + "]"
}

// Size is a number of bytes for people, in powers of ten.
func Size(bytes int64) string {
	switch {
	case bytes < 1_000:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 1_000_000:
		return fmt.Sprintf("%.1f KB", float64(bytes)/1e3)
	case bytes < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	default:
		return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
	}
}

// Milliseconds is a duration in milliseconds, with a decimal below 100.
func Milliseconds(d time.Duration) string {
	milliseconds := float64(d) / float64(time.Millisecond)
	if milliseconds < 100 {
		return fmt.Sprintf("%.1f ms", milliseconds)
	}
	return fmt.Sprintf("%.0f ms", milliseconds)
}
