package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// process is one that was started and outlives the program that started it. Its
// start time tells it apart from a later one with the same number.
type process struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Started string `json:"started"` // in clock ticks since boot: proc_pid_stat(5), field 22
}

// startOf is the start time of a live process, "" when there is none.
func startOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command in parentheses may hold spaces; field 3 follows the last one.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

func (p process) alive() bool { return p.Started != "" && startOf(p.PID) == p.Started }

// signal sends s unless the process is gone.
func (p process) signal(s syscall.Signal) error {
	if !p.alive() {
		return fmt.Errorf("%s (pid %d) is not running", p.Name, p.PID)
	}
	return syscall.Kill(p.PID, s)
}

// waitUntil polls done until it holds, for at most bound.
func waitUntil(ctx context.Context, bound time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// start starts program on a host, detached from this one, with its output in a log
// file, and notes it, so that `down` finds it.
func (c *cluster) start(name string, on host, program string, args ...string) error {
	if on.Rack != "" {
		program, args = on.wired().Inside(program, args...)
	}
	log, err := os.OpenFile(logOf(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, agentsFolder
	cmd.Env = cleanEnvironment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p := process{Name: name, PID: cmd.Process.Pid, Started: startOf(cmd.Process.Pid)}
	go func() { _ = cmd.Wait() }() // while this program lives, its children must not stay as zombies
	c.processes = append(slices.DeleteFunc(c.processes, func(old process) bool { return old.Name == name }), p)
	return c.save()
}

// logOf is the log file of a process.
func logOf(name string) string { return filepath.Join(agentsFolder, "logs", name+".log") }

// cleanEnvironment leaves out what would point agents elsewhere, and what Nomad
// cannot start with.
func cleanEnvironment(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(entry string) bool {
		return strings.HasPrefix(entry, "CONSUL_") || strings.HasPrefix(entry, "NOMAD_") || strings.HasPrefix(entry, "AWS_")
	})
}

var processFile = filepath.Join(agentsFolder, "processes.json")

func (c *cluster) save() error {
	text, err := json.MarshalIndent(c.processes, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(processFile, text, 0o600)
}

func (c *cluster) load() error {
	text, err := os.ReadFile(processFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &c.processes)
}

// process finds a process that was started under name.
func (c *cluster) process(name string) (process, error) {
	i := slices.IndexFunc(c.processes, func(p process) bool { return p.Name == name })
	if i < 0 {
		return process{}, fmt.Errorf("%s was not started by this cluster", name)
	}
	return c.processes[i], nil
}
