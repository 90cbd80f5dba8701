package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// envBehave turns this test binary into a function that does what its calls ask
// for, good or bad: real processes, really confined.
const envBehave = "LIGHTCONE_TEST_BEHAVE"

func TestMain(m *testing.M) {
	BecomeFunctionIfAsked()
	switch os.Getenv(envBehave) {
	case "":
		goleak.VerifyTestMain(m)
	case "die":
		fmt.Fprintln(os.Stderr, "no library today")
		os.Exit(3)
	case "early":
		fmt.Fprintln(os.Stderr, serveEarly())
		os.Exit(1)
	default:
		if os.Getenv(envClosing) != "" {
			fmt.Fprintln(os.Stderr, serveClosing())
			os.Exit(1)
		}
		fmt.Fprintln(os.Stderr, functions.Serve(behave))
		os.Exit(1)
	}
}

// envClosing makes it a server that closes every connection after an answer.
const envClosing = "LIGHTCONE_TEST_CLOSING"

// listenForTest listens on a plain TCP socket, as programs do that are not written in
// Go: Landlock's rules for TCP do not see the multipath sockets that Go makes by default.
func listenForTest() (net.Listener, error) {
	if port := os.Getenv(functions.EnvPort); port != "" {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		return config.Listen(context.Background(), "tcp", "127.0.0.1:"+port)
	}
	return net.Listen("unix", os.Getenv(functions.EnvSocket))
}

// serveClosing is an echo that keeps no connection open.
func serveClosing() error {
	listener, err := listenForTest()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})}
	server.SetKeepAlivesEnabled(false)
	return server.Serve(listener)
}

// serveEarly is healthy, and refuses every call from its headers.
func serveEarly() error {
	listener, err := listenForTest()
	if err != nil {
		return err
	}
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != functions.HealthPath {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))
}

// behave does what the parameter do says.
func behave(ctx context.Context, r *http.Request, body []byte) (functions.Reply, error) {
	query := r.URL.Query()
	say := func(format string, args ...any) (functions.Reply, error) {
		return functions.Reply{ContentType: "text/plain", Body: fmt.Appendf(nil, format, args...)}, nil
	}
	switch what := query.Get("do"); what {
	case "echo":
		return functions.Reply{ContentType: r.Header.Get("Content-Type"), Vary: "Accept", Body: body}, nil
	case "pid":
		return say("%d", os.Getpid())
	case "deadline":
		deadline, ok := ctx.Deadline()
		return say("%v %s %s %s", ok, deadline.UTC().Format(time.RFC3339Nano), r.Header.Get(functions.HeaderCallID), r.Header.Get(functions.HeaderTraceparent))
	case "refuse":
		return functions.Reply{}, problem.New(problem.CorruptInput, "It is broken at byte 7.")
	case "fail":
		return functions.Reply{}, errors.New("secret path /var/x")
	case "burn":
		bound, _ := time.ParseDuration(query.Get("for"))
		for end := time.Now().Add(bound); time.Now().Before(end); {
		}
		return say("burnt")
	case "sleep":
		time.Sleep(time.Hour)
	case "exit":
		os.Exit(7)
	case "panic-elsewhere":
		go panic("in a goroutine of its own")
		select {}
	case "segv":
		_ = unix.Kill(os.Getpid(), unix.SIGSEGV)
		select {}
	case "eat":
		for {
			kept = append(kept, touch(make([]byte, 16<<20)))
		}
	case "eat-shared":
		for {
			memory, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
			if err != nil {
				return say("refused: %v", err)
			}
			touch(memory)
		}
	case "datagram":
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return say("%v", err)
	case "outlive":
		return say("%v", unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0))
	case "late":
		go func() {
			time.Sleep(50 * time.Millisecond) // after the answer; the test waits for it to come
			_ = answerRaw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthief")
		}()
		return say("late")
	case "fork":
		_, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
		return say("%v", err)
	case "connect":
		_, err := net.DialTimeout("tcp", query.Get("to"), time.Second)
		return say("%v", err)
	case "connect-unix":
		_, err := net.Dial("unix", query.Get("to"))
		return say("%v", err)
	case "read":
		_, err := os.ReadFile(query.Get("path"))
		return say("%v", err)
	case "write":
		return say("%v", os.WriteFile(query.Get("path"), []byte("x"), 0o600))
	case "kill":
		return say("%v", unix.Kill(other(query["pid"]), unix.SIGKILL))
	case "trace":
		return say("%v", unix.PtraceAttach(other(query["pid"])))
	case "grow":
		kept = append(kept, touch(make([]byte, 40<<20)))
		return say("%d", len(kept))
	case "garbage", "twice", "huge", "control":
		return functions.Reply{}, hijack(what)
	case "uid":
		return say("%d", os.Getuid())
	}
	return functions.Reply{}, problem.New(problem.BadParameter, "The parameter do=%q is unknown.", query.Get("do"))
}

