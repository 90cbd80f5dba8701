package gateway

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// exactly writes what a test means: a newline is CRLF, and what is not well-formed has
// a sign of its own.
var exactly = strings.NewReplacer("\n", "\r\n", "¶", "\n", "␍", "\r", "␀", "\x00", "␋", "\v",
	"CALL", "POST /function/echo HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer "+testKey+"\r\n")

// malformedRequests are answered 400 and closed: nobody knows where the next request begins,
// or a proxy in front may think otherwise.
var malformedRequests = map[string]string{
	"two lengths":                 "CALLContent-Length: 1\nContent-Length: 1\n\na",
	"two different lengths":       "CALLContent-Length: 1\nContent-Length: 2\n\nab",
	"a list of lengths":           "CALLContent-Length: 1, 1\n\na",
	"a negative length":           "CALLContent-Length: -1\n\n",
	"a signed length":             "CALLContent-Length: +1\n\na",
	"an endless length":           "CALLContent-Length: 99999999999999999999\n\na",
	"a hexadecimal length":        "CALLContent-Length: 0x1\n\na",
	"a length with an exponent":   "CALLContent-Length: 1e1\n\na",
	"a length of two words":       "CALLContent-Length: 1 1\n\na",
	"an empty length":             "CALLContent-Length:\n\na",
	"a length with a NUL":         "CALLContent-Length: 1␀\n\na",
	"length then chunks":          "CALLContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
	"chunks then length":          "CALLTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
	"chunks and length elsewhere": "GET /healthz HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",

	"chunked twice":               "CALLTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n",
	"chunked and a cow":           "CALLTransfer-Encoding: chunked\nTransfer-encoding: cow\n\n0\n\n",
	"a cow and chunked":           "CALLTransfer-Encoding: cow\nTransfer-Encoding: chunked\n\n0\n\n",
	"another coding":              "CALLTransfer-Encoding: gzip, chunked\n\n0\n\n",
	"chunked in a list":           "CALLTransfer-Encoding: chunked, identity\n\n0\n\n",
	"the identity coding":         "CALLTransfer-Encoding: identity\n\n",
	"a disguised coding":          "CALLTransfer-Encoding: xchunked\n\n0\n\n",
	"a quoted coding":             "CALLTransfer-Encoding: \"chunked\"\n\n0\n\n",
	"a coding with a parameter":   "CALLTransfer-Encoding: chunked;q=1\n\n0\n\n",
	"a coding behind a tab":       "CALLTransfer-Encoding: ␋chunked\n\n0\n\n",
	"an empty coding":             "CALLTransfer-Encoding:\n\n0\n\n",
	"a coding behind a NUL":       "CALLTransfer-Encoding: ␀chunked\n\n0\n\n",
	"chunks under HTTP/1.0":       "POST /function/echo HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n",
	"a space before the colon":    "CALLContent-Length : 1\n\na",
	"a tab before the colon":      "CALLTransfer-Encoding\t: chunked\n\n0\n\n",
	"a space in a name":           "CALLX Y: a\n\n",
	"a space before the name":     "CALL Content-Length: 1\n\na",
	"a folded header":             "CALLX: a\n b\n\n",
	"a folded length":             "CALLContent-Length:\n 1\n\na",
	"a folded coding":             "CALLTransfer-Encoding:\n chunked\n\n0\n\n",
	"a folded first header":       "POST /function/echo HTTP/1.1\n Host: a\n\n",
	"a NUL in a name":             "CALLX␀Y: a\n\n",
	"a NUL in a value":            "CALLX: a␀b\n\n",
	"no name":                     "CALL: a\n\n",
	"no colon":                    "CALLContent-Length\n\n",
	"a bare line feed":            "CALLX: a¶Content-Length: 1\n\na",
	"a hidden coding":             "CALLX: a¶Transfer-Encoding: chunked\n\n0\n\n",
	"bare line feeds throughout":  "POST /function/echo HTTP/1.1¶Host: a¶Authorization: Bearer " + testKey + "¶Content-Length: 1¶¶a",
	"a bare line feed at the end": "CALLContent-Length: 1\n¶a",
	"a bare carriage return":      "CALLX: a␍Content-Length: 1\n\na",

	"no host":                "POST /function/echo HTTP/1.1\nAuthorization: Bearer " + testKey + "\n\n",
	"two hosts":              "CALLHost: b\n\n",
	"no HTTP":                "hello\n\n",
	"no target":              "POST  HTTP/1.1\nHost: a\n\n",
	"a target with a space":  "POST /function/echo /function/echo HTTP/1.1\nHost: a\n\n",
	"a target with a NUL":    "POST /function/␀echo HTTP/1.1\nHost: a\n\n",
	"HTTP/0.9":               "POST /function/echo\nHost: a\n\n",
	"HTTP/1.2":               "POST /function/echo HTTP/12\nHost: a\n\n",
	"HTTP/2":                 "PRI * HTTP/2.0\n\nSM\n\n",
	"a space before it all":  " POST /function/echo HTTP/1.1\nHost: a\n\n",
	"a method that is none":  "PO(ST /function/echo HTTP/1.1\nHost: a\n\n",
	"a tab for a space":      "POST\t/function/echo\tHTTP/1.1\nHost: a\n\n",
	"a space after it all":   "POST /function/echo HTTP/1.1 \nHost: a\n\n",
	"a word in the protocol": "POST /function/echo XHTTP/1.1\nHost: a\n\n",

	"a broken chunk":                    "CALLTransfer-Encoding: chunked\n\nzz\na\n0\n\n",
	"a chunk of signed size":            "CALLTransfer-Encoding: chunked\n\n+1\na\n0\n\n",
	"a chunk of negative size":          "CALLTransfer-Encoding: chunked\n\n-1\na\n0\n\n",
	"a chunk of endless size":           "CALLTransfer-Encoding: chunked\n\n10000000000000001\na\n0\n\n",
	"a chunk with a prefix":             "CALLTransfer-Encoding: chunked\n\n0x1\na\n0\n\n",
	"a chunk without size":              "CALLTransfer-Encoding: chunked\n\n;a\na\n0\n\n",
	"a chunk of two sizes":              "CALLTransfer-Encoding: chunked\n\n1 1\na\n0\n\n",
	"a chunk with a bare line feed":     "CALLTransfer-Encoding: chunked\n\n1¶a\n0\n\n",
	"a bare line feed after it":         "CALLTransfer-Encoding: chunked\n\n1\na¶0\n\n",
	"a bare line feed in its extension": "CALLTransfer-Encoding: chunked\n\n1;a¶b\na\n0\n\n",
	"a bare carriage return in it":      "CALLTransfer-Encoding: chunked\n\n1;a␍b\na\n0\n\n",
	"a chunk longer than its size":      "CALLTransfer-Encoding: chunked\n\n1\nab\n0\n\n",
	"a space before the chunk's size":   "CALLTransfer-Encoding: chunked\n\n 1\na\n0\n\n",
}

