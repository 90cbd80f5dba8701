package gateway

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone"
	"lightcone/internal/problem"
)

// blame is the value of X-Lightcone-Error: whose answer the problem is.
type blame string

const (
	platform blame = "platform" // Lightcone refused or failed; the function did not answer
	function blame = "function" // the function answered with it, or failed
)

// row is how a kind looks in HTTP.
type row struct {
	status int
	title  string
}

// rows is the only place where kinds become statuses.
var rows = map[problem.Kind]row{
	problem.BadParameter:     {400, "Bad parameter"},
	problem.Unauthenticated:  {401, "No or unknown key"},
	problem.Forbidden:        {403, "Not allowed with this key"},
	problem.NotFound:         {404, "Not found"},
	problem.MethodNotAllowed: {405, "Method not allowed"},
	problem.RequestTimeout:   {408, "Request timed out"},
	problem.LengthMismatch:   {400, "Body cut short"},
	problem.TooLarge:         {413, "Too large"},
	problem.UnsupportedMedia: {415, "Unsupported input"},
	problem.CorruptInput:     {422, "Corrupt input"},
	problem.TooManyPixels:    {422, "Too many pixels"},
	problem.Quarantined:      {422, "Input in quarantine"},
	problem.KeyReused:        {422, "Idempotency key reused"},
	problem.NotFinished:      {409, "No result"},
	problem.Cancelled:        {409, "Cancelled"}, // what became of the call rules out what is asked for, as with NotFinished
	problem.LimitReached:     {429, "Limit reached"},
	problem.FunctionCrashed:  {502, "Function crashed"},
	problem.OutOfMemory:      {502, "Function out of memory"},
	problem.FunctionFailed:   {502, "Function failed"},
	problem.Overloaded:       {503, "Overloaded"},
	problem.WorkerLost:       {502, "Worker lost"},
	problem.DeadlineExceeded: {504, "Deadline exceeded"},
	problem.Internal:         {500, "Internal error"},
}

// rowOf is the kind's row. A kind without one is a bug of ours, and so reads.
func rowOf(kind problem.Kind) row {
	if found, known := rows[kind]; known {
		return found
	}
	return rows[problem.Internal]
}

// StatusOf is the HTTP status and the title of a kind's problem document, for who tells
// of problems beside the gateway.
func StatusOf(kind problem.Kind) (status int, title string) {
	found := rowOf(kind)
	return found.status, found.title
}

var (
	headerCallID       = []byte("X-Call-Id")
	headerError        = []byte("X-Lightcone-Error")
	headerRetryAfter   = []byte("Retry-After")
	headerServerTiming = []byte("Server-Timing")
	headerVary         = []byte("Vary")
	headerChallenge    = []byte("Www-Authenticate")
	headerAllow        = []byte("Allow")
	headerLocation     = []byte("Location")
	headerCacheControl = []byte("Cache-Control")

	headerPreferenceApplied = []byte("Preference-Applied")

	noStore   = []byte("no-store")
	challenge = []byte(`Bearer realm="lightcone"`)
)

// document is an RFC 9457 problem document. Its fields are all of strings and
// numbers, so marshalling it cannot fail.
type document struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
	Quota    string `json:"quota,omitempty"` // of limit-reached: which one
}

// writeProblem makes response the problem's document. random is uniform in [0,1).
func writeProblem(response *fasthttp.Response, found *problem.Error, whose blame, id string, random float64) {
	writeProblemAs(response, found, rowOf(found.Kind), whose, id, random)
}

// writeProblemAs is writeProblem with a status and title of the caller's choice.
func writeProblemAs(response *fasthttp.Response, found *problem.Error, as row, whose blame, id string, random float64) {
	body, err := json.Marshal(document{
		Type:     "urn:lightcone:problem:" + string(found.Kind),
		Title:    as.title,
		Status:   as.status,
		Detail:   found.Detail,
		Instance: "urn:lightcone:call:" + id,
		Quota:    found.Quota,
	})
	if err != nil {
		panic(err) // see document
	}
	response.SetStatusCode(as.status)
	response.Header.SetContentType("application/problem+json")
	response.Header.SetCanonical(headerCallID, []byte(id))
	response.Header.SetCanonical(headerError, []byte(whose))
	response.SetBodyRaw(body)
	if as.status == fasthttp.StatusUnauthorized {
		response.Header.SetCanonical(headerChallenge, challenge)
	}
	after := min(found.RetryAfter, longestRetry)
	if found.Kind == problem.LimitReached {
		after = min(found.RetryAfter, longestLimit)
	}
	setRetryAfter(response, as.status, after, random)
}

// setRetryAfter names the seconds to stay away on every 429 and 503.
func setRetryAfter(response *fasthttp.Response, status int, after time.Duration, random float64) {
	if status == fasthttp.StatusTooManyRequests || status == fasthttp.StatusServiceUnavailable {
		response.Header.SetCanonical(headerRetryAfter, strconv.AppendInt(nil, retrySeconds(after, random), 10))
	}
}

// The longest waits that are asked for. The first bounds guesses, and whoever is
// sent away by overload should see for himself before long. A tenant's own limit is
// known: a shorter wait than it takes would be in vain. Still it is bounded, as a
// quota can be raised before the month ends.
const (
	longestRetry = time.Minute
	longestLimit = time.Hour
)

// retrySeconds rounds a wait up to whole seconds, at least 1, and spreads it by up
// to a half and a second more, so that those refused together do not come back
// together. random is uniform in [0,1).
func retrySeconds(after time.Duration, random float64) int64 {
	least := max(math.Ceil(after.Seconds()), 1)
	return int64(least + math.Floor(random*(least/2+1.5)))
}

// fault says whose answer a problem is that a Worker returned.
func fault(kind problem.Kind) blame {
	switch kind {
	case problem.FunctionCrashed, problem.OutOfMemory, problem.FunctionFailed, problem.DeadlineExceeded:
		return function
	default:
		return platform
	}
}

// appendTiming writes Server-Timing (https://www.w3.org/TR/server-timing/) in
// milliseconds with three decimals.
func appendTiming(dst []byte, queued, exec, cpu time.Duration) []byte {
	dst = appendMillis(append(dst, "queue;dur="...), queued)
	dst = appendMillis(append(dst, ", exec;dur="...), exec)
	return appendMillis(append(dst, ", cpu;dur="...), cpu)
}

func appendMillis(dst []byte, d time.Duration) []byte {
	micros := max(d.Microseconds(), 0)
	dst = strconv.AppendInt(dst, micros/1000, 10)
	rest := micros % 1000
	return append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
}

// rejection is a whole 503 for a connection that is not served at all.
func rejection(id lightcone.CallID) []byte {
	return wholeAnswer(problem.New(problem.Overloaded, "Too many connections are open; nothing was read from this one."), id)
}

// wholeAnswer is found's document with all that is before it, for a connection that
// has not come to HTTP and is closed after it.
func wholeAnswer(found *problem.Error, id lightcone.CallID) []byte {
	var response fasthttp.Response
	writeProblem(&response, found, platform, id.String(), 0)
	response.Header.SetServer(serverName)
	response.SetConnectionClose()
	response.Header.SetContentLength(len(response.Body()))
	header := response.Header.Header()
	return append(append([]byte(nil), header...), response.Body()...)
}
