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

	"lightcone"
	"lightcone/functions"
)

// BenchmarkCall is one call with the body and the answer of a usual resize, over
// a kept-alive loopback connection. Its client is a few reads and writes, so
// most of the time is the gateway's and the kernel's.
func BenchmarkCall(b *testing.B) { benchmarkCall(b, nil) }

// BenchmarkRecordedCall is the same with a ledger.
func BenchmarkRecordedCall(b *testing.B) {
	book := openBook(b, nil)
	benchmarkCall(b, func(c *Config) { c.Ledger = book })
}

func benchmarkCall(b *testing.B, change func(*Config)) {
	answered := bytes.Repeat([]byte("a"), 8<<10)
	s := serve(b, 2, func(_ *functions.Call, answer *functions.Answer) error {
		answer.Status, answer.ContentType = http.StatusOK, "image/jpeg"
		answer.Body = append(answer.Body[:0], answered...)
		return nil
	}, change)
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

// BenchmarkFleetRun is the choice of one of eight or forty workers, with all that is
// kept of it: for one tenant, and for so many that their shards are drawn each time.
func BenchmarkFleetRun(b *testing.B) {
	for _, members := range []int{8, 40} {
		for name, tenants := range map[string]int{"one tenant": 1, "100000 tenants": 100_000} {
			b.Run(fmt.Sprintf("%d members, %s", members, name), func(b *testing.B) {
				run := newBenchFleet(b, members, tenants)
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
			})
		}
	}
}

// TestFleetRunAllocatesNothing: what a fleet adds to a call is not for the collector.
func TestFleetRunAllocatesNothing(t *testing.T) {
	run := newBenchFleet(t, 40, 1000)
	// Looking at the members allocates, but no more often than lookEvery.
	if n := testing.AllocsPerRun(2000, run); n > 0 {
		t.Errorf("a call allocates %v times", n)
	}
}

// newBenchFleet returns what runs one call with a fleet, for each tenant in turn.
func newBenchFleet(t testing.TB, members, tenants int) func() {
	var workers []Member
	for i := range members {
		r := newRemote(8, 0, echo)
		r.run = echo
		workers = append(workers, Member{fmt.Sprint("w", i), r})
	}
	var names []lightcone.TenantID
	for i := range tenants {
		names = append(names, lightcone.TenantID(fmt.Sprint("tenant-", i)))
	}
	call, answer := newCall(time.Hour), &functions.Answer{Body: make([]byte, 0, 100)}
	f := newTestFleet(t, prometheus.NewRegistry(), workers)
	at := 0
	return func() {
		call.Tenant = names[at%tenants]
		at++
		if err := f.Run(call, answer); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkFraming looks at the headers of a usual call.
func BenchmarkFraming(b *testing.B) {
	raw := []byte(exactly.Replace("Host: lightcone.test\nAuthorization: Bearer lc_0123456789_0123456789012345678901234567890123456789\nUser-Agent: curl/7.88.1\nAccept: */*\nContent-Type: image/jpeg\nX-Forwarded-For: 10.0.0.1\nContent-Length: 262144\n\n"))
	b.ReportAllocs()
	for b.Loop() {
		if err := framing(raw); err != nil {
			b.Fatal(err)
		}
	}
}
