package runtime

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// confineName is the program name under which the supervisor's own executable
// starts again, inside the new namespaces, to confine itself and then become
// the function: execve keeps Landlock, seccomp and the limits.
const confineName = "lightcone-confine"

// confinement is the order that the supervisor gives to such a process, in its
// only argument.
type confinement struct {
	Command     []string  // what to become
	Dir         string    // the only folder in which it may create something: its socket
	MemoryBytes int64     // bound on its data
	Level       Isolation // what the supervisor relies on
	UsePort     bool      // it listens on a TCP port of the empty network namespace
	Probe       bool      // report the level reached on standard output instead of becoming the function
}

// socketsFD is where a process that uses a port inherits the pair through which
// it hands the supervisor sockets of its network namespace.
const socketsFD = 3

// confineExitCode is how a process ends that could not confine itself.
const confineExitCode = 126

// BecomeFunctionIfAsked must be the first call of main in every executable that
// starts a Supervisor: in a process that the supervisor started, it confines
// the process and turns it into the function, and does not return.
func BecomeFunctionIfAsked() {
	if len(os.Args) != 2 || os.Args[0] != confineName {
		return
	}
	fmt.Fprintln(os.Stderr, "lightcone: confine:", confineAndBecome([]byte(os.Args[1])))
	os.Exit(confineExitCode)
}

// confineAndBecome returns only to say why it could not.
func confineAndBecome(argument []byte) error {
	var order confinement
	if err := json.Unmarshal(argument, &order); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	goruntime.LockOSThread() // seccomp and exec concern this thread
	if err := unix.Access(order.Command[0], unix.X_OK); err != nil {
		return fmt.Errorf("%s cannot be executed by this user: %w", order.Command[0], err)
	}
	if order.Level.NetworkNamespace {
		if err := raiseLoopback(); err != nil && order.UsePort {
			return err
		}
		if order.UsePort {
			if err := handOverSockets(); err != nil {
				return err
			}
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	reached := order.Level
	if err := setLimits(order.MemoryBytes, order.Level.UserNamespace); err != nil {
		return err
	}
	reached.MemoryBound = true
	if err := yieldCores(); err != nil {
		return err
	}
	if err := restrictFiles(order.Command[0], order.Dir, order.UsePort); err != nil {
		return err
	}
	reached.Landlock = landlockABI()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	// Set again here: the kernel forgets it when the credentials change.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the supervisor: %w", err)
	}
	if err := filterSystemCalls(order.UsePort); err != nil {
		return err
	}
	reached.Seccomp = true
	if order.Probe {
		if err := json.NewEncoder(os.Stdout).Encode(reached); err != nil {
			return err
		}
		os.Exit(0)
	}
	return fmt.Errorf("become %s: %w", order.Command[0], syscall.Exec(order.Command[0], order.Command, os.Environ()))
}

// setLimits bounds what the process can take from the machine.
func setLimits(memory int64, ownUserNamespace bool) error {
	limits := []struct {
		name     string
		resource int
		value    uint64
	}{
		{"data", unix.RLIMIT_DATA, uint64(memory)}, // private writable memory: setrlimit(2)
		{"core dump", unix.RLIMIT_CORE, 0},
		{"open files", unix.RLIMIT_NOFILE, 256},
		{"file size", unix.RLIMIT_FSIZE, 0}, // it has no business writing files
	}
	if ownUserNamespace { // elsewhere the count would include the user's other processes
		limits = append(limits, struct {
			name     string
			resource int
			value    uint64
		}{"threads", unix.RLIMIT_NPROC, 256})
	}
	for _, limit := range limits {
		if err := unix.Setrlimit(limit.resource, &unix.Rlimit{Cur: limit.value, Max: limit.value}); err != nil {
			return fmt.Errorf("limit its %s to %d: %w", limit.name, limit.value, err)
		}
	}
	return nil
}

// niceness is how much a function gives way to the supervisor and the gateway
// on a busy core: enough for refusing to stay quick however many calls run, and
// not so much (SCHED_IDLE was measured) that each refusal interrupts one.
const niceness = 5

// yieldCores never raises the priority, which takes a right that is not to be had in a
// user namespace.
func yieldCores() error {
	// The system call answers 20 less the niceness: getpriority(2).
	if answer, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && 20-answer >= niceness {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, niceness); err != nil {
		return fmt.Errorf("yield the cores: %w", err)
	}
	return nil
}

// restrictFiles leaves the process its executable, the system's libraries and
// read-only data that runtimes look up, and the right to make a socket in dir and,
// if it is to use one, to listen on its port.
func restrictFiles(executable, dir string, usePort bool) error {
	const makeSocket = landlock.AccessFSSet(unix.LANDLOCK_ACCESS_FS_MAKE_SOCK)
	const remove = landlock.AccessFSSet(unix.LANDLOCK_ACCESS_FS_REMOVE_FILE)
	rules := []landlock.Rule{
		landlock.ROFiles(executable),
		landlock.RODirs("/usr", "/lib", "/lib64").IgnoreIfMissing(),
		landlock.ROFiles("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/null",
			"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "/sys/devices/system/cpu/online").IgnoreIfMissing(),
		landlock.RODirs("/etc/fonts", "/etc/alternatives").IgnoreIfMissing(),
		landlock.PathAccess(makeSocket|remove, dir),
	}
	if usePort {
		rules = append(rules, landlock.BindTCP(functionPort))
	}
	return landlock.V7.BestEffort().Restrict(rules...)
}

// landlockABI is the version in the kernel, or 0: landlock_create_ruleset(2)
// with the version flag.
func landlockABI() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// raiseLoopback brings up lo, which a new network namespace has down.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	return nil
}

// handOverSockets makes a TCP socket that belongs to this network namespace and
// passes it to the supervisor, which connects it to the function's port from
// outside: a socket stays in the namespace it was made in.
func handOverSockets() error {
	pair := os.NewFile(socketsFD, "sockets")
	connection, err := net.FileConn(pair)
	if err != nil {
		return fmt.Errorf("hand over a socket: %w", err)
	}
	_ = pair.Close()
	defer func() { _ = connection.Close() }()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hand over a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, _, err := connection.(*net.UnixConn).WriteMsgUnix([]byte{1}, unix.UnixRights(fd), nil); err != nil {
		return fmt.Errorf("hand over a socket: %w", err)
	}
	return nil
}
