package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	supervisor "lightcone/functions/runtime"
	"lightcone/gateway/quarantine"
	"lightcone/internal/problem"
	"lightcone/internal/run"
	"lightcone/queue"
)

// envSlow turns this test's executable into a function that takes its time.
const envSlow = "LIGHTCONE_TEST_SLOW"

// becomeSlowFunction serves a function that waits for as long as the parameter for
// says, dies if die is set, and then answers with its input.
func becomeSlowFunction() int {
	fmt.Fprintln(os.Stderr, functions.Serve(func(_ context.Context, r *http.Request, body []byte) (functions.Reply, error) {
		if r.URL.Query().Has("die") {
			os.Exit(7)
		}
		pause, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err != nil {
			return functions.Reply{}, problem.New(problem.BadParameter, "%v", err)
		}
		time.Sleep(pause)
		return functions.Reply{ContentType: "text/plain", Body: body}, nil
	}))
	return 1
}

// shop is a queue, a supervisor, and the work between them, all in this process.
type shop struct {
	client *queue.Client
	slots  *supervisor.Supervisor
	group  *run.Group
	signal context.CancelFunc // that the service is to stop
	end    run.Stop           // of the work
	queued int                // calls so far
}

const slow = lightcone.FunctionName("slow")

func openShop(t *testing.T, slots int) *shop {
	t.Helper()
	dir, err := os.MkdirTemp("", "lc-") // t.TempDir's name is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec := limitsOf(slow)
	spec.Command, spec.Env = []string{executable}, []string{envSlow + "=yes"}
	logger := slog.New(slog.DiscardHandler)
	taking, signal := context.WithCancel(t.Context())
	s := &shop{group: run.New(logger), signal: signal}
	_ = s.group.Start(t.Context(), "supervisor", func(ctx context.Context) (run.Stop, error) {
		s.slots, err = supervisor.Start(supervisor.Config{
			Functions: []functions.Spec{spec}, Slots: slots, Dir: filepath.Join(dir, "run"), Logger: logger, Metrics: prometheus.NewRegistry(),
		})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { return s.slots.Close() }, waitReady(ctx, s.slots, logger)
	})
	var node *queue.Node
	_ = s.group.Start(t.Context(), "node", func(context.Context) (run.Stop, error) {
		node, err = queue.StartNode(queue.NodeConfig{Seat: "0", Dir: filepath.Join(dir, "queue"), User: "client", Password: "secret", MaxStoreBytes: 1 << 30, Logger: logger})
		if err != nil {
			return nil, err
		}
		return node.Stop, nil
	})
	_ = s.group.Start(t.Context(), "queue", func(context.Context) (run.Stop, error) {
		limits := queue.Limits{MaxBytes: 64 << 20, BackOffBase: 10 * time.Millisecond, BackOffMost: 50 * time.Millisecond}
		s.client, err = queue.Connect(queue.Config{InProcess: node, User: "client", Password: "secret", Name: "test", Limits: limits, Logger: logger})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { s.client.Close(); return nil }, nil
	})
	if s.client == nil {
		t.Fatal(s.group.Stop())
	}
	book, err := quarantine.New(quarantine.DefaultConfig(), nil, prometheus.NewRegistry(), logger) // by itself: it does not run
	if err != nil {
		t.Fatal(err)
	}
	work := workOnQueue(taking, s.group, s.client, s.slots, guarded(book, s.slots.RunUntil), nil)
	ended := false
	s.end = func(ctx context.Context) error {
		ended = true
		return work(ctx)
	}
	t.Cleanup(func() {
		if !ended {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = s.end(ctx) // the test has failed, and says why
		}
		if err := s.group.Stop(); err != nil {
			t.Error(err)
		}
	})
	within(t, "the queue is ready", func() bool { return s.client.Ready() == nil })
	return s
}

