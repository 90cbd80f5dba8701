package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// TestCallsRunInOrderAndWithinSlots holds the slots, queues calls one after the
// other, and lets them go.
func TestCallsRunInOrderAndWithinSlots(t *testing.T) {
	for _, slots := range []int{1, 2} {
		t.Run(fmt.Sprint(slots, " slots"), func(t *testing.T) {
			var mu sync.Mutex
			var running, most int
			var order, want []string
			gate := make(chan struct{})
			s := serve(t, slots, func(call *functions.Call, answer *functions.Answer) error {
				mu.Lock()
				running++
				most = max(most, running)
				order = append(order, string(call.Query))
				mu.Unlock()
				<-gate
				mu.Lock()
				running--
				mu.Unlock()
				return echo(call, answer)
			}, func(c *Config) { c.MaxWait = time.Minute })
			lane := (*s.lanes.Load())["echo"]
			var calls sync.WaitGroup
			for i := range 12 {
				query := fmt.Sprintf("%02d", i)
				want = append(want, query)
				calls.Go(func() {
					if got, err := s.send("POST", "/function/echo?"+query, nil); err != nil || got.status != 200 {
						t.Errorf("call %s: %v, %v", query, got, err)
					}
				})
				eventually(t, "the call runs or waits", func() bool { now := lane.report(); return now.Running+now.Waiting == i+1 })
			}
			for range 12 {
				gate <- struct{}{}
			}
			calls.Wait()
			if most != slots {
				t.Errorf("up to %d calls ran at once on %d slots", most, slots)
			}
			if slots > 1 {
				slices.Sort(order) // calls that hold slots together report in any order
			}
			if diff := cmp.Diff(want, order); diff != "" {
				t.Errorf("order of starts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQueueBoundsAndDeadlines(t *testing.T) {
	gate := make(chan struct{})
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		<-gate
		return echo(call, answer)
	}, func(c *Config) {
		c.MaxWait, c.MaxWaitingCalls, c.InitialService = 40*time.Millisecond, 1, time.Millisecond
	})
	lane := (*s.lanes.Load())["echo"]
	var calls sync.WaitGroup
	answered := make(chan *reply, 2)
	for i := range 2 {
		calls.Go(func() {
			got, err := s.send("POST", "/function/echo", strings.NewReader("held"))
			if err != nil {
				t.Error(err)
			}
			answered <- got
		})
		eventually(t, "the call runs or waits", func() bool { now := lane.report(); return now.Running+now.Waiting == i+1 })
	}
	started := time.Now()
	full := s.post(t, strings.NewReader("one too many"))
	if full.status != 503 || full.header.Get("Retry-After") == "" || full.header.Get("X-Lightcone-Error") != "platform" {
		t.Errorf("over the bound: %d %s", full.status, full.body)
	}
	checkDocument(t, full, problem.Overloaded)
	if took := time.Since(started); took > 50*time.Millisecond {
		t.Errorf("refusing took %v", took)
	}
	// The one that waits is taken out after one and a half times MaxWait.
	evicted := <-answered
	if evicted.status != 503 {
		t.Errorf("the waiting call: %d %s", evicted.status, evicted.body)
	}
	checkDocument(t, evicted, problem.Overloaded)
	late := s.post(t, nil, "X-Timeout", "20ms")
	if late.status != 504 || !strings.Contains(late.body, "queue") {
		t.Errorf("past its deadline in the queue: %d %s", late.status, late.body)
	}
	checkDocument(t, late, problem.DeadlineExceeded)
	close(gate)
	if got := <-answered; got.status != 200 {
		t.Errorf("the running call: %d", got.status)
	}
	calls.Wait()
}

// TestWorkerWithoutRoom has a worker with fewer slots than it says: the calls it
// turns away come back, and each is answered.
func TestWorkerWithoutRoom(t *testing.T) {
	var running, refused atomic.Int64
	s := serve(t, 4, func(call *functions.Call, answer *functions.Answer) error {
		defer running.Add(-1)
		if running.Add(1) > 1 {
			refused.Add(1)
			return problem.New(problem.Overloaded, "All slots are taken.")
		}
		time.Sleep(time.Millisecond) // the service time
		return echo(call, answer)
	}, func(c *Config) { c.MaxWait = time.Minute })
	var calls sync.WaitGroup
	for i := range 20 {
		calls.Go(func() {
			body := fmt.Sprint("call ", i)
			if got, err := s.send("POST", "/function/echo", strings.NewReader(body)); err != nil || got.status != 200 || got.body != body {
				t.Errorf("%s: %+v, %v", body, got, err)
			}
		})
	}
	calls.Wait()
	if refused.Load() == 0 {
		t.Error("the worker never turned a call away, so this tested nothing")
	}
}

// TestWorkerThatNeverHasRoom turns every call away: each is refused in time.
func TestWorkerThatNeverHasRoom(t *testing.T) {
	var asked atomic.Int64
	s := serve(t, 2, func(*functions.Call, *functions.Answer) error {
		asked.Add(1)
		return problem.New(problem.Overloaded, "All slots are taken.")
	}, func(c *Config) { c.MaxWait = 40 * time.Millisecond })
	if got := s.post(t, nil); got.status != 503 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := s.post(t, nil, "X-Timeout", "30ms"); got.status != 504 {
		t.Errorf("with a short deadline: got %d %s", got.status, got.body)
	}
	if n := asked.Load(); n < 4 || n > 40 {
		t.Errorf("the worker was asked %d times in about 90 ms: want every few milliseconds", n)
	}
}

func TestSlotsFollowTheWorker(t *testing.T) {
	s := serve(t, 0, echo, func(c *Config) { c.MaxWait = time.Minute })
	lane := (*s.lanes.Load())["echo"]
	answered := make(chan *reply, 1)
	go func() {
		got, err := s.send("POST", "/function/echo", strings.NewReader("patient"))
		if err != nil {
			t.Error(err)
		}
		answered <- got
	}()
	eventually(t, "the call waits", func() bool { return lane.report().Waiting == 1 })
	s.worker.offer(echoOffer(1))
	if got := <-answered; got.status != 200 || got.body != "patient" {
		t.Errorf("once there is a slot: %d %q", got.status, got.body)
	}
}

// TestShutdownDropsNoCall stops the gateway with calls running, calls waiting,
// and connections doing nothing.
func TestShutdownDropsNoCall(t *testing.T) {
	gate := make(chan struct{})
	s := serve(t, 3, func(call *functions.Call, answer *functions.Answer) error {
		<-gate
		return echo(call, answer)
	}, func(c *Config) { c.MaxWait, c.IdleTimeout = time.Minute, time.Minute })
	lane := (*s.lanes.Load())["echo"]
	fresh, kept := s.dial(t), s.dial(t)
	kept.say("GET /healthz HTTP/1.1\nHost: a\n\n")
	kept.hear()
	const sent = 50
	var calls sync.WaitGroup
	for i := range sent {
		calls.Go(func() {
			body := strings.Repeat("a", i*1000)
			got, err := s.send("POST", "/function/echo", strings.NewReader(body))
			if err != nil || got.status != 200 || got.body != body {
				t.Errorf("call %d: %v", i, err)
			} else if !got.closes {
				t.Errorf("call %d: its answer does not say that the connection closes", i)
			}
		})
	}
	eventually(t, "all calls run or wait", func() bool { now := lane.report(); return now.Running == 3 && now.Waiting == sent-3 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(t.Context()) }()
	kept.hearEnd() // idle connections close while calls still run
	fresh.hearEnd()
	if err := s.readiness(); !errors.Is(err, errDraining) {
		t.Errorf("readiness during the shutdown: %v", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("the shutdown ended before the calls: %v", err)
	default:
	}
	close(gate)
	calls.Wait()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := s.Serve(nopListener{}); !errors.Is(err, errStopped) {
		t.Errorf("serving after a shutdown: %v", err)
	}
}

func TestDrainDelayServesOn(t *testing.T) {
	s := serve(t, 1, echo, func(c *Config) { c.DrainDelay = 150 * time.Millisecond })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(t.Context()) }()
	eventually(t, "readiness fails while calls are still taken", func() bool {
		got, err := s.send("GET", "/readyz", nil)
		return err == nil && got.status == http.StatusServiceUnavailable && got.closes
	})
	if got := s.post(t, strings.NewReader("late")); got.status != 200 || !got.closes {
		t.Errorf("a call during the delay: %d", got.status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsOffAtItsEnd(t *testing.T) {
	gate := make(chan struct{})
	s := serve(t, 1, func(call *functions.Call, answer *functions.Answer) error {
		<-gate
		return echo(call, answer)
	}, nil)
	client := s.dial(t)
	client.say("POST /function/echo HTTP/1.1\nKEY\n\n")
	eventually(t, "the call runs", func() bool { return (*s.lanes.Load())["echo"].report().Running == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 connections") {
		t.Errorf("got %v", err)
	}
	client.hearEnd()
	close(gate)
}

// TestOverload offers more than the slots can do: every call is either answered
// or told to come back. How quickly is TestQueueUnderOverload's business, in a
// time of its own.
func TestOverload(t *testing.T) {
	s := serve(t, 2, func(call *functions.Call, answer *functions.Answer) error {
		time.Sleep(10 * time.Millisecond) // the service time
		return echo(call, answer)
	}, func(c *Config) { c.MaxWait, c.InitialService = 50*time.Millisecond, 10*time.Millisecond })
	var good, refused atomic.Int64
	var calls sync.WaitGroup
	for range 40 {
		calls.Go(func() {
			for range 5 {
				got, err := s.send("POST", "/function/echo", strings.NewReader("some input"))
				switch {
				case err != nil:
					t.Error(err)
				case got.status == 200 && got.body == "some input":
					good.Add(1)
				case got.status == 503 && got.header.Get("Retry-After") != "":
					refused.Add(1)
				default:
					t.Errorf("got %d %s", got.status, got.body)
				}
			}
		})
	}
	calls.Wait()
	if good.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d answered, %d refused: want some of both", good.Load(), refused.Load())
	}
}
