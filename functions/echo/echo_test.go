package echo

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"lightcone/internal/problem"
)

func TestEcho(t *testing.T) {
	for _, test := range []struct {
		query, contentType string
		wantBody, wantType string
		wantProblem        problem.Kind
	}{
		{"", "text/plain", "hello", "text/plain", ""},
		{"", "", "hello", "application/octet-stream", ""},
		{"bytes=2", "a/b", "he", "a/b", ""},
		{"bytes=0", "a/b", "", "a/b", ""},
		{"bytes=99", "a/b", "hello", "a/b", ""},
		{"bytes=-1", "a/b", "", "", problem.BadParameter},
		{"bytes=x", "a/b", "", "", problem.BadParameter},
		{"bytes=1&bytes=2", "a/b", "", "", problem.BadParameter},
		{"delay=1ms&bytes=1", "a/b", "h", "a/b", ""},
		{"delay=31s", "a/b", "", "", problem.BadParameter},
		{"delay=-1s", "a/b", "", "", problem.BadParameter},
		{"delay=soon", "a/b", "", "", problem.BadParameter},
		{"width=1", "a/b", "", "", problem.BadParameter},
		{"%zz", "a/b", "", "", problem.BadParameter},
	} {
		r := &http.Request{URL: &url.URL{RawQuery: test.query}, Header: http.Header{}}
		if test.contentType != "" {
			r.Header.Set("Content-Type", test.contentType)
		}
		reply, err := Handle(httptest.NewRequest(http.MethodPost, "/", nil).Context(), r, []byte("hello"))
		if test.wantProblem != "" {
			if problem.Of(err).Kind != test.wantProblem {
				t.Errorf("%q: %v", test.query, err)
			}
			continue
		}
		if err != nil || string(reply.Body) != test.wantBody || reply.ContentType != test.wantType {
			t.Errorf("%q: %+v %q, %v", test.query, reply, reply.Body, err)
		}
	}
}
