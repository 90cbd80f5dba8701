package functions

import (
	"time"

	"lightcone/internal/problem"
)

// Queued is a call that its caller does not wait for: the queue keeps it until it
// is done. Call.Deadline is not used: each attempt has Timeout from its own start.
type Queued struct {
	Call           Call
	Timeout        time.Duration
	IdempotencyKey string // 1 to 255 bytes; empty = none
	Callback       string // URL that hears of the end; empty = none
}

// SyncReserve is how many of a function's slots queued calls leave free for those
// whose callers wait: a quarter, rounded up. A lone slot cannot be kept free and used.
func SyncReserve(slots int) int {
	if slots <= 1 {
		return 0
	}
	return (slots + 3) / 4
}

// Result is what a queued call came to: the function's answer, or why there is none.
type Result struct {
	Status      int          // the function's HTTP status; 0 when Problem is set and it did not answer
	Problem     problem.Kind // set when there is no good answer; Body is then its sentence
	ContentType string
	Vary        string
	Body        []byte
	CPU         time.Duration // of the attempt that gave it
	Exec        time.Duration
	Waited      time.Duration // from being accepted to the start of that attempt
}
