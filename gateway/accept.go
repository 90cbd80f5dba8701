package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

// rejectTime bounds telling a connection over the limit that it is one.
const rejectTime = 100 * time.Millisecond

// backlogTime is how long a shutdown goes on accepting: clients whose connection
// the kernel had made already may have sent their call.
const backlogTime = 20 * time.Millisecond

// finishAccepting makes accept return once it has taken what waits in the
// listener's backlog.
func finishAccepting(listener net.Listener) {
	if bounded, ok := listener.(interface{ SetDeadline(time.Time) error }); ok && bounded.SetDeadline(time.Now().Add(backlogTime)) == nil {
		return
	}
	_ = listener.Close() // accept sees the error
}

// accept serves the listener's connections until it is closed: over TLS if there is
// a certificate.
func (g *Gateway) accept(listener net.Listener, certificate *Certificate) error {
	pause := time.Duration(0)
	for {
		accepted, err := listener.Accept()
		if err == nil {
			pause = 0
			g.take(accepted, certificate)
			continue
		}
		if g.draining.Load() && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)) {
			_ = listener.Close() // it is not needed any more
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("gateway: the listener on %v was closed by another: %w", listener.Addr(), err)
		}
		// Out of file descriptors, usually: connections that end make room.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		g.logger.Error("accepting a connection failed", "listener", listener.Addr(), "retry_in", pause, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-g.stop:
			timer.Stop()
			return nil
		}
	}
}

// take serves the connection on a goroutine of its own, or turns it away.
func (g *Gateway) take(accepted net.Conn, certificate *Certificate) {
	conn := &connection{Conn: accepted}
	if certificate != nil {
		conn.Conn = secure(accepted, certificate)
		conn.state.Store(busy) // with its handshake: a call may already be behind it
	}
	if g.own(conn) {
		go func() {
			defer g.disown(conn)
			if certificate != nil && !g.greet(conn) {
				return
			}
			_ = g.server.ServeConn(conn) // a broken connection is its client's business; serverLog has the rest
		}()
		return
	}
	if certificate == nil {
		// Telling why is a courtesy: the client sees the close in any case.
		_ = accepted.SetWriteDeadline(time.Now().Add(rejectTime))
		_, _ = accepted.Write(rejection(g.newCallID()))
	}
	_ = accepted.Close()
}

// own takes responsibility for a connection, if there is room for one.
func (g *Gateway) own(conn *connection) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping || len(g.connections) >= g.config.MaxConnections {
		return false
	}
	g.connections[conn] = struct{}{}
	g.owned++
	return true
}

// disown ends a goroutine that Shutdown waits for; conn is the one it served.
func (g *Gateway) disown(conn *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if conn != nil {
		g.releaseCall(conn)
		delete(g.connections, conn)
	}
	g.owned--
	if g.stopping && g.owned == 0 {
		close(g.stopped)
	}
}

func (g *Gateway) openConnections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.connections)
}

// connectionState follows fasthttp through a connection's life, on the
// connection's own goroutine.
func (g *Gateway) connectionState(c net.Conn, state fasthttp.ConnState) {
	conn := c.(*connection)
	switch state {
	case fasthttp.StateActive:
		// When this fails, a shutdown came first; handle looks again.
		conn.state.CompareAndSwap(idle, busy)
	case fasthttp.StateIdle: // the answer has been written
		g.releaseCall(conn)
		conn.state.CompareAndSwap(busy, idle)
		select {
		case <-g.stop: // closed between the answer's headers and here
			conn.closeIfIdle()
		default:
		}
	}
}

// releaseCall ends the connection's call, whose answer has been written or never will be.
func (g *Gateway) releaseCall(conn *connection) {
	if conn.call != nil {
		conn.call.finish()
		conn.call = nil
	}
}

// serverLog passes on what fasthttp logs by itself: clients' broken connections, which
// are theirs to see and not an operator's. What it says of them may quote what they
// sent, their key with it, so only which line it is goes on.
type serverLog struct{ logger *slog.Logger }

func (l serverLog) Printf(format string, _ ...any) {
	l.logger.Debug("http server", "message", format)
}
