package runtime

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lightcone/functions"
)

const (
	startTimeout = 15 * time.Second // from exec to healthy
	firstPoll    = 500 * time.Microsecond
	maxPoll      = 20 * time.Millisecond
	functionPort = 8080 // in a network namespace of its own, any port is free
	goneTimeout  = 2 * time.Second
)

// process is one running copy of a function, with the one connection to it.
type process struct {
	spec     functions.Spec
	command  *exec.Cmd
	dir      string
	clock    cpuClock
	memory   residentMemory
	words    *lastWords
	dial     func() (net.Conn, error)
	dead     chan struct{} // closed once the process has been reaped
	calls    int           // answered so far; only the call that holds the process touches it
	resident atomic.Int64  // bytes, as last watched
	overgrew atomic.Bool   // the watch killed it
	dropped  atomic.Bool   // it was killed because its call was cancelled
	inherits int64         // the supervisor's resident memory at the start, which counts as the process's peak

	held       sync.Mutex // by the call that uses the connection, and by discard
	connection net.Conn
	reader     *bufio.Reader
}

// startProcess starts a copy of spec in dir, which it empties first, and
// returns once the copy says it is healthy. cancel gives up early.
func startProcess(start func(*exec.Cmd) error, spec functions.Spec, program program, dir string, cancel <-chan struct{}) (*process, error) {
	if err := makeDir(dir, program.level); err != nil {
		return nil, err
	}
	order, err := json.Marshal(confinement{
		Command: program.command, Dir: dir, MemoryBytes: spec.MemoryBytes, Level: program.level, UsePort: spec.UsePort,
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	socket := filepath.Join(dir, "s")
	p := &process{spec: spec, dir: dir, words: &lastWords{}, dead: make(chan struct{})}
	p.command = &exec.Cmd{
		Path: program.executable, Args: []string{confineName, string(order)}, Dir: "/",
		Env:         append([]string{}, spec.Env...),
		Stderr:      p.words,
		Stdout:      p.words,
		SysProcAttr: program.level.attributes(),
		WaitDelay:   goneTimeout,
	}
	closeSockets := func() {}
	if spec.UsePort {
		p.command.Env = append(p.command.Env, functions.EnvPort+"="+strconv.Itoa(functionPort))
		p.dial, closeSockets, err = socketsFrom(p.command, program.level)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
	} else {
		p.command.Env = append(p.command.Env, functions.EnvSocket+"="+socket)
		p.dial = func() (net.Conn, error) { return net.DialTimeout("unix", socket, startTimeout) }
	}
	if own, err := residentOf(os.Getpid()); err == nil {
		p.inherits, _ = own.read() // 0 when unknown
		own.close()
	}
	if err := start(p.command); err != nil {
		closeSockets()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	pid := p.command.Process.Pid
	p.clock = clockOf(pid)
	p.memory, err = residentOf(pid)
	go func() {
		_ = p.command.Wait() // how it ended is in ProcessState
		closeSockets()
		close(p.dead)
	}()
	if err == nil {
		err = p.awaitHealth(cancel)
	}
	if err != nil {
		p.kill()
		p.discard()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return p, nil
}

// makeDir makes an empty folder that the process, whoever it runs as, can put
// its socket into.
func makeDir(dir string, level Isolation) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil { // to pass through, not to list
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if level.OwnUID {
		return os.Chown(dir, nobody, nobody)
	}
	return nil
}

// awaitHealth asks for the process's health until it answers.
func (p *process) awaitHealth(cancel <-chan struct{}) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	var last error
	for pause := firstPoll; ; pause = min(2*pause, maxPoll) {
		if last = p.askHealth(); last == nil {
			return nil
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-p.dead:
			again.Stop()
			return fmt.Errorf("it ended before it was healthy (%v): %s", p.command.ProcessState, p.words.text())
		case <-deadline.C:
			again.Stop()
			return fmt.Errorf("it was not healthy within %v (GET %s: %w): %s", startTimeout, functions.HealthPath, last, p.words.text())
		case <-cancel:
			again.Stop()
			return errClosing
		}
	}
}

var errClosing = errors.New("the supervisor is stopping")

// kill ends the process now. It is safe at any time and any number of times.
func (p *process) kill() { _ = p.command.Process.Kill() }

// discard releases what the supervisor holds for a killed process, and waits
// until it is gone.
func (p *process) discard() {
	<-p.dead
	p.held.Lock() // a call may still be reading the answer it left
	defer p.held.Unlock()
	p.disconnect()
	if p.memory.statm != nil {
		p.memory.close()
	}
	_ = os.RemoveAll(p.dir)
}

// diesWithin waits for the end of a process that stopped answering.
func (p *process) diesWithin(bound time.Duration) bool {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-p.dead:
		return true
	case <-timer.C:
		return false
	}
}

// cpuAtEnd is all the CPU time that a dead process used, as its parent is told
// by wait4(2).
func (p *process) cpuAtEnd() time.Duration {
	return p.command.ProcessState.UserTime() + p.command.ProcessState.SystemTime()
}

// endedByUs says whether a dead process was killed, which only this package and
// the kernel's out-of-memory killer may do.
func (p *process) endedByUs() bool {
	status, known := p.command.ProcessState.Sys().(syscall.WaitStatus)
	return known && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// peakMemory is the most that a dead process ever had resident, in bytes, as far
// as that is known: until it became the function it was a copy of the supervisor.
func (p *process) peakMemory() int64 {
	usage, known := p.command.ProcessState.SysUsage().(*syscall.Rusage)
	if !known || usage.Maxrss<<10 <= p.inherits+p.inherits/8 { // getrusage(2) counts in KiB
		return p.resident.Load()
	}
	return usage.Maxrss << 10
}

// watch takes the process's resident memory and kills it when it is over its
// bound, which RLIMIT_DATA alone cannot hold for shared memory.
func (p *process) watch() {
	resident, err := p.memory.read()
	if err != nil {
		return // it has just died; its berth knows
	}
	p.resident.Store(resident)
	if resident > p.spec.MemoryBytes {
		p.overgrew.Store(true)
		p.kill()
	}
}
