package callback

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// Notice is what a URL is told: how one accepted call ended.
type Notice struct {
	Invocation lightcone.Invocation // its Status is final, and FinishedAt says since when: retries end MostAge after
	URL        string
	Result     functions.Result
	Elsewhere  bool // the result is too large to be sent: it has no Body here, and the receiver is told the path to fetch it from
}

// refusal is the problem that is told in place of a result; nil where there is a good one.
func (n *Notice) refusal() *problem.Error {
	switch {
	case n.Result.Status != 0 || n.Result.Problem != "":
		return n.Result.Refusal()
	case n.Invocation.Status == lightcone.InvocationCancelled:
		return problem.New(problem.Cancelled, "The call was cancelled.")
	default: // dead, or of a status that this version does not know
		return problem.New(problem.NotFinished, "%s", cmp.Or(n.Invocation.Error, "The call ended without a result."))
	}
}

// webhookID names the end of the call, and says all that the signature is to cover
// beside the body. None of its parts holds a colon or a dot.
func (n *Notice) webhookID(functionStatus int) string {
	return strings.Join([]string{
		n.Invocation.ID.String(), string(n.Invocation.Function), string(n.Invocation.Status),
		strconv.Itoa(functionStatus), strconv.FormatInt(n.Invocation.FinishedAt.UnixMilli(), 10),
	}, ":")
}

// problemDocument is an RFC 9457 problem document.
type problemDocument struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
}

// told is what is said of the call's end: X-Function-Status, and the body with its
// content type unless it is Elsewhere.
func (n *Notice) told(statusOf func(problem.Kind) (status int, title string)) (status int, contentType string, body []byte) {
	found := n.refusal()
	if found == nil {
		return n.Result.Status, contentTypeOf(n.Result.ContentType), n.Result.Body
	}
	status, title := statusOf(found.Kind)
	body, _ = json.Marshal(problemDocument{ // strings and a number always marshal
		Type:     "urn:lightcone:problem:" + string(found.Kind),
		Title:    title,
		Status:   status,
		Detail:   found.Detail,
		Instance: "urn:lightcone:call:" + n.Invocation.ID.String(),
	})
	return status, "application/problem+json", body
}

// contentTypeOf is the function's content type if a header can hold it: a function may
// have answered anything.
func contentTypeOf(text string) string {
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "application/octet-stream"
	}
	return text
}

// request is the headers and the body of an attempt.
func (n *Notice) request(config *Config, attempt int, now time.Time) (http.Header, []byte) {
	status, contentType, body := n.told(config.StatusOf)
	if n.Elsewhere {
		body = nil
	}
	id := n.webhookID(status)
	timestamp, signed := signatures(config.Keys, n.Invocation.Tenant, id, now, body)
	header := http.Header{
		"User-Agent":         {"Lightcone"},
		"Webhook-Id":         {id},
		"Webhook-Timestamp":  {timestamp},
		"Webhook-Signature":  {signed},
		"X-Call-Id":          {n.Invocation.ID.String()},
		"X-Call-Status":      {string(n.Invocation.Status)},
		"X-Function-Name":    {string(n.Invocation.Function)},
		"X-Function-Status":  {strconv.Itoa(status)},
		"X-Duration-Seconds": {strconv.FormatFloat(n.Result.Exec.Seconds(), 'f', 6, 64)},
		"X-Retry":            {strconv.Itoa(attempt - 1)},
		"X-Retry-Max":        {strconv.Itoa(MostAttempts - 1)},
	}
	if n.Elsewhere {
		header.Set("X-Result-Location", "/v1/invocations/"+n.Invocation.ID.String()+"/result")
	} else {
		header.Set("Content-Type", contentType)
	}
	return header, body
}
