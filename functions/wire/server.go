package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"lightcone"
	"lightcone/functions"
)

// Runner runs the calls that a Server takes; *runtime.Supervisor is one.
type Runner interface {
	// Run fills answer, appending to answer.Body[:0], or says why there is none.
	// When it returns, nobody uses the call or the answer any more.
	Run(call *functions.Call, answer *functions.Answer) error
	// Functions lists what can be called, and how many calls each runs at once now.
	Functions() []functions.Offer
	// Ready is nil when calls can be run, else why not, in a sentence.
	Ready() error
}

// Sharer is a Runner whose slots are not the Server's calls' alone: others, who yield
// to these, take those that are left idle. *runtime.Supervisor is one.
type Sharer interface {
	// Held is how many slots of the function others hold now.
	Held(lightcone.FunctionName) int
	// Yield tells that a call was refused for want of a slot: others let calls go first for a moment.
	Yield(lightcone.FunctionName)
}

// ServerConfig is what a Server serves and its bounds. A bound of 0 or less is
// its default.
type ServerConfig struct {
	Runner Runner       // may be a Sharer
	Key    string       // the fleet's key; empty = none is asked for
	Logger *slog.Logger // nil = slog.Default()

	MaxCalls       int           // calls in flight, their bodies in memory; default 4 for each slot, at least 16
	MaxConnections int           // open at once; one more is refused and closed; default 1024
	HeaderTimeout  time.Duration // from a request's first byte to the end of its headers; default 5 s
	BodyTimeout    time.Duration // for a whole body, within the call's deadline; default 30 s
	WriteTimeout   time.Duration // for a whole answer; default 30 s
	IdleTimeout    time.Duration // between two requests; default 2 min; longer than any Client's
	DrainNotice    time.Duration // how long a Shutdown waits at least, for clients to see it in a poll; default 500 ms
}

func (c ServerConfig) withDefaults() ServerConfig {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 1024
	}
	c.HeaderTimeout = positive(c.HeaderTimeout, 5*time.Second)
	c.BodyTimeout = positive(c.BodyTimeout, 30*time.Second)
	c.WriteTimeout = positive(c.WriteTimeout, 30*time.Second)
	c.IdleTimeout = positive(c.IdleTimeout, 2*time.Minute)
	c.DrainNotice = positive(c.DrainNotice, 500*time.Millisecond)
	return c
}

func positive(value, otherwise time.Duration) time.Duration {
	if value > 0 {
		return value
	}
	return otherwise
}

// Server is a worker's end of the wire. Make one with NewServer, give it
// listeners with Serve, stop it with Shutdown.
type Server struct {
	config ServerConfig
	sharer Sharer           // nil when every slot is the calls' own
	digest lightcone.Digest // of the key: equal lengths compare in constant time

	accepting sync.WaitGroup // one for each listener being served

	mu          sync.Mutex
	draining    bool // calls are refused
	closing     bool // listeners take what is in their backlog, and no more
	stopping    bool // connections end with the answer they are writing
	inFlight    int
	busy        map[lightcone.FunctionName]int
	listeners   map[net.Listener]struct{}
	connections map[*serverConn]struct{}
	quiet       chan struct{} // closed when draining and nothing is in flight
	ended       chan struct{} // closed when stopping and no connection is left
}

// NewServer makes a server; it starts nothing.
func NewServer(config ServerConfig) *Server {
	sharer, _ := config.Runner.(Sharer)
	return &Server{
		config:      config.withDefaults(),
		sharer:      sharer,
		digest:      lightcone.DigestOf([]byte(config.Key)),
		busy:        make(map[lightcone.FunctionName]int),
		listeners:   make(map[net.Listener]struct{}),
		connections: make(map[*serverConn]struct{}),
		quiet:       make(chan struct{}),
		ended:       make(chan struct{}),
	}
}

