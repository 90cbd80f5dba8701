package management

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequests sends anything to the routes. Whatever it is, it is answered, as
// JSON and without blame on Lightcone; what is refused is a problem document
// and what is accepted a document.
func FuzzRequests(f *testing.F) {
	for _, seed := range [][5]string{
		{"POST", "/v1/tenants", "", "", `{"id":"a","name":"b"}`},
		{"POST", "/v1/tenants", "", "", `{"id":"a"`},
		{"PATCH", "/v1/tenants/acme", "", `"1"`, `{"disabled":true,"name":null}`},
		{"PUT", "/v1/tenants/acme/quota", "", `W/"1", "2"`, `{"calls_per_second":1e3,"burst":2,"concurrent_calls":null,"cpu_seconds_per_month":0.1,"bytes_per_month":9}`},
		{"PUT", "/v1/tenants/acme/quota", "", `*`, `{"burst":9223372036854775807}`},
		{"POST", "/v1/tenants/acme/keys", "", "", `{"scopes":["*"],"expires_at":"2999-01-01T00:00:00+14:00"}`},
		{"POST", "/v1/tenants/acme/keys", "", "", `{"scopes":["echo","\ud800"]}`},
		{"GET", "/v1/tenants/acme/keys", "after=a&limit=1000", "", ""},
		{"GET", "/v1/audit", "after=9223372036854775807&limit=1", "", ""},
		{"GET", "/v1/audit/verify", "after=1", "", ""},
		{"DELETE", "/v1/keys/aaaaaaaaaaaaaaaa", "", "", ""},
		{"GET", "//v1//tenants/../x", ";=%", `"`, "\x00"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], []byte(seed[4]))
	}
	m := newManager(f, Config{Store: newStore(f)})
	mustCreate(f, m, "acme")
	routes := Routes(m)
	f.Fuzz(func(t *testing.T, method, path, query, match string, body []byte) {
		request := (&http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: make(http.Header), Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		}).WithContext(WithActor(t.Context(), operator))
		if match != "" {
			request.Header.Set("If-Match", match)
		}
		recorder := httptest.NewRecorder()
		routes.ServeHTTP(recorder, request)
		answer := recorder.Result()
		if answer.StatusCode == http.StatusNoContent || answer.StatusCode/100 == 3 {
			return
		}
		var document problemDocument
		if err := json.Unmarshal(recorder.Body.Bytes(), &document); err != nil || answer.StatusCode >= 500 {
			t.Fatalf("%s: %s", answer.Status, recorder.Body)
		}
		refused := answer.StatusCode >= 400
		if refused != (answer.Header.Get("Content-Type") == "application/problem+json") || refused && (document.Status != answer.StatusCode || !strings.HasSuffix(document.Detail, ".")) {
			t.Fatalf("%s: %s %s", answer.Status, answer.Header, recorder.Body)
		}
	})
}

// FuzzDecodeBody compares with encoding/json: what is accepted here, it accepts, and
// reads the same.
func FuzzDecodeBody(f *testing.F) {
	for _, seed := range []string{`{}`, ` {"name":"x","burst":3} `, `{"name":null}`, `{"burst":1.5}`, `{"burst":3}x`, `{"name":"x","name":"y"}`, `{"a":{"b":[1,2,{}]}}`, `{"name":"x",}`, `{"name" "x"}`, `[`, ``, "\xff", `{"\u006eame":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var name string
		var burst *int
		if decodeBody(body, []field{{"name", "a string", &name}, {"burst", "a whole number", &burst}}) != nil {
			return
		}
		var same struct {
			Name  string `json:"name"`
			Burst *int   `json:"burst"`
		}
		if err := json.Unmarshal(body, &same); err != nil || same.Name != name || (same.Burst == nil) != (burst == nil) || burst != nil && *same.Burst != *burst {
			t.Fatalf("%q: %q %v; encoding/json reads %+v, %v", body, name, burst, same, err)
		}
	})
}
