package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"lightcone/internal/problem"
)

// secured is a connection under TLS, with what a connection asks of a plain one.
type secured struct {
	*tls.Conn
	raw    net.Conn
	broken bool // a write failed, and so would the rest
	said   bool // that nothing more comes
}

func secure(accepted net.Conn, certificate *Certificate) *secured {
	return &secured{Conn: tls.Server(accepted, certificate.config), raw: accepted}
}

// SetReadDeadline bounds writes, too: what is read may have to be answered inside
// TLS (RFC 8446, 4.6.3), and a client that does not take these answers would
// hold the reader for ever. Who writes sets a deadline of its own.
func (s *secured) SetReadDeadline(t time.Time) error { return s.raw.SetDeadline(t) }

// Write notes a failure, after which TLS can say nothing more.
func (s *secured) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.broken = s.broken || err != nil
	return n, err
}

// CloseWrite says that nothing more comes, inside TLS and below it.
func (s *secured) CloseWrite() error {
	s.said = true
	if err := s.Conn.CloseWrite(); err != nil {
		return err
	}
	if half, ok := s.raw.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Read reads what nobody looks at without deciphering it.
func (s *secured) Read(p []byte) (int, error) {
	if s.said {
		return s.raw.Read(p)
	}
	return s.Conn.Read(p)
}

// Close takes leave of the client, unless that has been done or cannot be done.
func (s *secured) Close() error {
	if s.broken || s.said {
		return s.raw.Close()
	}
	return s.Conn.Close()
}

// SyscallConn is for whoever asks what waits in the kernel.
func (s *secured) SyscallConn() (syscall.RawConn, error) {
	raw, ok := s.raw.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return raw.SyscallConn()
}

// greet does a new connection's handshake, on the connection's own goroutine and in
// the time that its first headers have, and says whether it may be served. Otherwise
// it has been closed.
func (g *Gateway) greet(conn *connection) bool {
	s := conn.Conn.(*secured)
	err := s.raw.SetDeadline(time.Now().Add(g.config.HeaderTimeout))
	if err == nil {
		err = s.Handshake()
	}
	// When the second fails, a shutdown has cut the connection.
	if err == nil && conn.state.CompareAndSwap(busy, idle) {
		g.metrics.handshakes.WithLabelValues("done").Inc()
		return true
	}
	outcome := "failed"
	var other tls.RecordHeaderError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		outcome = "timeout"
	case errors.As(err, &other) && other.Conn != nil && looksLikeHTTP(other.RecordHeader):
		outcome = "http"
		g.sendToHTTPS(s.raw)
	}
	g.metrics.handshakes.WithLabelValues(outcome).Inc()
	g.logger.Debug("no TLS handshake", "outcome", outcome, "error", err)
	_ = s.raw.Close() // the client sees it, and nobody else cares
	return false
}

// looksLikeHTTP is whether the start of a TLS record, as the server took it, is that
// of a request.
func looksLikeHTTP(start [5]byte) bool {
	for _, c := range start[:3] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// sendToHTTPS tells a client that speaks plain HTTP that it should not here.
func (g *Gateway) sendToHTTPS(raw net.Conn) {
	if raw.SetWriteDeadline(time.Now().Add(rejectTime)) != nil {
		return
	}
	_, _ = raw.Write(wholeAnswer(problem.New(problem.BadParameter, "This port speaks TLS and got a plain HTTP request; call it with https://."), g.newCallID()))
	(&connection{Conn: raw}).drainAfterAnswer()
}
