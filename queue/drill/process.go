package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"lightcone/internal/hosts"
)

// process is this program, started again as a node, a client or a worker. It ends
// when its standard input does, and so with the drill.
type process struct {
	name    string
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	ended   chan struct{} // closed when it has been reaped
}

// start starts this program on a host, or outside of all if that is nil. What it logs
// is added to a file.
func start(on *hosts.Host, name, log string, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if on != nil {
		program, args = on.Inside(program, args...)
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{name: name, command: exec.Command(program, args...), ended: make(chan struct{})}
	p.command.Stderr = file
	if p.input, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.output = bufio.NewReader(output)
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// ask sends a line, or none for "", and returns the line that comes back.
func (p *process) ask(question string) (string, error) {
	if question != "" {
		if _, err := io.WriteString(p.input, question+"\n"); err != nil {
			return "", fmt.Errorf("%s is gone: %w", p.name, err)
		}
	}
	line, err := p.output.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s is gone: %w", p.name, err)
	}
	return strings.TrimSpace(line), nil
}

// kill ends the process at once, and returns when it is gone.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	p.reap()
}

// freeze stands the process still, thaw lets it go on.
func (p *process) freeze() error { return p.command.Process.Signal(syscall.SIGSTOP) }

func (p *process) thaw() error { return p.command.Process.Signal(syscall.SIGCONT) }

// endBound is how long a process may take to end well.
const endBound = 20 * time.Second

// end asks the process to end, and kills it if it does not.
func (p *process) end() error {
	_ = p.input.Close()
	late := time.AfterFunc(endBound, func() { _ = p.command.Process.Kill() })
	p.reap()
	if !late.Stop() {
		return fmt.Errorf("%s did not end within %v", p.name, endBound)
	}
	return nil
}

// reap waits for the end. What is still printed is of no use to anybody.
func (p *process) reap() {
	select {
	case <-p.ended:
	default:
		_, _ = io.Copy(io.Discard, p.output)
		_ = p.command.Wait()
		close(p.ended)
	}
}
