package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketsFrom prepares command to hand over a TCP socket of its own network
// namespace, and returns how to connect it to the function's port from here,
// and how to release it. Without such a namespace it dials loopback.
func socketsFrom(command *exec.Cmd, level Isolation) (dial func() (net.Conn, error), release func(), err error) {
	if !level.NetworkNamespace {
		return nil, nil, errors.New("a function that listens on $PORT needs a network namespace, which this machine does not grant: let it listen on the Unix socket")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	command.ExtraFiles = []*os.File{theirs} // arrives as socketsFD
	s := &foreignSocket{pair: fds[0], theirs: theirs, socket: -1}
	return s.dial, s.close, nil
}

// foreignSocket is a TCP socket that another network namespace made.
type foreignSocket struct {
	mu     sync.Mutex
	pair   int // our end of the pair; -1 once the socket has come
	theirs *os.File
	socket int // -1 until it has come
}

// dial connects the socket, again if it was connected before.
func (s *foreignSocket) dial() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket < 0 {
		if err := s.receive(); err != nil {
			return nil, err
		}
	}
	// AF_UNSPEC dissolves an earlier connection: connect(2).
	var nowhere unix.RawSockaddrInet4
	_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, uintptr(s.socket), uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere))
	if err := s.connect(); err != nil {
		return nil, fmt.Errorf("connect to port %d: %w", functionPort, err)
	}
	duplicate, err := unix.FcntlInt(uintptr(s.socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to port %d: %w", functionPort, err)
	}
	file := os.NewFile(uintptr(duplicate), "function")
	defer func() { _ = file.Close() }()
	return net.FileConn(file)
}

// connectTimeout bounds a connection to a process that does not accept it.
const connectTimeout = 2 * time.Second

// connect connects without blocking, since the socket's mode is shared with the
// connections that have been made of it, and waits for the outcome.
func (s *foreignSocket) connect() error {
	if err := unix.SetNonblock(s.socket, true); err != nil {
		return err
	}
	err := unix.Connect(s.socket, &unix.SockaddrInet4{Port: functionPort, Addr: [4]byte{127, 0, 0, 1}})
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	ready := []unix.PollFd{{Fd: int32(s.socket), Events: unix.POLLOUT}}
	n, err := unix.Poll(ready, int(connectTimeout.Milliseconds()))
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll(ready, int(connectTimeout.Milliseconds()))
	}
	switch {
	case err != nil:
		return err
	case n == 0:
		return os.ErrDeadlineExceeded
	}
	outcome, err := unix.GetsockoptInt(s.socket, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && outcome != 0 {
		err = unix.Errno(outcome)
	}
	return err
}

// receive takes the socket from the pair, without waiting for it.
func (s *foreignSocket) receive() error {
	if s.pair < 0 {
		return errors.New("the function handed over no socket")
	}
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(s.pair, data, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("receive a socket: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) == 0 {
		return fmt.Errorf("receive a socket: %d messages: %w", len(messages), err)
	}
	received, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return fmt.Errorf("receive a socket: %w", err)
	}
	s.socket = received[0]
	_ = unix.Close(s.pair)
	s.pair = -1
	return s.theirs.Close()
}

func (s *foreignSocket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pair >= 0 {
		_ = unix.Close(s.pair)
		_ = s.theirs.Close()
	}
	if s.socket >= 0 {
		_ = unix.Close(s.socket)
	}
	s.pair, s.socket = -1, -1
}
