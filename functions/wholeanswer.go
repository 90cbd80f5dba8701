package functions

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// wholeAnswers is a listener whose connections send each answer at once, after
// the CPU time it took. The standard library's server sends its headers and the
// first 4 KB, then the rest; each piece would wake the supervisor, on a core that
// a function could use.
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
		bookCPU()
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
		bookCPU()
		_, _ = c.Conn.Write(c.pending)
		c.pending = c.pending[:0]
	}
}

// bookCPU puts the CPU time that this thread has used so far into the process's
// account. The kernel does that when the thread leaves its core, or at the next
// timer tick, 1 to 10 ms away; a supervisor that reads the account from another
// core, as soon as it has the answer, would miss as much, and find it in the next
// call's. Asked by the process itself, the kernel does it at once
// (thread_group_cputime in the kernel's kernel/sched/cputime.c).
func bookCPU() {
	var total unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &total) // the call is what counts
}

// Close sends what has been kept, and closes.
func (c *wholeAnswer) Close() error {
	c.flush()
	return c.Conn.Close()
}
