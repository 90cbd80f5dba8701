package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// queuedCall is a call of the test's function, as a queue would give it.
func queuedCall(query string, within time.Duration) *functions.Call {
	return &functions.Call{Function: testFunction, Tenant: "demo", Deadline: time.Now().Add(within), Query: []byte(query)}
}

// callAgain runs a queued call that must succeed, once there is room for it.
func callAgain(t *testing.T, s *Supervisor) {
	t.Helper()
	eventually(t, "there is room for a queued call", func() bool { return s.Room(testFunction) })
	call := queuedCall("do=echo", 20*time.Second)
	call.Body = []byte("next")
	var answer functions.Answer
	if err := s.RunUntil(t.Context(), call, &answer); err != nil || string(answer.Body) != "next" {
		t.Errorf("the next call on the slot: %q, %v", answer.Body, err)
	}
}

func wantKind(t *testing.T, err error, want problem.Kind) {
	t.Helper()
	if err == nil || problem.Of(err).Kind != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestACancelledCallCostsItsProcessAndIsNoCrash(t *testing.T) {
	s := start(t, 1, specForTest())
	for _, test := range []struct {
		query string
		used  time.Duration // at least, when the machine gives it that in time
	}{{"do=sleep", 0}, {"do=burn&for=1h", time.Nanosecond}} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var answer functions.Answer
		ended := make(chan error, 1)
		before := s.Status()[0].Idle
		go func() { ended <- s.RunUntil(ctx, queuedCall(test.query, time.Hour), &answer) }()
		eventually(t, "the function runs it", func() bool { return s.Held(testFunction) == 1 && s.Status()[0].Idle == before-1 })
		if test.used > 0 {
			eventually(t, "it has used some CPU", func() bool {
				for _, pid := range s.Status()[0].PIDs {
					if used, err := clockOf(pid).read(); err == nil && used > 300*time.Millisecond {
						return true
					}
				}
				return false
			})
		}
		cancel()
		wantKind(t, <-ended, problem.Cancelled)
		if answer.CPU < test.used || answer.Exec <= 0 {
			t.Errorf("%s until it was cancelled: CPU %v, exec %v", test.query, answer.CPU, answer.Exec)
		}
		if status := s.Status()[0]; status.Crashes != 0 || status.Queued != 0 {
			t.Errorf("after a cancelled call: %+v", status)
		}
		callAgain(t, s)
		eventually(t, "the pool is whole again", func() bool { return allWarm(s) })
	}
}

func TestWhatEndedBeforeTheStartRunsNothing(t *testing.T) {
	s := start(t, 1, specForTest())
	pids := s.Status()[0].PIDs
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	answer := functions.Answer{CPU: 1, Exec: 1}
	wantKind(t, s.RunUntil(ctx, queuedCall("do=exit", time.Second), &answer), problem.Cancelled)
	if answer.CPU != 0 || answer.Exec != 0 {
		t.Errorf("nothing was run, and it cost CPU %v, exec %v", answer.CPU, answer.Exec)
	}
	call := queuedCall("do=echo", time.Second)
	call.Function = "nowhere"
	wantKind(t, s.RunUntil(t.Context(), call, &answer), problem.NotFound)
	if s.Room("nowhere") || s.Held("nowhere") != 0 {
		t.Error("there is room for a function that is not here")
	}
	if !allWarm(s) || len(s.Status()[0].PIDs) != len(pids) {
		t.Errorf("a process was used: %+v", s.Status()[0])
	}
}

// Whichever comes first counts: the function's own end, the deadline, the cancel.
func TestTheFirstEndCounts(t *testing.T) {
	s := start(t, 1, specForTest())
	for _, test := range []struct {
		query   string
		within  time.Duration
		want    problem.Kind
		crashes int64
	}{
		{"do=exit", 20 * time.Second, problem.FunctionCrashed, 1},
		{"do=sleep", 100 * time.Millisecond, problem.DeadlineExceeded, 1},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var answer functions.Answer
		err := s.RunUntil(ctx, queuedCall(test.query, test.within), &answer)
		cancel()
		wantKind(t, err, test.want)
		if got := s.Status()[0].Crashes; got != test.crashes {
			t.Errorf("%s: %d crashes, want %d", test.query, got, test.crashes)
		}
		callAgain(t, s)
	}
}

