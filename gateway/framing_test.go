package gateway

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// FuzzFraming: of a request that passes, another reader, Go's own, thinks that it is no
// request, or that its headers end at the same byte and its body is as long.
func FuzzFraming(f *testing.F) {
	for _, requests := range []map[string]string{malformedRequests, {"good": "CALLContent-Length: 1\n\na", "chunked": "CALLTransfer-Encoding: chunked\n\n1\na\n0\n\n"}} {
		for _, request := range requests {
			_, headers, _ := strings.Cut(exactly.Replace(request), "\r\n")
			f.Add([]byte(headers))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		request := append([]byte("POST / HTTP/1.1\r\n"), text...)
		ours := bufio.NewReader(bytes.NewReader(request))
		var header fasthttp.RequestHeader
		if header.Read(ours) != nil || framing(header.RawHeaders()) != nil {
			return
		}
		theirs := bufio.NewReader(bytes.NewReader(request))
		read, err := http.ReadRequest(theirs)
		if err != nil {
			return
		}
		length := max(int64(header.ContentLength()), chunked)
		if length != read.ContentLength && (header.ContentLength() >= chunked || read.ContentLength != 0) {
			t.Errorf("%q: a body of %d bytes; for net/http, of %d", request, header.ContentLength(), read.ContentLength)
		}
		if len(request) <= 4096 && ours.Buffered() != theirs.Buffered() {
			t.Errorf("%q: the body begins %d bytes before the end; for net/http, %d", request, ours.Buffered(), theirs.Buffered())
		}
	})
}
