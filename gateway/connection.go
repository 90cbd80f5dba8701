package gateway

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How much of a refused body is still read, and for how long. The first pair is
// read before the answer, to keep the connection; the second after it, so that
// closing does not reset the connection before the client has read the answer
// (RFC 9112, 9.6).
const (
	drainBytes = 1 << 20
	drainTime  = 250 * time.Millisecond

	lingerBytes = 32 << 20
	lingerTime  = 2 * time.Second
)

// What a connection is doing. A shutdown may close it only while it is idle, and
// claims it first: who comes second gives way.
const (
	idle int32 = iota
	busy
	claimed
)

// connection is a client's connection, with what fasthttp does not keep: whether
// it is idle, the call whose answer is being written, and how to close it.
type connection struct {
	net.Conn
	state  atomic.Int32
	heard  bool  // something has been read
	linger bool  // set by the connection's own goroutine, which is also the one that closes
	call   *call // holds the answer's memory until it is written
}

// tlsHandshake is the first byte of a client that speaks TLS, and of no HTTP request
// (RFC 8446, 5.1).
const tlsHandshake = 0x16

var errSpeaksTLS = errors.New("the client speaks TLS")

// Read finds out about a client that speaks TLS where it should not: it would wait
// for an answer to half a request, as its greeting looks here.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard {
		c.heard = true
		if _, secure := c.Conn.(*secured); p[0] == tlsHandshake && !secure {
			return 0, errSpeaksTLS
		}
	}
	return n, err
}

// Close is called by fasthttp, from the connection's own goroutine, when it is
// done with it. After an answer that refused a body unread, it lingers.
func (c *connection) Close() error {
	if c.linger && c.state.Load() != claimed {
		c.drainAfterAnswer()
	}
	return c.Conn.Close()
}

// drainAfterAnswer tells the client that nothing more comes, and reads what is
// still on its way.
func (c *connection) drainAfterAnswer() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // however it ends, the connection is closed next
}

// unread says whether the client has sent something that nobody has read yet.
func (c *connection) unread() bool {
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return false // closed
	}
	waiting := 0
	err = control.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return err == nil && waiting > 0
}

// cut closes the connection from outside, whatever it is doing.
func (c *connection) cut() {
	c.state.Store(claimed)
	c.drop()
}

// closeIfIdle closes the connection if no request of it is being served, nor
// waiting in the kernel to be read.
func (c *connection) closeIfIdle() {
	if c.unread() {
		return
	}
	if c.state.CompareAndSwap(idle, claimed) {
		c.drop()
	}
}

// drop closes the connection from another goroutine than its own, which sees the
// error. Nothing is said to the client of one under TLS: saying it can block. HTTP
// tells by itself that no answer is missing (RFC 9112, 9.8).
func (c *connection) drop() {
	if s, secure := c.Conn.(*secured); secure {
		_ = s.raw.Close()
		return
	}
	_ = c.Conn.Close()
}
