package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lightcone/internal/problem"
)

// longestProblem bounds how much of a refusal's body is read: a problem
// document is a few hundred bytes.
const longestProblem = 64 << 10

// Answer is what is known of a call besides its result. The zero value of a
// figure means that the server did not say.
type Answer struct {
	Status           int
	ContentType      string
	CallID           string
	BytesIn          int64 // sent
	BytesOut         int64 // received
	Queue, Exec, CPU time.Duration
	Took             time.Duration // the last attempt's, seen from here
	Attempts         int
}

// Refusal is Lightcone's no: an answer other than 200.
type Refusal struct {
	Status     int
	Kind       problem.Kind // empty when the answer was no problem document
	Detail     string       // a sentence
	Quota      string       // the limit that was reached; empty = none, or it does not say
	CallID     string
	RetryAfter time.Duration // 0 = it does not say
}

// concurrentCalls is the Quota of how many calls a tenant may have under way at once.
const concurrentCalls = "concurrent_calls"

// Error is the sentence for the person who called.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("%s (%d", r.Detail, r.Status)
	if r.Kind != "" {
		text += " " + string(r.Kind)
	}
	if r.CallID != "" {
		text += ", call " + r.CallID
	}
	return text + ")"
}

// Unreachable says that no connection could be made, so nothing was run.
type Unreachable struct {
	Base string
	Err  error
}

// Error names the address and says what to do.
func (u *Unreachable) Error() string {
	return fmt.Sprintf("Lightcone cannot be reached at %s: %v. Is it running there? `make run` starts one; --api names another address.", u.Base, u.Err)
}

// Unwrap is the network's error.
func (u *Unreachable) Unwrap() error { return u.Err }

// Lost says that the connection broke after the call had been sent: it may have
// been run, and charged, without its answer arriving.
type Lost struct {
	Base string
	Err  error
}

// Error says what is not known.
func (l *Lost) Error() string {
	return fmt.Sprintf("The connection to %s was lost before the whole answer had arrived (%v). The call may have been run.", l.Base, l.Err)
}

// Unwrap is the network's error.
func (l *Lost) Unwrap() error { return l.Err }

// transportError sorts what sending a request, or reading its answer, failed with.
func transportError(base string, err error) error {
	var dial *net.OpError
	var file *fs.PathError
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &file): // not the network's doing
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer in time; --timeout gives the call longer: %w", base, err)
	case errors.As(err, &dial) && dial.Op == "dial":
		return &Unreachable{Base: base, Err: dial.Err}
	default:
		return &Lost{Base: base, Err: err}
	}
}

func answerOf(response *http.Response, sent int64) Answer {
	timing := parseServerTiming(response.Header.Get("Server-Timing"))
	return Answer{
		Status:      response.StatusCode,
		ContentType: response.Header.Get("Content-Type"),
		CallID:      response.Header.Get("X-Call-Id"),
		BytesIn:     sent,
		Queue:       timing["queue"],
		Exec:        timing["exec"],
		CPU:         timing["cpu"],
	}
}

// refusalOf reads an answer other than 200: a problem document (RFC 9457), or
// whatever a proxy in between may have said instead.
func refusalOf(response *http.Response, now time.Time) *Refusal {
	refusal := &Refusal{
		Status:     response.StatusCode,
		CallID:     response.Header.Get("X-Call-Id"),
		RetryAfter: parseRetryAfter(response.Header.Get("Retry-After"), now),
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, longestProblem)) // half a sentence is better than none
	refusal.Kind, refusal.Detail, refusal.Quota = parseProblem(response.Header.Get("Content-Type"), body)
	if refusal.Detail == "" {
		refusal.Detail = fmt.Sprintf("The server answered %d %s without saying why.", response.StatusCode, http.StatusText(response.StatusCode))
	}
	return refusal
}

// parseProblem takes kind, sentence and quota out of a problem document; out of plain
// text, its first line; out of anything else, nothing.
func parseProblem(contentType string, body []byte) (kind problem.Kind, detail, quota string) {
	media, _, _ := mime.ParseMediaType(contentType) // an unusable type reads as none
	switch media {
	case "application/problem+json":
		var document struct{ Type, Title, Detail, Quota string }
		if json.Unmarshal(body, &document) != nil {
			return "", "", ""
		}
		name, ours := strings.CutPrefix(document.Type, "urn:lightcone:problem:")
		if !ours {
			name = ""
		}
		if document.Detail == "" {
			document.Detail = document.Title
		}
		return problem.Kind(printable(name)), printable(document.Detail), printable(document.Quota)
	case "text/plain":
		line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
		return "", printable(line), ""
	default:
		return "", "", ""
	}
}

// printable keeps a server's words from steering the terminal, and from filling it.
func printable(text string) string {
	const longest = 500
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return text
}

// parseRetryAfter reads RFC 9110 section 10.2.3: seconds or a date. What is
// neither, or in the past, is 0.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if when, err := http.ParseTime(text); err == nil {
		return max(0, when.Sub(now))
	}
	return 0
}

// parseServerTiming reads the durations (in milliseconds) of a Server-Timing
// header, W3C "Server Timing" section 3. Entries that do not read are left out.
func parseServerTiming(text string) map[string]time.Duration {
	found := make(map[string]time.Duration)
	for entry := range strings.SplitSeq(text, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(entry), ";")
		for param := range strings.SplitSeq(params, ";") {
			value, is := strings.CutPrefix(strings.TrimSpace(param), "dur=")
			if !is {
				continue
			}
			milliseconds, err := strconv.ParseFloat(strings.Trim(value, `"`), 64)
			const longest = float64(24 * time.Hour / time.Millisecond)
			if err == nil && milliseconds >= 0 && milliseconds <= longest {
				found[strings.TrimSpace(name)] = time.Duration(milliseconds * float64(time.Millisecond))
			}
		}
	}
	return found
}
