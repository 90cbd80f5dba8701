package wire

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"lightcone/internal/problem"
)

// How much of a refused body is still read, and for how long: the first pair to
// keep the connection, the second so that closing does not reset it before the
// client has read the answer (RFC 9112, 9.6).
const (
	discardBytes = 4 << 20
	discardTime  = time.Second
	lingerBytes  = 64 << 20
	lingerTime   = 2 * time.Second
)

// serverConn serves the requests of one connection, one after another, on its
// own goroutine.
type serverConn struct {
	net.Conn
	server *Server
	reader *bufio.Reader
	header fasthttp.RequestHeader
	out    []byte // the answer's headers

	arrived  time.Time // when this request's headers were complete
	unread   int       // bytes of this request's body that nobody has read
	awaiting bool      // the client sends its body only when told to (Expect: 100-continue)
	last     bool      // the connection ends after this answer

	mu   sync.Mutex
	idle bool // between two requests: a shutdown may wake it
}

func newServerConn(s *Server, accepted net.Conn) *serverConn {
	return &serverConn{Conn: accepted, server: s, reader: bufio.NewReaderSize(accepted, headerBytes)}
}

func (c *serverConn) serve() {
	defer c.server.disown(c)
	defer c.Conn.Close()
	for c.await() && c.serveOne() {
	}
}

// await waits for the next request's first byte.
func (c *serverConn) await() bool {
	if !c.enterIdle() {
		return false
	}
	_, err := c.reader.Peek(1)
	c.leaveIdle()
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && waitingBytes(c.Conn) > 0 {
		// A shutdown, or the idle timeout, came in the same moment as a request.
		_, err = c.reader.Peek(1)
	}
	return err == nil
}

// enterIdle says whether to wait for another request. What has arrived already
// is served, and refused, also while the server stops.
func (c *serverConn) enterIdle() bool {
	c.server.mu.Lock()
	stopping := c.server.stopping
	c.server.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := c.server.config.IdleTimeout
	if stopping {
		wait = -1
	}
	c.idle = true
	return c.SetReadDeadline(time.Now().Add(wait)) == nil
}

func (c *serverConn) leaveIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = false
	_ = c.SetReadDeadline(time.Now().Add(c.server.config.HeaderTimeout)) // reading finds out why not
}

// wakeIfIdle ends the wait for another request, without touching one under way.
func (c *serverConn) wakeIfIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		_ = c.SetReadDeadline(time.Now().Add(-time.Second)) // an error means that it is closed
	}
}

// serveOne reads a request's headers and answers it. It says whether the
// connection can be used again.
func (c *serverConn) serveOne() (again bool) {
	c.unread, c.awaiting, c.last = 0, false, false
	if err := c.header.Read(c.reader); err != nil {
		c.malformed(err)
		return false
	}
	c.arrived = time.Now()
	c.last = c.header.ConnectionClose()
	switch length := c.header.ContentLength(); {
	case length > 0:
		c.unread = length
		c.awaiting = len(c.header.Peek(fasthttp.HeaderExpect)) > 0
	case length == chunked:
		c.last = true // nobody looks for its end
		c.refuse(fasthttp.StatusLengthRequired, problem.New(problem.BadParameter, "A call's body is sent with its Content-Length."))
		c.linger()
		return false
	}
	if err := c.dispatch(); err != nil {
		return false
	}
	return c.settle()
}

// chunked is fasthttp's Content-Length of a body that comes in chunks.
const chunked = -1

// settle deals with a body that was not read, after its answer has been sent.
func (c *serverConn) settle() (again bool) {
	if c.unread == 0 {
		return !c.last
	}
	if c.last {
		c.linger()
		return false
	}
	if c.SetReadDeadline(time.Now().Add(discardTime)) != nil {
		return false
	}
	_, err := c.reader.Discard(c.unread)
	return err == nil
}

// linger tells the client that nothing more comes, and reads what is on its way.
func (c *serverConn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // however it ends, the connection is closed next
}

// malformed answers what could not be read as a request, if there is anybody to
// answer.
func (c *serverConn) malformed(err error) {
	c.last = true
	var tooLong *fasthttp.ErrSmallBuffer
	var nothing fasthttp.ErrNothingRead
	switch {
	case errors.Is(err, io.EOF) || errors.As(err, &nothing) || errors.Is(err, os.ErrDeadlineExceeded):
		return
	case errors.As(err, &tooLong):
		c.refuse(fasthttp.StatusRequestHeaderFieldsTooLarge, problem.New(problem.TooLarge, "The request line and headers are longer than %d bytes together.", headerBytes))
	default:
		c.refuse(fasthttp.StatusBadRequest, problem.New(problem.BadParameter, "The request is not well-formed HTTP/1.1, so nothing of it was run."))
	}
	c.linger()
}

// turnAway refuses a connection over the limit, unheard. So short an answer fits
// any send buffer: it does not hold up accepting.
func (c *serverConn) turnAway() {
	c.last = true
	c.refuse(fasthttp.StatusServiceUnavailable, problem.New(problem.Overloaded, "This worker has as many connections as it takes; the call was not run."))
	_ = c.Conn.Close()
}
