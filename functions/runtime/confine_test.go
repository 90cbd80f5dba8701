package runtime

import (
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever starts the supervisor with a low priority, as batch jobs are, gives up none of
// the confinement.
func TestALowPriorityTakesNoConfinementAway(t *testing.T) {
	dir, err := os.MkdirTemp("", "lc-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // reachable for the user that processes run as
		t.Fatal(err)
	}
	var reached program
	var outcome error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		goruntime.LockOSThread() // for good: the thread ends here, and its priority with it
		if outcome = unix.Setpriority(unix.PRIO_PROCESS, 0, 19); outcome == nil {
			spec := specForTest()
			reached, outcome = probe(spec.Command[0], spec, dir+"/run")
		}
	}()
	<-ended
	if outcome != nil || !reached.level.Full() {
		t.Errorf("a function is confined only so far: %v, %v", reached.level, outcome)
	}
}

// Every row is something a function must not be able to do; it is told no, and lives.
func TestAFunctionIsConfined(t *testing.T) {
	s := start(t, 2, specForTest())
	if level := s.Isolation(testFunction); !level.Full() {
		t.Fatalf("this machine confines functions only in part: %v", level)
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outside.Close() }()
	dir := t.TempDir()
	neighbour, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = neighbour.Close() }()
	if err := os.Chmod(dir+"/s", 0o777); err != nil {
		t.Fatal(err)
	}
	pids := s.Status()[0].PIDs
	for _, test := range []struct{ name, query, want string }{
		{"fork", "do=fork", "operation not permitted"},
		{"reach this machine", "do=connect&to=" + outside.Addr().String(), "operation not permitted"},
		{"reach the outside", "do=connect&to=192.0.2.1:80", "operation not permitted"},
		{"reach a Unix socket", "do=connect-unix&to=" + dir + "/s", "operation not permitted"},
		{"read the users", "do=read&path=/etc/passwd", "permission denied"},
		{"read another process's environment", fmt.Sprintf("do=read&path=/proc/%d/environ", os.Getpid()), "permission denied"},
		{"read the folder of sockets", "do=read&path=" + s.config.Dir, "permission denied"},
		{"write a file", "do=write&path=/tmp/lightcone-confined", "permission denied"},
		{"write in its own folder", "do=write&path=" + s.config.Dir + "/behave/0/x", "permission denied"},
		{"kill the supervisor", fmt.Sprintf("do=kill&pid=%d", os.Getpid()), "operation not permitted"},
		{"kill its neighbours", fmt.Sprintf("do=kill&pid=%d&pid=%d", pids[0], pids[1]), "operation not permitted"},
		{"kill everybody", "do=kill&pid=-1", "operation not permitted"},
		{"take shared memory", "do=eat-shared", "operation not permitted"},
		{"send a datagram", "do=datagram", "operation not permitted"},
		{"outlive the supervisor", "do=outlive", "operation not permitted"},
		{"trace its neighbours", fmt.Sprintf("do=trace&pid=%d&pid=%d", pids[0], pids[1]), "operation not permitted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			alongside(t, s, func() {
				answer, err := call(s, test.query, "", 2*time.Second)
				if err != nil || !strings.Contains(string(answer.Body), test.want) {
					t.Errorf("got %q, %v; want %q", answer.Body, err, test.want)
				}
			})
		})
	}
	if os.Getuid() == 0 {
		if answer, err := call(s, "do=uid", "", time.Second); err != nil || string(answer.Body) != "65534" {
			t.Errorf("it runs as user %q, %v", answer.Body, err)
		}
	}
	if crashes := s.Status()[0].Crashes; crashes != 0 {
		t.Errorf("%d processes were lost to refusals", crashes)
	}
}
