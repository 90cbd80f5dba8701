package management

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"lightcone/internal/problem"
)

// row is how a kind looks in HTTP.
type row struct {
	status int
	title  string
}

// rows has the kinds that these routes answer with.
var rows = map[problem.Kind]row{
	problem.BadParameter:     {http.StatusBadRequest, "Bad parameter"},
	problem.LengthMismatch:   {http.StatusBadRequest, "Body cut short"},
	problem.Forbidden:        {http.StatusForbidden, "Not allowed from another site"},
	problem.NotFound:         {http.StatusNotFound, "Not found"},
	problem.MethodNotAllowed: {http.StatusMethodNotAllowed, "Method not allowed"},
	Conflict:                 {http.StatusConflict, "Conflict"},
	Stale:                    {http.StatusPreconditionFailed, "Changed meanwhile"},
	problem.TooLarge:         {http.StatusRequestEntityTooLarge, "Too large"},
	problem.Overloaded:       {http.StatusServiceUnavailable, "Cannot answer now"},
	problem.Internal:         {http.StatusInternalServerError, "Internal error"},
}

const problemPrefix = "urn:lightcone:problem:"

// problemDocument is an RFC 9457 problem document.
type problemDocument struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// answer writes a value as JSON, or the problem that kept it from being there.
func answer(w http.ResponseWriter, status int, value any, err error) {
	header := w.Header()
	header.Set("Cache-Control", "no-store") // one of them holds a key
	header.Set("X-Content-Type-Options", "nosniff")
	kind := "application/json"
	if err != nil {
		found := problem.Of(err)
		as, listed := rows[found.Kind]
		if !listed {
			as = rows[problem.Internal]
		}
		if as.status == http.StatusServiceUnavailable {
			header.Set("Retry-After", strconv.Itoa(int(max(math.Ceil(found.RetryAfter.Seconds()), 1))))
		}
		header.Set("X-Lightcone-Error", "platform")
		header.Del("Etag")
		header.Del("Location")
		kind, status = "application/problem+json", as.status
		value = problemDocument{Type: problemPrefix + string(found.Kind), Title: as.title, Status: status, Detail: found.Detail}
	}
	if value == nil {
		w.WriteHeader(status)
		return
	}
	header.Set("Content-Type", kind)
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // nobody reads it as HTML
	_ = encoder.Encode(value)    // a reader that left needs no answer
}
