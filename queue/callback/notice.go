package callback

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lightcone"
	"lightcone/functions"
)

// Notice is what a URL is told: how one accepted call ended.
type Notice struct {
	Invocation lightcone.Invocation // its Status is final, and FinishedAt says since when: retries end MostAge after
	URL        string
	Result     functions.Result
	Elsewhere  bool // the result is too large to be sent: it has no Body here, and the receiver is told the path to fetch it from
}

// noAnswer is the X-Function-Status of a call that no function answered: a number that
// nobody takes for success.
const noAnswer = http.StatusBadGateway

// functionStatus is X-Function-Status.
func (n *Notice) functionStatus() int {
	if n.Result.Status == 0 {
		return noAnswer
	}
	return n.Result.Status
}

// webhookID names the end of the call, and says all that the signature is to cover
// beside the body. None of its parts holds a colon or a dot.
func (n *Notice) webhookID() string {
	return strings.Join([]string{
		n.Invocation.ID.String(), string(n.Invocation.Function), string(n.Invocation.Status),
		strconv.Itoa(n.functionStatus()), strconv.FormatInt(n.Invocation.FinishedAt.UnixMilli(), 10),
	}, ":")
}

// problemDocument is an RFC 9457 problem document.
type problemDocument struct {
	Type   string `json:"type,omitempty"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// body is what is sent, and its content type.
func (n *Notice) body() (contentType string, body []byte) {
	switch {
	case n.Elsewhere:
		return "", nil
	case n.Result.Problem == "" && n.Result.Status != 0:
		return contentTypeOf(n.Result.ContentType), n.Result.Body
	}
	document := problemDocument{Status: n.functionStatus(), Detail: string(n.Result.Body)}
	if document.Detail == "" {
		document.Detail = n.Invocation.Error
	}
	if n.Result.Problem != "" {
		document.Type = "urn:lightcone:problem:" + string(n.Result.Problem)
	}
	text, _ := json.Marshal(document) // strings and a number always marshal
	return "application/problem+json", text
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
func (n *Notice) request(keys []RegionKey, attempt int, now time.Time) (http.Header, []byte) {
	contentType, body := n.body()
	id := n.webhookID()
	timestamp, signed := signatures(keys, n.Invocation.Tenant, id, now, body)
	header := http.Header{
		"User-Agent":         {"Lightcone"},
		"Webhook-Id":         {id},
		"Webhook-Timestamp":  {timestamp},
		"Webhook-Signature":  {signed},
		"X-Call-Id":          {n.Invocation.ID.String()},
		"X-Call-Status":      {string(n.Invocation.Status)},
		"X-Function-Name":    {string(n.Invocation.Function)},
		"X-Function-Status":  {strconv.Itoa(n.functionStatus())},
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