// other is the first of the process ids that is not this process.
func other(pids []string) int {
	for _, text := range pids {
		if pid, err := strconv.Atoi(text); err == nil && pid != os.Getpid() {
			return pid
		}
	}
	return 0
}

var kept [][]byte

func touch(memory []byte) []byte {
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	return memory
}

// hijack answers on the raw connection, found among the process's own files.
func hijack(what string) error {
	answer := map[string]string{
		"garbage": "this is not HTTP\r\n\r\n",
		"twice":   "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthief",
		"huge":    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
		"control": "HTTP/1.1 200 OK\r\nContent-Type: text/\x01plain\r\nContent-Length: 1\r\n\r\na",
	}[what]
	if err := answerRaw(answer); err != nil {
		return err
	}
	select {}
}

// answerRaw writes to every connection that this process has.
func answerRaw(text string) error {
	for fd := 3; fd < 64; fd++ {
		if peer, err := unix.Getpeername(fd); err == nil && peer != nil {
			if _, err := unix.Write(fd, []byte(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

const testFunction = lightcone.FunctionName("behave")

func specForTest() functions.Spec {
	executable, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return functions.Spec{
		Name: testFunction, Command: []string{executable}, Env: []string{envBehave + "=yes"},
		MemoryBytes: 512 << 20, DefaultTimeout: 5 * time.Second, MaxTimeout: 10 * time.Second, MaxBodyBytes: 1 << 20,
	}
}

func configForTest(dir string, slots int, specs ...functions.Spec) Config {
	return Config{
		Functions: specs, Slots: slots, Dir: dir,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
	}
}

// start runs a supervisor until the test ends and waits until all its processes are warm.
func start(t testing.TB, slots int, specs ...functions.Spec) *Supervisor {
	t.Helper()
	dir, err := os.MkdirTemp("", "lc-") // t.TempDir's name is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // reachable for the user that processes run as
		t.Fatal(err)
	}
	s, err := Start(configForTest(dir+"/run", slots, specs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	eventually(t, "all processes are warm", func() bool { return allWarm(s) })
	return s
}

func allWarm(s *Supervisor) bool {
	for _, status := range s.Status() {
		if status.Idle != status.Slots+spares {
			return false
		}
	}
	return true
}

// eventually waits for a condition, for at most 20 seconds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// call runs one call with a query and a body, within a second unless told otherwise.
func call(s *Supervisor, query, body string, within time.Duration) (functions.Answer, error) {
	id, err := lightcone.NewCallID(time.Now(), zeros{})
	if err != nil {
		panic(err)
	}
	var answer functions.Answer
	err = s.Run(&functions.Call{
		ID: id, Function: testFunction, Deadline: time.Now().Add(within), Query: []byte(query),
		ContentType: []byte("text/x-test"), Traceparent: []byte("00-trace"), Body: []byte(body),
	}, &answer)
	return answer, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// alongside runs a call that takes a while while act runs, and fails the test
// unless that neighbour's answer is right.
func alongside(t *testing.T, s *Supervisor, act func()) {
	t.Helper()
	var neighbour sync.WaitGroup
	neighbour.Add(1)
	go func() {
		defer neighbour.Done()
		answer, err := call(s, "do=burn&for=300ms", "", 10*time.Second)
		if err != nil || string(answer.Body) != "burnt" {
			t.Errorf("the neighbouring call: %q, %v", answer.Body, err)
		}
	}()
	act()
	neighbour.Wait()
}
