package runtime

import (
	"fmt"
	"os"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed are the system calls that a function may make whatever their
// arguments: what language runtimes, libc and libvips need to compute and to
// serve a socket. Everything else fails with EPERM.
var allowed = [][]string{
	{ // memory
		"brk", "munmap", "mremap", "mprotect", "madvise", "msync", "mincore", "membarrier", "mlock", "munlock", "get_mempolicy",
	},
	{ // threads, signals and timers of its own
		"futex", "futex_waitv", "set_robust_list", "get_robust_list", "set_tid_address", "rseq", "sched_yield",
		"sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min", "getcpu",
		"arch_prctl", "exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait",
		"rt_sigsuspend", "rt_sigpending", "sigaltstack", "restart_syscall", "pause", "alarm", "setitimer", "getitimer",
		"timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete",
	},
	{ // time and randomness
		"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "getrandom",
	},
	{ // who and where it is
		"getpid", "gettid", "getppid", "getpgrp", "getpgid", "getsid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid",
		"getresgid", "capget", "uname", "sysinfo", "getrlimit", "getrusage", "getpriority", "umask", "getcwd", "chdir",
	},
	{ // files: which ones is Landlock's to say
		"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "close", "close_range", "lseek",
		"open", "openat", "openat2", "stat", "fstat", "lstat", "newfstatat", "fstatat", "statx", "access", "faccessat", "faccessat2",
		"readlink", "readlinkat", "getdents", "getdents64", "dup", "dup2", "dup3", "fadvise64",
		"statfs", "fstatfs", "unlink", "unlinkat", "fsync", "fdatasync", "ftruncate",
	},
	{ // waiting
		"epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6",
		"eventfd", "eventfd2", "pipe", "pipe2", "timerfd_create", "timerfd_settime", "timerfd_gettime", "signalfd", "signalfd4",
	},
	{ // serving; there is no connect: a function is called, it does not call
		"bind", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom",
		"sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown", "sendfile", "splice",
	},
	{ // becoming the function; what may be executed is Landlock's to say
		"execve",
	},
}

// The two ioctl requests that are fcntl's F_SETOWN by another name: asm-generic/sockios.h.
const (
	fioSetOwn   = 0x8901
	sioSetGroup = 0x8902
)

// filterSystemCalls installs the filter for the process, and for what it becomes.
func filterSystemCalls(usePort bool) error {
	policy, err := systemCallPolicy(usePort, os.Getpid())
	if err != nil {
		return err
	}
	filter := seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy}
	if err := seccomp.LoadFilter(filter); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

// systemCallPolicy is the filter for the process pid.
func systemCallPolicy(usePort bool, pid int) (seccomp.Policy, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return seccomp.Policy{}, fmt.Errorf("filter system calls: %w", err)
	}
	var names []string
	for _, group := range allowed {
		for _, name := range group {
			if _, known := info.SyscallNames[name]; known { // names differ between machines
				names = append(names, name)
			}
		}
	}
	equal := func(argument uint32, value int) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.Equal, Value: uint64(value)}
	}
	none := func(argument uint32, values ...uint64) (conditions seccomp.ArgumentConditions) {
		for _, value := range values {
			conditions = append(conditions, seccomp.Condition{Argument: argument, Operation: seccomp.NotEqual, Value: value})
		}
		return conditions
	}
	stream := func(family int) seccomp.ArgumentConditions { // datagrams could be sent to anybody's socket
		return seccomp.ArgumentConditions{
			equal(0, family),
			{Argument: 1, Operation: seccomp.BitsSet, Value: unix.SOCK_STREAM},
			{Argument: 1, Operation: seccomp.BitsNotSet, Value: unix.SOCK_DGRAM},
		}
	}
	conditional := []seccomp.NameWithConditions{
		{Name: "clone", Conditions: seccomp.ArgumentConditions{ // threads, not processes
			{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
		}},
		{Name: "tgkill", Conditions: seccomp.ArgumentConditions{equal(0, pid)}}, // signals to itself
		{Name: "kill", Conditions: seccomp.ArgumentConditions{equal(0, pid)}},
		{Name: "prlimit64", Conditions: seccomp.ArgumentConditions{equal(0, 0)}},
		{Name: "prlimit64", Conditions: seccomp.ArgumentConditions{equal(0, pid)}},
		{Name: "socket", Conditions: stream(unix.AF_UNIX)},
		{Name: "socketpair", Conditions: stream(unix.AF_UNIX)},
		// Shared anonymous memory outlives its mapping's pages and counts against no limit.
		{Name: "mmap", Conditions: seccomp.ArgumentConditions{{Argument: 3, Operation: seccomp.BitsNotSet, Value: unix.MAP_SHARED}}},
		{Name: "mmap", Conditions: seccomp.ArgumentConditions{{Argument: 3, Operation: seccomp.BitsNotSet, Value: unix.MAP_ANONYMOUS}}},
		{Name: "prctl", Conditions: none(0, unix.PR_SET_PDEATHSIG)},                          // it dies with the supervisor
		{Name: "fcntl", Conditions: none(1, unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG)}, // signals by way of a file
		{Name: "ioctl", Conditions: none(1, fioSetOwn, sioSetGroup)},
	}
	if usePort {
		conditional = append(conditional,
			seccomp.NameWithConditions{Name: "socket", Conditions: stream(unix.AF_INET)})
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: names, NamesWithCondtions: conditional},
			// glibc tries clone3, whose flags a filter cannot see, and falls back to clone.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		},
	}, nil
}
