package runtime

import (
	"bytes"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// recycle says why a process that has answered should be replaced now, or "".
func recycle(spec functions.Spec, calls int, resident int64) string {
	switch {
	case spec.RecycleAfterCalls > 0 && calls >= spec.RecycleAfterCalls:
		return "served its number of calls"
	case spec.RecycleAboveBytes > 0 && resident > spec.RecycleAboveBytes:
		return "grew above its memory mark"
	default:
		return ""
	}
}

const (
	firstRestartDelay = 10 * time.Millisecond
	maxRestartDelay   = 5 * time.Second
)

// restartDelay is how long to wait before starting a process again after so
// many starts in a row failed: exponential, capped, with full jitter
// (random in [0, 1)), so that a broken build does not spin every core at once.
func restartDelay(failures int, random float64) time.Duration {
	return retry.BackOff(failures+1, firstRestartDelay, maxRestartDelay, random)
}

const (
	sameComplaintEvery = 10 * time.Second // an error of the same text is logged at most so often
	maxComplaints      = 4                // different texts in that time: one that holds the time of day is ever new
)

// complaints are the errors that were logged of late, the oldest first. The zero
// value is none.
type complaints []complaint

type complaint struct {
	text string
	at   time.Time
}

// worthSaying says whether to log an error of this text now, and if so, takes note of it.
func (c *complaints) worthSaying(text string, now time.Time) bool {
	for len(*c) > 0 && now.Sub((*c)[0].at) >= sameComplaintEvery {
		*c = (*c)[1:]
	}
	if len(*c) == maxComplaints {
		return false
	}
	for _, said := range *c {
		if said.text == text {
			return false
		}
	}
	*c = append(*c, complaint{text, now})
	return true
}

// outOfMemoryWords are what runtimes print when an allocation is refused: Go's,
// GLib's (libvips), C++'s and Python's.
var outOfMemoryWords = [][]byte{
	[]byte("out of memory"), []byte("cannot allocate memory"), []byte("failed to allocate"),
	[]byte("bad_alloc"), []byte("MemoryError"), []byte("Cannot allocate memory"),
}

// diagnose turns a death during a call into the kind its caller is told.
// overgrown: the supervisor killed it for its memory; words: its last output;
// peak: the most it ever had resident, in bytes. A process that died with most
// of its bound in use died of the bound, whatever it managed to say.
func diagnose(overgrown bool, words []byte, peak, bound int64) problem.Kind {
	if overgrown || peak > bound/4*3 {
		return problem.OutOfMemory
	}
	for _, sign := range outOfMemoryWords {
		if bytes.Contains(words, sign) {
			return problem.OutOfMemory
		}
	}
	return problem.FunctionCrashed
}
