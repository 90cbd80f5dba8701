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

	"lightcone/functions"
	"lightcone/internal/problem"
)

// Handle answers the input with the content type it came with. The query
// parameter bytes, 0 or more, shortens the answer to so many bytes.
func Handle(_ context.Context, r *http.Request, body []byte) (functions.Reply, error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return functions.Reply{}, problem.New(problem.BadParameter, "The query string cannot be read: %v.", err)
	}
	for name, values := range parameters {
		if name != "bytes" || len(values) != 1 {
			return functions.Reply{}, problem.New(problem.BadParameter, "The parameter %q is unknown or repeated; echo takes one: bytes, the length to shorten the answer to.", name)
		}
		limit, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil || limit < 0 {
			return functions.Reply{}, problem.New(problem.BadParameter, "bytes=%.40q is not a length: want a whole number, 0 or more.", values[0])
		}
		body = body[:min(limit, int64(len(body)))]
	}
	kind := r.Header.Get("Content-Type")
	if kind == "" {
		kind = "application/octet-stream"
	}
	return functions.Reply{ContentType: kind, Body: body}, nil
}
