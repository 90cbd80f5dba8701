// Package testbed starts the real servers that tests run against, each of the
// test's own, on loopback: Consul, and what else a region stands on.
//
// Invariants: a server is up when its start returns; it ends with its test, and
// with the test's process if that dies; its log is shown when the test has failed;
// a port it was given stays free for it while it is away.
//
// It is for tests alone. It replaces no server by a stand-in, and leaves clients of
// the servers to who tests them.
package testbed

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Ports are for servers of the test: FreePorts, or the test ends.
func Ports(t testing.TB, count int) []int {
	t.Helper()
	ports, err := FreePorts(count)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// FreePorts are distinct loopback ports on which nobody listens, and which no other
// process of tests is given while this one lives. They are in 10000 to 31999, below
// those that Linux gives to outgoing connections (ip_local_port_range is 32768 to
// 60999), so that none is taken before its server listens, or while it is away.
func FreePorts(count int) ([]int, error) {
	var ports []int
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		if !claim(port) {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // taken by somebody else
		}
		_ = listener.Close()
		if ports = append(ports, port); len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("only %d of %d ports are free in 10000 to 31999 after 1000 tries", len(ports), count)
}

// claims are the locks of this process's ports: closed, and so given back, by its end.
var claims sync.Map // of *os.File by port

// claim makes a port this process's, unless it is one's already.
func claim(port int) bool {
	folder := filepath.Join(os.TempDir(), "lightcone-test-ports")
	if os.MkdirAll(folder, 0o777) != nil {
		return false
	}
	file, err := os.OpenFile(filepath.Join(folder, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return false
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = file.Close()
		return false
	}
	claims.Store(port, file)
	return true
}

// Agent is the path of the executable of Consul ("consul"), Nomad ("nomad") or versitygw,
// which is built when the machine has none.
func Agent(t testing.TB, name string) string {
	t.Helper()
	folder, err := root()
	if err != nil {
		t.Fatal(err)
	}
	find := exec.Command(filepath.Join(folder, "internal/tools/agent"), name)
	find.Stderr = os.Stderr
	path, err := find.Output()
	if err != nil {
		t.Fatalf("find or build %s: %v", name, err)
	}
	return strings.TrimSpace(string(path))
}

// root is the repository's folder: tests run in their package's, below it.
func root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for folder := start; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("no go.mod in %s or above: run the tests in the repository", start)
		}
	}
}

// process is a server's process, which can be started again.
type process struct {
	t       testing.TB
	program string
	args    []string
	log     string // file
	command *exec.Cmd
	exited  chan struct{}
}

// newProcess starts a server, whose log is in the folder, for as long as the test runs.
func newProcess(t testing.TB, folder, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, program: program, args: args, log: filepath.Join(folder, "log")}
	p.start()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			said, _ := os.ReadFile(p.log) // as much as there is
			t.Logf("%s %s said: ...%s", p.program, strings.Join(p.args, " "), said[max(0, len(said)-4000):])
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(p.program, p.args...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait() // killed: it has nothing else to say
		close(exited)
	}()
	p.command, p.exited = command, exited
}

// Kill ends the server with SIGKILL and waits for its end; its data stays until
// the test ends. One that is dead stays so.
func (p *process) Kill() {
	_ = p.command.Process.Kill() // it may be dead already
	<-p.exited
}

// Freeze stops the server from running, with its connections open, until Thaw. When
// it returns, no thread of the server runs any more.
func (p *process) Freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	p.await(10*time.Second, "every thread has stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.command.Process.Pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, runs)
	})
}

// runs says whether a thread is in another state than stopped, by proc_pid_stat(5).
func runs(thread string) bool {
	stat, err := os.ReadFile(thread)
	if err != nil {
		return false // it has ended
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "T")
}

// Thaw lets a frozen server run on.
func (p *process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *process) signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		p.t.Errorf("send %s to %s: %v", signal, p.program, err)
	}
}

// await waits for a condition while the server is there.
func (p *process) await(bound time.Duration, what string, holds func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(bound)
	for !holds() {
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended before %s", p.program, what)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %v: %s", bound, what)
		}
	}
}