// accept queues a call.
func (s *shop) accept(t *testing.T, query string) lightcone.CallID {
	t.Helper()
	s.queued++
	id, err := lightcone.NewCallID(time.Now(), numbered(s.queued))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client.Accept(t.Context(), &functions.Queued{
		Call:    functions.Call{ID: id, Function: slow, Tenant: "demo", Query: []byte(query), Body: []byte(strconv.Itoa(s.queued))},
		Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// numbered is randomness that is different for each number.
type numbered byte

func (n numbered) Read(p []byte) (int, error) {
	clear(p)
	p[len(p)-1] = byte(n)
	return len(p), nil
}

// becomes waits until the call is in a state.
func (s *shop) becomes(t *testing.T, id lightcone.CallID, want lightcone.InvocationStatus) lightcone.Invocation {
	t.Helper()
	var found lightcone.Invocation
	within(t, "the call is "+string(want), func() bool {
		var err error
		found, err = s.client.Find(t.Context(), "demo", id)
		return err == nil && found.Status == want
	})
	return found
}

func TestQueuedCallsRunInIdleSlots(t *testing.T) {
	s := openShop(t, 2)
	var ids []lightcone.CallID
	for range 5 {
		ids = append(ids, s.accept(t, "for=1ms"))
	}
	for i, id := range ids {
		s.becomes(t, id, lightcone.InvocationSucceeded)
		if result, err := s.client.Result(t.Context(), "demo", id); err != nil || string(result.Body) != strconv.Itoa(i+1) || result.CPU <= 0 {
			t.Errorf("call %d came to %+v with %q, %v", i+1, result, result.Body, err)
		}
	}
	// A running call is cancelled: its slot is killed, and that is no crash.
	long := s.accept(t, "for=1h")
	s.becomes(t, long, lightcone.InvocationRunning)
	within(t, "it holds a slot", func() bool { return s.slots.Held(slow) == 1 })
	if s.slots.Room(slow) {
		t.Error("a queued call may take the slot that is in reserve")
	}
	if _, err := s.client.Cancel(t.Context(), "demo", long); err != nil {
		t.Fatal(err)
	}
	within(t, "its slot is free", func() bool { return s.slots.Held(slow) == 0 })
	if got := s.becomes(t, long, lightcone.InvocationCancelled); got.Attempts != 1 {
		t.Errorf("the cancelled call: %+v", got)
	}
	if status := s.slots.Status()[0]; status.Crashes != 0 {
		t.Errorf("a cancel counts as a crash: %+v", status)
	}
	// What crashes on its input costs two slots, and no more.
	poison := s.accept(t, "die")
	if got := s.becomes(t, poison, lightcone.InvocationFailed); got.Attempts != 2 || s.slots.Status()[0].Crashes != 2 {
		t.Errorf("the poisonous call: %+v; slots: %+v", got, s.slots.Status()[0])
	}
	s.becomes(t, s.accept(t, "for=1ms"), lightcone.InvocationSucceeded)
	if err := s.end(t.Context()); err != nil {
		t.Error(err)
	}
}

// A worker that is told to stop takes no more, and lets what runs finish.
func TestAStoppingWorkerFinishesItsQueuedCalls(t *testing.T) {
	s := openShop(t, 1)
	running := s.accept(t, "for=500ms")
	s.becomes(t, running, lightcone.InvocationRunning)
	within(t, "it holds the slot", func() bool { return s.slots.Held(slow) == 1 })
	waiting := s.accept(t, "for=1ms")
	s.signal()
	s.becomes(t, running, lightcone.InvocationSucceeded)
	within(t, "its slot is free", func() bool { return s.slots.Held(slow) == 0 })
	if found, err := s.client.Find(t.Context(), "demo", waiting); err != nil || found.Status != lightcone.InvocationQueued {
		t.Errorf("the call that waits: %+v, %v", found, err)
	}
	if err := s.end(t.Context()); err != nil {
		t.Error(err)
	}
}

// What does not finish in time is killed, is lost with its worker, and runs again.
func TestAQueuedCallThatOutlivesTheStopRunsAgain(t *testing.T) {
	s := openShop(t, 1)
	id := s.accept(t, "for=1h")
	within(t, "it holds the slot", func() bool { return s.slots.Held(slow) == 1 })
	brief, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.end(brief); err == nil || !strings.Contains(err.Error(), "1 queued calls were still running and were killed") {
		t.Errorf("the stop said %v", err)
	}
	if held := s.slots.Held(slow); held != 0 {
		t.Errorf("%d slots are still held", held)
	}
	found, err := s.client.Find(t.Context(), "demo", id)
	if err != nil || found.Status != lightcone.InvocationQueued || !strings.Contains(found.Error, "was stopped before the call ended") {
		t.Errorf("the killed call: %+v, %v", found, err)
	}
	again := workOnQueue(t.Context(), s.group, s.client, s.slots, s.slots.RunUntil, nil)
	within(t, "it holds the slot again", func() bool { return s.slots.Held(slow) == 1 })
	if _, err := s.client.Cancel(t.Context(), "demo", id); err != nil {
		t.Error(err)
	}
	if got := s.becomes(t, id, lightcone.InvocationCancelled); got.Attempts != 2 {
		t.Errorf("the call that ran twice: %+v", got)
	}
	if err := again(t.Context()); err != nil {
		t.Error(err)
	}
}
