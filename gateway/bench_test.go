package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/functions"
)

// BenchmarkCall is one call with the body and the answer of a usual resize, over
// a kept-alive loopback connection. Its client is a few reads and writes, so
// most of the time is the gateway's and the kernel's.
func BenchmarkCall(b *testing.B) {
	answered := bytes.Repeat([]byte("a"), 8<<10)
	s := serve(b, 2, func(_ *functions.Call, answer *functions.Answer) error {
		answer.Status, answer.ContentType = http.StatusOK, "image/jpeg"
		answer.Body = append(answer.Body[:0], answered...)
		return nil
	}, nil)
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	body := make([]byte, 256<<10)
	request := append(fmt.Appendf(nil, "POST /function/echo?width=300 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", testKey, len(body)), body...)
	reader := bufio.NewReaderSize(conn, 16<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		length := 0
		for line := 0; ; line++ {
			text, err := reader.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if line == 0 && !bytes.HasPrefix(text, []byte("HTTP/1.1 200")) {
				b.Fatalf("answered %q", text)
			}
			if len(text) == 2 {
				break
			}
			if value, found := bytes.CutPrefix(text, []byte("Content-Length: ")); found {
				_, _ = fmt.Sscan(string(value), &length)
			}
		}
		if n, err := io.CopyN(io.Discard, reader, int64(length)); n != int64(len(answered)) {
			b.Fatalf("answer of %d bytes: %v", n, err)
		}
	}
}

// BenchmarkFleetRun is the choice of one of forty workers, with all that is kept of it.
func BenchmarkFleetRun(b *testing.B) {
	f, run := newBenchFleet(b)
	b.ReportAllocs()
	for b.Loop() {
		run(f)
	}
}

// TestFleetRunAllocatesNothing: what a fleet adds to a call is not for the collector.
func TestFleetRunAllocatesNothing(t *testing.T) {
	f, run := newBenchFleet(t)
	// Looking at the members allocates, but no more often than lookEvery.
	if n := testing.AllocsPerRun(2000, func() { run(f) }); n > 1 {
		t.Errorf("a call allocates %v times", n)
	}
}

func newBenchFleet(t testing.TB) (*Fleet, func(*Fleet)) {
	var members []Member
	for i := range 40 {
		r := newRemote(8, 0, echo)
		r.run = echo
		members = append(members, Member{fmt.Sprint("w", i), r})
	}
	call, answer := newCall(time.Hour), &functions.Answer{Body: make([]byte, 0, 100)}
	return newTestFleet(t, prometheus.NewRegistry(), members), func(f *Fleet) {
		if err := f.Run(call, answer); err != nil {
			t.Fatal(err)
		}
	}
}