// Serve accepts connections until Shutdown, and returns nil once the last one
// has ended; or the error that ended accepting, while open connections go on.
func (s *Server) Serve(listener net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = listener.Close() // it is not going to be used
		return errors.New("wire server: it has been shut down")
	}
	s.listeners[listener] = struct{}{}
	s.accepting.Add(1)
	s.mu.Unlock()
	err := s.accept(listener)
	s.accepting.Done()
	if err != nil {
		return err
	}
	<-s.ended
	return nil
}

// accept serves the listener's connections until it is closed.
func (s *Server) accept(listener net.Listener) error {
	defer listener.Close()
	pause := time.Duration(0)
	for {
		accepted, err := listener.Accept()
		if err == nil {
			pause = 0
			s.take(accepted)
			continue
		}
		if s.isClosing() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("wire server: the listener on %v was closed by another: %w", listener.Addr(), err)
		}
		// Out of file descriptors, usually: connections that end make room.
		pause = min(max(2*pause, 5*time.Millisecond), 200*time.Millisecond)
		s.config.Logger.Error("accepting a connection failed", "listener", listener.Addr(), "retry_in", pause, "error", err)
		time.Sleep(pause) // short enough for a shutdown to wait for
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// take serves the connection on a goroutine of its own, or turns it away.
func (s *Server) take(accepted net.Conn) {
	conn := newServerConn(s, accepted)
	s.mu.Lock()
	room := !s.stopping && len(s.connections) < s.config.MaxConnections
	if room {
		s.connections[conn] = struct{}{}
	}
	s.mu.Unlock()
	if room {
		go conn.serve()
		return
	}
	conn.turnAway()
}

// disown ends a connection's goroutine.
func (s *Server) disown(conn *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, conn)
	s.endIfLast()
}

// endIfLast tells those who wait for the last connection; s.mu is held.
func (s *Server) endIfLast() {
	if s.stopping && len(s.connections) == 0 {
		closeOnce(s.ended)
	}
}

// closeOnce closes a channel whose closers hold one mutex.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// backlogTime is how long a shutdown goes on accepting: clients whose connection
// the kernel had made already may have sent their call, and are told.
const backlogTime = 20 * time.Millisecond

// Shutdown refuses new calls from now on, says so at /load and /readyz, answers
// those that are running, waits DrainNotice for clients to look elsewhere, and
// returns once all connections have ended. When ctx ends first, it cuts the
// connections that remain and says how many; a call that is then still running
// keeps its goroutine, and Serve, until its Runner returns.
func (s *Server) Shutdown(ctx context.Context) error {
	notice := time.NewTimer(s.config.DrainNotice)
	defer notice.Stop()
	if !s.drain() { // somebody is connected and should hear of it
		select {
		case <-notice.C:
		case <-ctx.Done():
		}
	}
	select {
	case <-s.quiet:
	case <-ctx.Done():
	}
	s.stopAccepting()
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.connections {
		_ = conn.Close() // its own goroutine sees the error
	}
	return fmt.Errorf("wire server: %d connections cut off at the end of the shutdown's time: %w", len(s.connections), ctx.Err())
}

// drain refuses calls from now on, and says whether nobody is connected.
func (s *Server) drain() (alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	if s.inFlight == 0 {
		closeOnce(s.quiet)
	}
	return len(s.connections) == 0
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	s.closing = true
	for listener := range s.listeners {
		finishAccepting(listener)
	}
	s.mu.Unlock()
	s.accepting.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for conn := range s.connections {
		conn.wakeIfIdle()
	}
	s.endIfLast()
}

// finishAccepting makes accept return once it has taken what waits in the
// listener's backlog.
func finishAccepting(listener net.Listener) {
	bounded, ok := listener.(interface{ SetDeadline(time.Time) error })
	if !ok || bounded.SetDeadline(time.Now().Add(backlogTime)) != nil {
		_ = listener.Close() // accept sees the error
	}
}
