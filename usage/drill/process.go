package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lightcone/internal/retry"
)

// process is a program that the drill has started. It ends with the drill, however
// that ends.
type process struct {
	name    string
	command *exec.Cmd
	ended   chan struct{} // closed when it has been reaped
}

// start starts a program. What it says is added to a file. Of the drill's
// environment it has only what says where things are: settings of Lightcone's would be
// the program's as well.
func start(name, log string, environment []string, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{name: name, command: exec.Command(program, args...), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr, p.command.Env = file, file, append(surroundings(), environment...)
	// A group of its own: Ctrl-C is for the drill, which then ends the others in order.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.command.Wait() // whoever ended it knows why, or its log does
		close(p.ended)
	}()
	return p, nil
}

// surroundings are where a program finds others, and room for files.
func surroundings() []string {
	var kept []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, set := os.LookupEnv(name); set {
			kept = append(kept, name+"="+value)
		}
	}
	return kept
}

// kill ends the process with SIGKILL, and returns when it is gone.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may be gone already
	<-p.ended
}

// end asks the process to end, and returns when it is gone. One that takes longer
// than the bound is killed, which is an error, and so is an exit code other than 0.
func (p *process) end(bound time.Duration) error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.ended:
	case <-time.After(bound):
		p.kill()
		return fmt.Errorf("%s did not end within %v", p.name, bound)
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with exit code %d", p.name, code)
	}
	return nil
}

// await waits until a condition holds, which the process is there to bring about.
func (p *process) await(ctx context.Context, bound time.Duration, what string, holds func() bool) error {
	for deadline := time.Now().Add(bound); !holds(); {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before %s", p.name, what)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %s", p.name, bound, what)
		}
		if err := retry.Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// output runs a program to its end and returns what it said. code is its exit code.
// An error is that it could not be run.
func output(ctx context.Context, environment []string, program string, args ...string) (said, complaint string, code int, err error) {
	command := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr, command.Env = &out, &errs, append(surroundings(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = command.Run()
	if command.ProcessState == nil || ctx.Err() != nil {
		return "", "", 0, fmt.Errorf("run %s %s: %w", filepath.Base(program), strings.Join(args, " "), err)
	}
	return out.String(), strings.TrimSpace(errs.String()), command.ProcessState.ExitCode(), nil
}
