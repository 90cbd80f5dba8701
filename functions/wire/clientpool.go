package wire

import (
	"bufio"
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// clientConn is a connection to the worker. One call uses it at a time.
type clientConn struct {
	net.Conn
	reader        *bufio.Reader
	request       fasthttp.RequestHeader
	response      fasthttp.ResponseHeader
	host          string
	authorization string

	trouble   []byte      // the sentence of the worker's own answer
	idleSince time.Time   // when it last came back
	cut       atomic.Bool // closed from outside, because the worker is lost or the client closed
}

// dial connects to a worker, until ctx ends.
func dial(ctx context.Context, address, authorization string, timeout time.Duration) (*clientConn, error) {
	dialer := net.Dialer{Timeout: timeout}
	opened, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &clientConn{
		Conn: opened, reader: bufio.NewReaderSize(opened, headerBytes),
		host: address, authorization: authorization,
	}, nil
}

// connection takes the idle connection that was used last, or opens one.
func (c *Client) connection(deadline time.Time) (*clientConn, error) {
	for conn := c.takeIdle(); conn != nil; conn = c.takeIdle() {
		// The worker may have closed it meanwhile: a call sent on it would be lost.
		if time.Since(conn.idleSince) < c.config.IdleTimeout && isQuiet(conn.Conn) {
			return conn, nil
		}
		c.giveBack(conn, false)
	}
	c.mu.Lock()
	reach := c.reach
	c.mu.Unlock()
	ctx, cancel := context.WithDeadline(reach, deadline)
	defer cancel()
	conn, err := dial(ctx, c.config.Address, c.authorization, c.config.DialTimeout)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.open[conn] = struct{}{}
	c.mu.Unlock()
	if err := ctx.Err(); err != nil { // lost meanwhile, perhaps before it could be cut
		c.giveBack(conn, false)
		return nil, err
	}
	return conn, nil
}

func (c *Client) takeIdle() *clientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	conn := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return conn
}

// giveBack keeps the connection for the next call, if it is good for one.
func (c *Client) giveBack(conn *clientConn, good bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if good {
		c.answered = time.Now()
	}
	if good && c.state == serving && !conn.cut.Load() && !conn.response.ConnectionClose() && conn.reader.Buffered() == 0 {
		conn.idleSince = c.answered
		c.idle = append(c.idle, conn)
		return
	}
	delete(c.open, conn)
	_ = conn.Close() // nobody needs it any more
}

// cutAll closes every connection, in use or not, and ends dials under way; c.mu
// is held. Whoever uses one sees an error and gives it back.
func (c *Client) cutAll() {
	c.cutReach()
	c.closeIdle(time.Time{})
	for conn := range c.open {
		conn.cut.Store(true)
		_ = conn.Close() // its user sees the error
	}
}

// closeIdle closes the connections that have been idle since before; the zero
// time means all. c.mu is held.
func (c *Client) closeIdle(before time.Time) {
	kept := c.idle[:0]
	for _, conn := range c.idle {
		if !before.IsZero() && conn.idleSince.After(before) {
			kept = append(kept, conn)
			continue
		}
		delete(c.open, conn)
		_ = conn.Close() // nobody needs it any more
	}
	clear(c.idle[len(kept):])
	c.idle = kept
}
