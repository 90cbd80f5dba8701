package runtime

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuClock reads how much CPU time a process has used so far, all its threads
// together, from the kernel: the function cannot bend it.
type cpuClock int32

// clockOf is the CPU clock of the process pid: clock_getcpuclockid(3) encodes
// the id as the pid's complement, shifted, with CPUCLOCK_SCHED (2) below.
func clockOf(pid int) cpuClock { return cpuClock(int32(^pid)<<3 | 2) }

// read fails once the process has been reaped.
func (c cpuClock) read() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(int32(c), &now); err != nil {
		return 0, fmt.Errorf("read a process's CPU clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// residentMemory reads a process's resident set, shared pages included, in
// bytes. It keeps the file open, so that reading is one system call.
type residentMemory struct{ statm *os.File }

func residentOf(pid int) (residentMemory, error) {
	statm, err := os.Open("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return residentMemory{}, fmt.Errorf("open a process's memory account: %w", err)
	}
	return residentMemory{statm: statm}, nil
}

// read fails once the process has gone.
func (r residentMemory) read() (int64, error) {
	var buffer [128]byte
	n, err := r.statm.ReadAt(buffer[:], 0)
	if n == 0 {
		return 0, fmt.Errorf("read a process's memory account: %w", err)
	}
	fields := bytes.Fields(buffer[:n]) // proc(5): size resident shared text lib data dt, in pages
	if len(fields) < 2 {
		return 0, fmt.Errorf("read a process's memory account: %q has no second field", buffer[:n])
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read a process's memory account: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}

func (r residentMemory) close() { _ = r.statm.Close() }
