package runtime

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lightcone/functions"
)

// photographs are real ones: JPEGs of 2560 by 1600 pixels or so, 80 KB to 1.2 MB.
const photographs = "/usr/share/backgrounds/mate/nature/*.jpg"

// resizeForTest declares the resize function, built from this source.
func resizeForTest(t *testing.T) functions.Spec {
	t.Helper()
	dir := t.TempDir()
	if output, err := exec.Command("go", "build", "-o", dir, "lightcone/cmd/lightcone-resize").CombinedOutput(); err != nil {
		t.Fatalf("build resize: %v: %s", err, output)
	}
	return functions.Spec{
		Name: "resize", Command: []string{filepath.Join(dir, "lightcone-resize")}, Env: []string{"GOMAXPROCS=1"},
		MemoryBytes: 1536 << 20, DefaultTimeout: time.Minute, MaxTimeout: time.Minute, MaxBodyBytes: 20 << 20,
	}
}

// The kernel keeps three accounts of a slot: its threads' time on a core, by the
// nanosecond; the clock that calls are metered with; and what wait4(2) tells at its
// end. Calls are charged neither more than any of them says, nor 1 % less. Nobody
// pays for a slot's start, nor for its end.
func TestResizeIsChargedForAllThatItsSlotUses(t *testing.T) {
	names, err := filepath.Glob(photographs)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", photographs, err)
	}
	s := start(t, 1, resizeForTest(t))
	slot := s.pools["resize"].idle[spares] // a call gets the last while no other call runs
	clockAtStart := settledClock(t, slot)
	threadsAtStart := threadTimes(t, slot.command.Process.Pid)
	metered := time.Duration(0)
	var answer functions.Answer
	const calls = 120
	for i := range calls {
		photo, err := os.ReadFile(names[i%len(names)])
		if err != nil {
			t.Fatal(err)
		}
		call := functions.Call{Function: "resize", Query: []byte("width=300"), Body: photo, Deadline: time.Now().Add(time.Minute)}
		if err := s.Run(&call, &answer); err != nil || answer.Status != 200 {
			t.Fatalf("%s: status %d, %v", names[i%len(names)], answer.Status, err)
		}
		metered += answer.CPU
	}
	clock := settledClock(t, slot) - clockAtStart
	threads := threadTimes(t, slot.command.Process.Pid) - threadsAtStart
	slot.kill()
	<-slot.dead
	if slot.calls != calls {
		t.Fatalf("the slot ran %d of %d calls", slot.calls, calls)
	}
	usage := slot.command.ProcessState
	whole := usage.UserTime() + usage.SystemTime() - clockAtStart
	report := fmt.Sprintf("%d calls were metered %v; its threads say %v (ratio %.4f), its clock %v, wait4 %v with the end but without the start, which took %v",
		calls, metered, threads, metered.Seconds()/threads.Seconds(), clock, whole, clockAtStart)
	if metered > clock || metered > whole || metered.Seconds() < 0.99*threads.Seconds() || metered.Seconds() < 0.99*clock.Seconds() {
		t.Error(report)
	} else {
		t.Log(report)
	}
}

// outsideOfCalls bounds what a slot may use after an answer without charging it to
// the call. A tiny call may cost less than that, so here the bound is no share.
const outsideOfCalls = 100 * time.Microsecond

func TestAllButMicrosecondsIsChargedToTheCalls(t *testing.T) {
	s := start(t, 1, specForTest())
	slot := s.pools[testFunction].idle[spares]
	for _, query := range []string{"do=echo", "do=burn&for=5ms"} {
		before, metered := settledClock(t, slot), time.Duration(0)
		const calls = 100
		for range calls {
			answer, err := call(s, query, strings.Repeat("x", 100_000), 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			metered += answer.CPU
			time.Sleep(time.Millisecond) // it falls asleep: the next call is not charged for that
		}
		account := settledClock(t, slot) - before
		t.Logf("%s: metered %v of %v, %v a call is outside", query, metered, account, (account-metered)/calls)
		if metered > account || account-metered > calls*outsideOfCalls {
			t.Errorf("%s: %d calls were metered %v, the kernel's account is %v", query, calls, metered, account)
		}
	}
}

// threadTimes is what a process's living threads have spent on a core: the first
// number of each one's schedstat, in nanoseconds (sched-stats.rst of the kernel).
func threadTimes(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(names) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		spent, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			t.Fatalf("%s reads %q", name, text)
		}
		sum += time.Duration(spent)
	}
	return sum
}

// settledClock is what a process has used once it uses nothing more.
func settledClock(t *testing.T, p *process) time.Duration {
	t.Helper()
	var last time.Duration
	eventually(t, "the process is asleep", func() bool {
		before, err := p.clock.read()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Millisecond) // more than two ticks of the slowest kernel, 10 ms: a running thread shows
		if last, err = p.clock.read(); err != nil {
			t.Fatal(err)
		}
		return last == before
	})
	return last
}

// Function and supervisor are on cores of their own here, and the supervisor reads
// the clock the moment the answer is there: the worst case for a clock that the
// kernel brings up to date now and then.
func TestAnAnswerComesAfterTheCPUTimeItTook(t *testing.T) {
	spec := specForTest()
	spec.Env = append(spec.Env, "GOMAXPROCS=1")
	s := start(t, 1, spec)
	slot := s.pools[testFunction].idle[spares]
	apart(t, slot.command.Process.Pid)
	connection, err := slot.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	atStart, atAnswers := settledClock(t, slot), time.Duration(0)
	for range 300 {
		before, err := slot.clock.read()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(connection, "POST /?do=burn&for=1ms HTTP/1.1\r\nHost: function\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		atAnswers += clockAtAnswer(t, slot, connection) - before
		time.Sleep(4 * time.Millisecond) // it falls asleep: what was not in the clock now is, and is not taken for the next call's
	}
	all := settledClock(t, slot) - atStart
	t.Logf("%v of %v", atAnswers, all)
	if atAnswers < all/100*95 {
		t.Errorf("when the answers came, the clock had shown %v of %v", atAnswers, all)
	}
}

// apart keeps the process on one core and this goroutine on another, until the test
// ends, as far as there are two.
func apart(t *testing.T, pid int) {
	t.Helper()
	var allowed, theirs, ours unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 { // a CPUSet's size: sched_setaffinity(2)
		if allowed.IsSet(cpu) && theirs.Count() == 0 {
			theirs.Set(cpu)
		} else if allowed.IsSet(cpu) && ours.Count() == 0 {
			ours.Set(cpu)
		}
	}
	if ours.Count() == 0 {
		ours = theirs
	}
	goruntime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.SchedSetaffinity(0, &ours); err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err == nil {
			err = unix.SchedSetaffinity(id, &theirs)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// clockAtAnswer looks for an answer without going to sleep, which would take longer
// than the function needs to fall asleep itself, and reads the clock.
func clockAtAnswer(t *testing.T, slot *process, connection net.Conn) time.Duration {
	t.Helper()
	raw, err := connection.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var now time.Duration
	buffer := make([]byte, 4<<10)
	deadline := time.Now().Add(20 * time.Second)
	controlled := raw.Control(func(fd uintptr) {
		n := 0
		for n <= 0 && time.Now().Before(deadline) {
			n, _, err = unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
		}
		if n <= 0 || err != nil || !strings.HasPrefix(string(buffer[:n]), "HTTP/1.1 200") {
			err = fmt.Errorf("got %q: %w", buffer[:max(n, 0)], err)
			return
		}
		now, err = slot.clock.read()
	})
	if controlled != nil || err != nil {
		t.Fatal(controlled, err)
	}
	return now
}
