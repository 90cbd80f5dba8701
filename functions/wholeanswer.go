package functions

import (
	"net"
	"sync"
)

// wholeAnswers is a listener whose connections send each answer at once. The
// standard library's server sends its headers and the first 4 KB, then the rest;
// each piece would wake the supervisor, on a core that a function could use.
type wholeAnswers struct{ net.Listener }

// Accept waits for a connection.
func (l wholeAnswers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wholeAnswer{Conn: conn}, nil
}

// wholeAnswerLimit bounds what is held back; a longer answer goes in pieces of that size.
const wholeAnswerLimit = 256 << 10

// wholeAnswer holds back what is written until flush.
type wholeAnswer struct {
	net.Conn
	mu      sync.Mutex // a server may close a connection from elsewhere
	pending []byte
}

// Write keeps p, and sends only when there is too much to keep.
func (c *wholeAnswer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending)+len(p) > wholeAnswerLimit {
		c.send()
		return c.Conn.Write(p)
	}
	c.pending = append(c.pending, p...)
	return len(p), nil
}

// flush sends what has been kept.
func (c *wholeAnswer) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send()
}

// send is flush for those who hold mu. When it fails, so does the next read,
// which ends the connection.
func (c *wholeAnswer) send() {
	if len(c.pending) > 0 {
		_, _ = c.Conn.Write(c.pending)
		c.pending = c.pending[:0]
	}
}

// Close sends what has been kept, and closes.
func (c *wholeAnswer) Close() error {
	c.flush()
	return c.Conn.Close()
}
