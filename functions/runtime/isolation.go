package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lightcone/functions"
)

// Isolation is how far a process is confined on this machine: what was asked
// for, less what its kernel or its privileges refuse.
type Isolation struct {
	UserNamespace    bool `json:"user_namespace"`    // capabilities, if any, count inside only
	NetworkNamespace bool `json:"network_namespace"` // no interface but its own loopback
	IPCNamespace     bool `json:"ipc_namespace"`     // no shared memory or message queue of others
	OwnUID           bool `json:"own_uid"`           // runs as nobody, not as the supervisor's user
	Landlock         int  `json:"landlock_abi"`      // Landlock ABI in force; 0 = none
	Seccomp          bool `json:"seccomp"`           // system calls outside the list fail
	MemoryBound      bool `json:"memory_bound"`      // RLIMIT_DATA, and the supervisor's watch on resident memory
}

// Full says whether nothing is missing. Running as the supervisor's own user is
// not a gap where the supervisor has no user to change to.
func (i Isolation) Full() bool { return len(i.missing()) == 0 }

func (i Isolation) missing() []string {
	var gaps []string
	for _, part := range []struct {
		there bool
		name  string
	}{
		{i.UserNamespace, "user namespace"},
		{i.NetworkNamespace, "network namespace"},
		{i.IPCNamespace, "IPC namespace"},
		{i.OwnUID || os.Getuid() != 0, "a user of its own"},
		{i.Landlock > 0, "Landlock"},
		{i.Seccomp, "seccomp"},
		{i.MemoryBound, "memory bound"},
	} {
		if !part.there {
			gaps = append(gaps, part.name)
		}
	}
	return gaps
}

// String says it in a line for people.
func (i Isolation) String() string {
	if gaps := i.missing(); len(gaps) > 0 {
		return "reduced: without " + strings.Join(gaps, ", ")
	}
	return fmt.Sprintf("full: own user, network and IPC namespaces, Landlock (ABI %d), seccomp, no new privileges, memory bound", i.Landlock)
}

// nobody is the user and group that a supervisor running as root gives its processes.
const nobody = 65534

// attributes are those of a process about to be started at this level.
func (i Isolation) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true, // a terminal's Ctrl-C is for the supervisor, which stops its processes itself
	}
	if i.NetworkNamespace {
		attributes.Cloneflags |= syscall.CLONE_NEWNET
		// To raise the loopback interface in the empty namespace; dropped before the function runs.
		attributes.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	if i.IPCNamespace {
		attributes.Cloneflags |= syscall.CLONE_NEWIPC
	}
	uid, gid := os.Getuid(), os.Getgid()
	if i.OwnUID {
		uid, gid = nobody, nobody
		attributes.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	if i.UserNamespace {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: uid, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: gid, Size: 1}}
		attributes.GidMappingsEnableSetgroups = i.OwnUID
	}
	return attributes
}

// levels are tried from the strongest down; the first that starts is used.
func levels() []Isolation {
	full := Isolation{UserNamespace: true, NetworkNamespace: true, IPCNamespace: true}
	none := Isolation{}
	if os.Getuid() != 0 {
		return []Isolation{full, none}
	}
	fullOwn, withoutUsers := full, full
	fullOwn.OwnUID = true // fails where nobody cannot reach the executable, under /root for one
	withoutUsers.UserNamespace, withoutUsers.OwnUID = false, true
	return []Isolation{fullOwn, full, withoutUsers, none}
}

// probeTimeout bounds the start of one trial process.
const probeTimeout = 10 * time.Second

// program is how a function's process is started on this machine.
type program struct {
	level      Isolation
	executable string   // confines the process: the supervisor's own executable, or a copy
	command    []string // what the process becomes
}

// probe finds the strongest level at which spec can be started in dir, by
// starting trial processes that report what they reached and exit. A process
// with a user of its own runs copies of the executables, kept in dir: that user
// need not be able to reach the folders that they were built in.
func probe(executable string, spec functions.Spec, dir string) (program, error) {
	var failures []error
	for _, level := range levels() {
		trial := program{level: level, executable: executable, command: spec.Command}
		err := trial.try(spec, dir)
		if err == nil {
			return trial, nil
		}
		failures = append(failures, err)
	}
	return program{}, fmt.Errorf("start %s at any level of confinement: %w", spec.Command[0], errors.Join(failures...))
}

// try starts one process at p's level and sets what it reached.
func (p *program) try(spec functions.Spec, dir string) error {
	if p.level.OwnUID {
		if err := p.copyInto(filepath.Join(dir, "bin"), string(spec.Name)); err != nil {
			return err
		}
	}
	trialDir := filepath.Join(dir, "trial")
	if err := makeDir(trialDir, p.level); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(trialDir) }()
	argument, err := json.Marshal(confinement{Command: p.command, Dir: trialDir, MemoryBytes: 1 << 30, Level: p.level, Probe: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	trial := exec.CommandContext(ctx, p.executable)
	trial.Args, trial.Dir, trial.Env = []string{confineName, string(argument)}, "/", []string{}
	trial.SysProcAttr = p.level.attributes()
	var said, complaint strings.Builder
	trial.Stdout, trial.Stderr = &said, &complaint
	if err := trial.Run(); err != nil {
		return fmt.Errorf("%w %s", err, strings.TrimSpace(complaint.String()))
	}
	if err := json.Unmarshal([]byte(said.String()), &p.level); err != nil {
		return fmt.Errorf("a trial process reported %q: %w", said.String(), err)
	}
	return nil
}

// copyInto puts both executables into dir, for every user to run, and uses
// them: the function's under the function's name, the other under a name that no
// function can have.
func (p *program) copyInto(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	confiner, own := filepath.Join(dir, ".confine-"+name), filepath.Join(dir, name)
	if err := errors.Join(copyExecutable(p.executable, confiner), copyExecutable(p.command[0], own)); err != nil {
		return err
	}
	p.executable, p.command = confiner, append([]string{own}, p.command[1:]...)
	return nil
}

func copyExecutable(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
