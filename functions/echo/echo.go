// Package echo is the smallest function: it answers its input. It proves the
// contract without any library in the way, and benchmarks use it to see what
// Lightcone itself costs.
//
// Invariants: the answer is the input, or its first bytes; nothing is kept.
// It does not interpret its input.
package echo

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// longestDelay bounds the parameter delay.
const longestDelay = 30 * time.Second

// Handle answers the input with the content type it came with. The query
// parameter bytes, 0 or more, shortens the answer to so many bytes; delay, a Go
// duration of at most 30 s, holds the slot for so long without using it.
func Handle(ctx context.Context, r *http.Request, body []byte) (functions.Reply, error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return functions.Reply{}, problem.New(problem.BadParameter, "The query string cannot be read: %v.", err)
	}
	for name, values := range parameters {
		switch {
		case name == "bytes" && len(values) == 1:
			limit, err := strconv.ParseInt(values[0], 10, 64)
			if err != nil || limit < 0 {
				return functions.Reply{}, problem.New(problem.BadParameter, "bytes=%.40q is not a length: want a whole number, 0 or more.", values[0])
			}
			body = body[:min(limit, int64(len(body)))]
		case name == "delay" && len(values) == 1:
			if err := pause(ctx, values[0]); err != nil {
				return functions.Reply{}, err
			}
		default:
			return functions.Reply{}, problem.New(problem.BadParameter, "The parameter %q is unknown or repeated; echo takes two: bytes, the length to shorten the answer to, and delay, the time to take for it.", name)
		}
	}
	kind := r.Header.Get("Content-Type")
	if kind == "" {
		kind = "application/octet-stream"
	}
	return functions.Reply{ContentType: kind, Body: body}, nil
}

// pause waits for as long as text says, or until the call ends.
func pause(ctx context.Context, text string) error {
	delay, err := time.ParseDuration(text)
	if err != nil || delay < 0 || delay > longestDelay {
		return problem.New(problem.BadParameter, "delay=%.40q is not a pause: want a duration such as 50ms, at most %v.", text, longestDelay)
	}
	return retry.Pause(ctx, delay)
}
