package gateway

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

var timingPattern = regexp.MustCompile(`^queue;dur=\d+\.\d{3}, exec;dur=2\.000, cpu;dur=1\.500$`)

func TestCallAnswersWithTheFunctionsBytes(t *testing.T) {
	s := serve(t, 2, echo, nil)
	for _, size := range []int{0, 1, 2, 4096, 4097, 8 << 10, 256 << 10, 20 << 20} {
		body := bytes.Repeat([]byte("light"), size/5+1)[:size]
		for name, got := range map[string]*reply{
			"announced": s.post(t, bytes.NewReader(body), "Content-Type", "image/x"),
			"chunked":   s.post(t, struct{ *strings.Reader }{strings.NewReader(string(body))}, "Content-Type", "image/x"),
		} {
			if got.status != 200 || got.body != string(body) {
				t.Fatalf("%d bytes %s: status %d with %d bytes", size, name, got.status, len(got.body))
			}
			if got.header.Get("Content-Type") != "image/x" || got.header.Get("Server") != "lightcone" || len(got.header.Get("X-Call-Id")) != 26 {
				t.Errorf("%d bytes %s: headers %v", size, name, got.header)
			}
			if timing := got.header.Get("Server-Timing"); !timingPattern.MatchString(timing) {
				t.Errorf("Server-Timing is %q", timing)
			}
		}
	}
}
