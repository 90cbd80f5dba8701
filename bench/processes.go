package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf is the CPU time a process has used, from its CPU clock.
func cpuOf(pid int) (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &now); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(now.Nano()), nil
}

// residentMiB is a process's resident memory.
func residentMiB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("process %d: statm reads %q", pid, text)
	}
	pages, err := strconv.ParseFloat(string(fields[1]), 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), err
}

// child is a server that this program started and stops.
type child struct {
	command *exec.Cmd
	output  bytes.Buffer
	ended   chan struct{}
}

func startChild(name string, env []string, args ...string) (*child, error) {
	c := &child{command: exec.Command(name, args...), ended: make(chan struct{})}
	c.command.Env = append(os.Environ(), env...)
	c.command.Stdout, c.command.Stderr = &c.output, &c.output
	c.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches this program, which stops it
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(c.ended)
		_ = c.command.Wait()
	}()
	return c, nil
}

func (c *child) pid() int { return c.command.Process.Pid }

func (c *child) stop() {
	_ = c.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(20 * time.Second):
		_ = c.command.Process.Kill()
		<-c.ended
	}
}

// await polls until ready says so, the child ends, or 30 seconds are over.
func (c *child) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !ready() {
		select {
		case <-ticker.C:
		case <-c.ended:
			return fmt.Errorf("%s ended: %s", c.command.Path, c.output.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", c.command.Path, ctx.Err(), c.output.String())
		}
	}
	return nil
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

// tree is a `lightcone dev` of this program's own.
type tree struct {
	*child
	api, manage, key, dir string
}

// startTree starts it and waits until every process is warm.
func startTree(ctx context.Context) (*tree, error) {
	t := &tree{}
	var err error
	if t.dir, err = os.MkdirTemp("", "lightcone-bench-"); err != nil {
		return nil, err
	}
	if t.api, err = freeAddress(); err != nil {
		return nil, err
	}
	if t.manage, err = freeAddress(); err != nil {
		return nil, err
	}
	if t.child, err = startChild("bin/lightcone", nil, "dev", "--data", t.dir, "--api", t.api, "--manage", t.manage); err != nil {
		return nil, err
	}
	err = t.await(ctx, func() bool {
		for _, status := range t.status() {
			if status.Idle <= status.Slots {
				return false
			}
		}
		return len(t.status()) > 0
	})
	if err != nil {
		t.stop()
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(t.dir, "demo.key"))
	t.key = strings.TrimSpace(string(key))
	return t, err
}

func (t *tree) stop() {
	t.child.stop()
	_ = os.RemoveAll(t.dir)
}

// functionStatus is what the management listener says of a function.
type functionStatus struct {
	Function string `json:"function"`
	Slots    int    `json:"slots"`
	Idle     int    `json:"idle"`
	PIDs     []int  `json:"pids"`
	Crashes  int    `json:"crashes"`
}

// status is empty while the tree does not answer.
func (t *tree) status() []functionStatus {
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + t.manage + "/readyz")
	if err != nil {
		return nil
	}
	defer func() { _ = response.Body.Close() }()
	var all []functionStatus
	if json.NewDecoder(response.Body).Decode(&all) != nil {
		return nil
	}
	return all
}

// of is the status of one function.
func (t *tree) of(name string) functionStatus {
	for _, status := range t.status() {
		if status.Function == name {
			return status
		}
	}
	return functionStatus{}
}
