package gateway

import (
	"bytes"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestRouteOf(t *testing.T) {
	for _, test := range []struct {
		path string
		want route
		name string
	}{
		{"/healthz", routeHealth, ""},
		{"/readyz", routeReady, ""},
		{"/function/resize", routeCall, "resize"},
		{"/function/a-1", routeCall, "a-1"},
		{"/async-function/resize", routeAccept, "resize"},
		{"/async-function/", routeNone, ""},
		{"/async-function/Resize", routeNone, ""},
		{"/v1/invocations/01ARZ3NDEKTSV4RRFFQ69G5FAV", routeInvocation, "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		{"/v1/invocations/01ARZ3NDEKTSV4RRFFQ69G5FAV/result", routeResult, "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		{"/v1/invocations/anything", routeInvocation, "anything"},
		{"/v1/invocations/result", routeInvocation, "result"},
		{"/v1/invocations/", routeNone, ""},
		{"/v1/invocations", routeNone, ""},
		{"/v1/invocations//result", routeNone, ""},
		{"/v1/invocations/a/b", routeNone, ""},
		{"/v1/invocations/a/result/", routeNone, ""},
		{"/v1/invocations/../healthz", routeNone, ""},
		{"/", routeNone, ""},
		{"", routeNone, ""},
		{"/healthz/", routeNone, ""},
		{"//healthz", routeNone, ""},
		{"/function", routeNone, ""},
		{"/function/", routeNone, ""},
		{"/function/a/b", routeNone, ""},
		{"/function/a/", routeNone, ""},
		{"/function//a", routeNone, ""},
		{"/function/../healthz", routeNone, ""},
		{"/function/%2e", routeNone, ""},
		{"/function/%72esize", routeNone, ""},
		{"/function/Resize", routeNone, ""},
		{"/function/1resize", routeNone, ""},
		{"/function/a_b", routeNone, ""},
	} {
		got, name := routeOf([]byte(test.path))
		if got != test.want || string(name) != test.name {
			t.Errorf("%q: got route %d and name %q, want %d and %q", test.path, got, name, test.want, test.name)
		}
	}
}

func TestBearer(t *testing.T) {
	for _, test := range []struct{ header, want string }{
		{"Bearer lc_a_b", "lc_a_b"},
		{"bearer lc_a_b", "lc_a_b"},
		{"BEARER   lc_a_b  ", "lc_a_b"},
		{"Bearer", ""},
		{"Bearer ", ""},
		{"Basic lc_a_b", ""},
		{"Bearerlc_a_b", ""},
		{"lc_a_b", ""},
		{"", ""},
	} {
		if got := string(bearer([]byte(test.header))); got != test.want {
			t.Errorf("%q: got %q, want %q", test.header, got, test.want)
		}
	}
}

func TestTimeoutOf(t *testing.T) {
	spec := functions.Spec{Name: "echo", DefaultTimeout: 5 * time.Second, MaxTimeout: 20 * time.Second}
	for _, test := range []struct {
		header string
		want   time.Duration // 0: refused
	}{
		{"", 5 * time.Second},
		{"20s", 20 * time.Second},
		{"1ns", 1},
		{"1.5s", 1500 * time.Millisecond},
		{"20.000000001s", 0},
		{"0", 0},
		{"-1s", 0},
		{"soon", 0},
		{"5", 0},
		{"99999999999999999999h", 0},
		{string(bytes.Repeat([]byte("0"), 4000)) + "1s", 0},
	} {
		got, err := timeoutOf([]byte(test.header), &spec)
		if got != test.want || (err == nil) != (test.want > 0) {
			t.Errorf("%.40q: got %v, %v, want %v", test.header, got, err, test.want)
		}
		if err != nil && problem.Of(err).Kind != problem.BadParameter {
			t.Errorf("%.40q: got a %s", test.header, problem.Of(err).Kind)
		}
	}
}

func TestFraming(t *testing.T) {
	for _, test := range []struct {
		raw  string
		good bool
	}{
		{"Host: a\r\n\r\n", true},
		{"Host: a\r\nContent-Length: 5\r\n\r\n", true},
		{"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n", true},
		{"transfer-encoding:\tChunked \r\n", true},
		{"X-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", true},
		{"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"TRANSFER-ENCODING: chunked\r\ncontent-length: 5\r\n\r\n", false},
		{"Content-Length: 5\nTransfer-Encoding: chunked\n\n", false},
		{"Host: a\n\n", false},
		{"Host: a\r\nX: b\n\r\n", false},
		{"Host: a", false},
		{"X: a\r\n b\r\n\r\n", false},
		{"X: a\r\n\tb: c\r\n\r\n", false},
		{" X: a\r\n\r\n", false},
		{"X : a\r\n\r\n", false},
		{"X\x00: a\r\n\r\n", false},
		{"X\r: a\r\n\r\n", false},
		{": a\r\n\r\n", false},
		{"X\r\n\r\n", false},
		{"x-~1: a:b\r\n\r\n", true},
		{"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", false},
		{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"Transfer-Encoding: identity\r\n\r\n", false},
		{"Transfer-Encoding: gzip, chunked\r\n\r\n", false},
		{"Transfer-Encoding:\r\n\r\n", false},
	} {
		if err := framing([]byte(test.raw)); (err == nil) != test.good {
			t.Errorf("%q: got %v", test.raw, err)
		}
	}
}

func FuzzRequestParsing(f *testing.F) {
	f.Add([]byte("/function/resize"))
	f.Add([]byte("/v1/invocations/01ARZ3NDEKTSV4RRFFQ69G5FAV/result"))
	f.Add([]byte("Bearer lc_a_b"))
	f.Add([]byte("1.5s"))
	f.Add([]byte("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"))
	spec := functions.Spec{Name: "echo", DefaultTimeout: time.Second, MaxTimeout: time.Minute}
	f.Fuzz(func(t *testing.T, text []byte) {
		found, name := routeOf(text)
		switch valid := lightcone.FunctionName(name).Validate() == nil; found {
		case routeCall, routeAccept:
			if !valid {
				t.Errorf("%q is route %d with the name %q", text, found, name)
			}
		case routeInvocation, routeResult:
			if len(name) == 0 || bytes.ContainsRune(name, '/') {
				t.Errorf("%q is route %d with the id %q", text, found, name)
			}
		default:
			if len(name) > 0 {
				t.Errorf("%q is route %d with the name %q", text, found, name)
			}
		}
		if key := bearer(text); len(key) > 0 && (!bytes.Contains(text, key) || key[0] == ' ') {
			t.Errorf("%q holds the key %q", text, key)
		}
		if timeout, err := timeoutOf(text, &spec); err == nil && (timeout <= 0 || timeout > spec.MaxTimeout) {
			t.Errorf("%q is a timeout of %v", text, timeout)
		}
		lower := bytes.ToLower(text)
		both := bytes.HasPrefix(lower, []byte("content-length:")) && bytes.Contains(lower, []byte("\ntransfer-encoding:"))
		if both && framing(text) == nil {
			t.Errorf("%q passes with two lengths", text)
		}
	})
}
