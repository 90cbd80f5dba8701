package wire

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// waitingBytes is how much the peer has sent that nobody has read yet.
func waitingBytes(conn net.Conn) int {
	waiting := 0
	control(conn, func(fd int) { waiting, _ = unix.IoctlGetInt(fd, unix.TIOCINQ) }) // an error means that it is closed
	return waiting
}

// isQuiet looks at an idle connection without reading: false when the peer has
// closed it, or has sent what nobody asked for.
func isQuiet(conn net.Conn) bool {
	quiet := false
	control(conn, func(fd int) {
		var next [1]byte
		_, _, err := unix.Recvfrom(fd, next[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = errors.Is(err, unix.EAGAIN)
	})
	return quiet
}

// control calls with the connection's descriptor, if it has one and is open.
func control(conn net.Conn, with func(fd int)) {
	if raw, ok := conn.(syscall.Conn); ok {
		if opened, err := raw.SyscallConn(); err == nil {
			_ = opened.Control(func(fd uintptr) { with(int(fd)) }) // an error means that it is closed
		}
	}
}
