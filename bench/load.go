package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// request is a whole HTTP request in a file in memory: sendfile(2) then sends
// its pages without copying them, so that the load costs the shared cores little.
type request struct {
	file   *os.File
	length int
}

func newRequest(host, path, key string, body []byte) (request, error) {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", path, host, key, len(body))
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return request{}, fmt.Errorf("keep a request in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "request")
	_, err = file.Write(append([]byte(head), body...))
	return request{file: file, length: len(head) + len(body)}, err
}

func (r request) close() { _ = r.file.Close() }

func (r request) send(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	offset := int64(0)
	err = raw.Write(func(fd uintptr) bool {
		for offset < int64(r.length) {
			_, failed = unix.Sendfile(int(fd), int(r.file.Fd()), &offset, r.length-int(offset))
			if errors.Is(failed, unix.EAGAIN) {
				failed = nil
				return false // call again once the socket has room
			}
			if failed != nil {
				return true
			}
		}
		return true
	})
	return errors.Join(err, failed)
}

// outcome is what a load saw. Latencies are in microseconds.
type outcome struct {
	elapsed  time.Duration
	answered *hdrhistogram.Histogram // 200s
	refused  *hdrhistogram.Histogram // 503s
	other    map[string]int          // anything else, by what it was
}

func newOutcome() *outcome {
	histogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, 120_000_000, 3) }
	return &outcome{answered: histogram(), refused: histogram(), other: make(map[string]int)}
}

func (o *outcome) merge(other *outcome) {
	o.answered.Merge(other.answered)
	o.refused.Merge(other.refused)
	for what, count := range other.other {
		o.other[what] += count
	}
}

// rate is answers per second.
func (o *outcome) rate() float64 { return float64(o.answered.TotalCount()) / o.elapsed.Seconds() }

// check is an error when anything but answers and refusals was seen.
func (o *outcome) check() error {
	if len(o.other) > 0 {
		return fmt.Errorf("unexpected answers: %v", o.other)
	}
	return nil
}

func milliseconds(h *hdrhistogram.Histogram, percentile float64) float64 {
	return float64(h.ValueAtPercentile(percentile)) / 1000
}

// caller is one connection.
type caller struct {
	address  string
	conn     *net.TCPConn
	reader   *bufio.Reader
	response fasthttp.Response
	seen     *outcome
}

func newCaller(address string) *caller { return &caller{address: address, seen: newOutcome()} }

// callTimeout bounds one call, so that a stuck server ends the measurement.
const callTimeout = 30 * time.Second

// call sends the request and notes the answer's latency since start.
func (c *caller) call(message request, start time.Time) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, callTimeout)
		if err != nil {
			c.seen.other["no connection"]++
			return
		}
		c.conn, c.reader = conn.(*net.TCPConn), bufio.NewReaderSize(conn, 16<<10)
	}
	_ = c.conn.SetDeadline(time.Now().Add(callTimeout))
	err := message.send(c.conn)
	if err == nil {
		c.response.Reset()
		err = c.response.Read(c.reader)
	}
	latency := time.Since(start).Microseconds()
	if err != nil {
		c.seen.other["broken connection"]++
		c.close()
		return
	}
	switch status := c.response.StatusCode(); status {
	case fasthttp.StatusOK:
		_ = c.seen.answered.RecordValue(latency)
	case fasthttp.StatusServiceUnavailable:
		_ = c.seen.refused.RecordValue(latency)
	default:
		c.seen.other[fmt.Sprint("status ", status)]++
	}
	if c.response.ConnectionClose() {
		c.close()
	}
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// closedLoop keeps so many connections calling, each as soon as it has its
// answer, for a time or for a number of calls, whichever ends first.
func closedLoop(ctx context.Context, address string, message request, connections int, duration time.Duration, calls int) *outcome {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	budget := make(chan struct{}, calls)
	for range calls {
		budget <- struct{}{}
	}
	close(budget)
	return together(connections, address, func(c *caller) {
		for range budget {
			if ctx.Err() != nil {
				return
			}
			c.call(message, time.Now())
		}
	})
}

// openLoop offers calls at a fixed rate, whatever becomes of them. A latency
// counts from the moment the call was due, so waiting for a free connection is
// not forgotten.
func openLoop(ctx context.Context, address string, message request, connections int, duration time.Duration, perSecond float64) *outcome {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	due := make(chan time.Time, connections)
	go func() {
		defer close(due)
		start := time.Now()
		for n := 0; ; n++ {
			at := start.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))
			if wait := time.Until(at); wait > 0 {
				time.Sleep(wait) // this is the load's clock
			}
			select {
			case due <- at:
			case <-ctx.Done():
				return
			}
		}
	}()
	return together(connections, address, func(c *caller) {
		for at := range due {
			c.call(message, at)
		}
	})
}

// together runs one goroutine a connection and adds up what they saw.
func together(connections int, address string, work func(*caller)) *outcome {
	all := newOutcome()
	var mu sync.Mutex
	var group sync.WaitGroup
	start := time.Now()
	for range connections {
		group.Go(func() {
			c := newCaller(address)
			defer c.close()
			work(c)
			mu.Lock()
			defer mu.Unlock()
			all.merge(c.seen)
		})
	}
	group.Wait()
	all.elapsed = time.Since(start)
	return all
}