// A deadline that has passed is not overtaken by a cancel in its grace.
func TestACancelAfterTheDeadlineKillsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var p process // there is nothing to kill
	letGo := p.dropWith(ctx, time.Now())
	cancel()
	if !letGo() || p.dropped.Load() {
		t.Error("a cancel came after the deadline, and counts")
	}
}

// A cancel at any moment, also in that of the answer: the caller has the one or the
// other, and no process that was killed serves anybody.
func TestACancelAtAnyMoment(t *testing.T) {
	s := start(t, 1, specForTest())
	answered := 0
	for i := range 40 {
		eventually(t, "there is room for a queued call", func() bool { return s.Room(testFunction) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
		call := queuedCall("do=echo", 20*time.Second)
		call.Body = []byte("mine")
		var answer functions.Answer
		switch err := s.RunUntil(ctx, call, &answer); {
		case err == nil && string(answer.Body) == "mine":
			answered++
		case err == nil || problem.Of(err).Kind != problem.Cancelled:
			t.Errorf("cancelled after %v: %q, %v", time.Duration(i)*50*time.Microsecond, answer.Body, err)
		}
		cancel()
		callAgain(t, s)
	}
	t.Logf("%d of 40 were faster than their cancel", answered)
	if status := s.Status()[0]; status.Crashes != 0 {
		t.Errorf("%d cancels count as crashes", status.Crashes)
	}
}

// A call that waits for a process to start is cancelled there.
func TestACallThatWaitsForAProcessIsCancelled(t *testing.T) {
	spec := specForTest()
	spec.Env = []string{envBehave + "=die"}
	dir, err := os.MkdirTemp("", "lc-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Chmod(dir, 0o755)
	s, err := Start(configForTest(filepath.Join(dir, "run"), 1, spec))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if s.Room(testFunction) {
		t.Error("there is room where no process lives")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	wantKind(t, s.RunUntil(ctx, queuedCall("do=echo", time.Hour), new(functions.Answer)), problem.Cancelled)
}

// Four slots, of which one is the reserve: three queued calls run, and a caller who
// waits finds the fourth. A refusal of such a caller holds queued calls back.
func TestQueuedCallsLeaveTheReserve(t *testing.T) {
	s := start(t, 4, specForTest())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for range 3 {
		go func() { ended <- s.RunUntil(ctx, queuedCall("do=sleep", time.Hour), new(functions.Answer)) }()
	}
	eventually(t, "three queued calls run", func() bool { return s.Held(testFunction) == 3 })
	if s.Room(testFunction) {
		t.Error("there is room in the reserve")
	}
	err := s.RunUntil(ctx, queuedCall("do=echo", time.Minute), new(functions.Answer))
	wantKind(t, err, problem.Overloaded)
	if !strings.Contains(err.Error(), "was not run") {
		t.Errorf("the refusal does not say that nothing was run: %v", err)
	}
	alongside(t, s, func() {
		eventually(t, "every slot is taken", func() bool { return len(s.pools[testFunction].places) == 4 })
		_, err := call(s, "do=echo", "", time.Minute)
		wantKind(t, err, problem.Overloaded)
	})
	cancel()
	for range 3 {
		if err := <-ended; problem.Of(err).Kind != problem.Cancelled {
			t.Errorf("cancelled calls: %v", errors.Unwrap(err))
		}
	}
	if s.pools[testFunction].queued.lastRefusal().IsZero() {
		t.Error("the refusal is not known to queued calls")
	}
	callAgain(t, s)
}
