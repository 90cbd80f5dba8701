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