// oversizedRequests are answered 431 and closed.
var oversizedRequests = map[string]string{
	"headers too long":    "CALLX: " + strings.Repeat("a", 9<<10) + "\n\n",
	"headers without end": "CALL" + strings.Repeat("X: a\n", 2<<10),
	"a target too long":   "POST /function/" + strings.Repeat("a", 9<<10) + " HTTP/1.1\nHost: a\n\n",
}

// TestMalformedRequests sends each with a good call behind it, which must not run, nor
// be answered: it may be part of what is malformed.
func TestMalformedRequests(t *testing.T) {
	var runs atomic.Int64
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		runs.Add(1)
		return echo(call, answer)
	}, func(c *Config) { c.MaxHeaderBytes = 8 << 10 })
	s.throughBoth(t, func(t *testing.T, dial func(testing.TB) *raw) {
		for status, requests := range map[int]map[string]string{
			http.StatusBadRequest: malformedRequests, http.StatusRequestHeaderFieldsTooLarge: oversizedRequests,
		} {
			for name, request := range requests {
				t.Run(name, func(t *testing.T) {
					client := dial(t)
					if _, err := io.WriteString(client, exactly.Replace(request+"CALLContent-Length: 8\n\nsmuggled")); err != nil {
						t.Fatal(err)
					}
					got := client.hear()
					if got.status != status {
						t.Errorf("status: got %d, want %d: %s", got.status, status, got.body)
					}
					checkDocument(t, got, map[int]problem.Kind{400: problem.BadParameter, 431: problem.TooLarge}[status])
					client.hearEnd()
					if runs.Swap(0) != 0 {
						t.Error("something of it was run")
					}
				})
			}
		}
	})
	if got := s.post(t, strings.NewReader("fine")); got.status != 200 {
		t.Errorf("after all that: %d", got.status)
	}
}

// TestPipelinedAfterRefused: a refused call that is well-formed costs those behind it nothing.
func TestPipelinedAfterRefused(t *testing.T) {
	s := serve(t, 1, echo, nil)
	s.throughBoth(t, func(t *testing.T, dial func(testing.TB) *raw) {
		client := dial(t)
		refused := "POST /function/echo HTTP/1.1\nHost: a\nContent-Length: 28\n\nGET /healthz HTTP/1.1\nHost:" +
			"POST /function/nope HTTP/1.1\nHost: a\nAuthorization: Bearer " + testKey + "\nContent-Length: 3\n\nabc" +
			"DELETE /function/echo HTTP/1.1\nHost: a\n\n"
		if _, err := io.WriteString(client, exactly.Replace(strings.Repeat(refused+"CALLContent-Length: 4\n\ngood", 5))); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			for _, want := range []int{401, 404, 405, 200} {
				if got := client.hear(); got.status != want || want == 200 && got.body != "good" {
					t.Fatalf("got %d %q, want %d", got.status, got.body, want)
				}
			}
		}
	})
}
