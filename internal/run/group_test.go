package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal records what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// component starts and stops at once, and says so in the journal.
func (j *journal) component(name string) func(context.Context) (Stop, error) {
	return func(context.Context) (Stop, error) {
		j.add("start %s", name)
		return func(context.Context) error {
			j.add("stop %s", name)
			return nil
		}, nil
	}
}

func quiet() *Group { return New(slog.New(slog.DiscardHandler)) }

func TestStopsInReverseOrderOfStarting(t *testing.T) {
	var j journal
	group := quiet()
	for _, name := range []string{"a", "b", "c"} {
		if err := group.Start(t.Context(), name, j.component(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := group.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := group.Stop(); err != nil {
		t.Fatalf("a second Stop: %v", err)
	}
	want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}
	if diff := cmp.Diff(want, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestStopOfAnEmptyGroup(t *testing.T) {
	group := quiet()
	if err := group.Stop(); err != nil {
		t.Fatal(err)
	}
	err := group.Start(t.Context(), "late", func(context.Context) (Stop, error) {
		t.Error("a component started in a group that had ended")
		return nil, nil
	})
	if !errors.Is(err, ErrEnded) {
		t.Errorf("Start after Stop = %v, want ErrEnded", err)
	}
}

func TestFailureWhileStartingStopsWhatWasStarted(t *testing.T) {
	var j journal
	group := quiet()
	broken := errors.New("port 8080 is taken")
	_ = group.Start(t.Context(), "a", j.component("a"))
	_ = group.Start(t.Context(), "nothing to stop", func(context.Context) (Stop, error) { return nil, nil })
	err := group.Start(t.Context(), "b", func(context.Context) (Stop, error) { return nil, broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "b: start: port 8080 is taken") {
		t.Errorf("Start = %v, want the component's name and its error", err)
	}
	if diff := cmp.Diff([]string{"start a", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
	if err := group.Start(t.Context(), "c", j.component("c")); !errors.Is(err, ErrEnded) {
		t.Errorf("Start after a failure = %v, want ErrEnded", err)
	}
	if err := group.Wait(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Wait = %v, want the start's error", err)
	}
}

func TestAStartThatItsContextInterruptsIsNoFailure(t *testing.T) {
	group := quiet()
	ctx, cancel := context.WithCancel(t.Context())
	err := group.Start(ctx, "slow", func(ctx context.Context) (Stop, error) {
		cancel()
		return nil, ctx.Err()
	})
	if !errors.Is(err, ErrEnded) {
		t.Errorf("Start = %v, want ErrEnded", err)
	}
	if err := group.Start(ctx, "next", func(context.Context) (Stop, error) { return nil, nil }); !errors.Is(err, ErrEnded) {
		t.Errorf("the next Start = %v, want ErrEnded", err)
	}
	if err := group.Wait(ctx); err != nil {
		t.Errorf("Wait = %v, want nil", err)
	}
}

func TestAStartThatFailsHalfWayIsStoppedToo(t *testing.T) {
	var j journal
	group := quiet()
	notReady := errors.New("not ready in time")
	err := group.Start(t.Context(), "supervisor", func(ctx context.Context) (Stop, error) {
		stop, _ := j.component("supervisor")(ctx)
		return stop, notReady
	})
	if !errors.Is(err, notReady) {
		t.Errorf("Start = %v, want its error", err)
	}
	if diff := cmp.Diff([]string{"start supervisor", "stop supervisor"}, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestARunningComponentsFailureEndsTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		group := quiet()
		lost := errors.New("listener lost")
		_ = group.Start(t.Context(), "a", j.component("a"))
		_ = group.Start(t.Context(), "b", j.component("b"))
		time.AfterFunc(time.Minute, func() { group.Fail("a", lost) })
		began := time.Now()
		err := group.Wait(t.Context())
		if !errors.Is(err, lost) || !strings.Contains(err.Error(), "a: listener lost") {
			t.Errorf("Wait = %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("Wait returned after %v, want right at the failure", took)
		}
		want := []string{"start a", "start b", "stop b", "stop a"}
		if diff := cmp.Diff(want, j.read()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTheEndOfTheContextIsNoError(t *testing.T) {
	var j journal
	group := quiet()
	ctx, cancel := context.WithCancel(t.Context())
	_ = group.Start(ctx, "a", j.component("a"))
	cancel()
	if err := group.Wait(ctx); err != nil {
		t.Errorf("Wait = %v, want nil", err)
	}
	if diff := cmp.Diff([]string{"start a", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryErrorIsKept(t *testing.T) {
	group := quiet()
	first, second := errors.New("flush failed"), errors.New("close failed")
	failing := func(err error) func(context.Context) (Stop, error) {
		return func(context.Context) (Stop, error) {
			return func(context.Context) error { return err }, nil
		}
	}
	_ = group.Start(t.Context(), "usage", failing(first))
	_ = group.Start(t.Context(), "gateway", failing(second))
	want := "gateway: stop: close failed\nusage: stop: flush failed"
	if err := group.Stop(); err == nil || err.Error() != want {
		t.Errorf("Stop = %q, want %q", err, want)
	}
}

func TestStuckStopIsNamedAndDoesNotBlockTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		group := quiet()
		group.StopBound = 10 * time.Second
		release := make(chan struct{})
		_ = group.Start(t.Context(), "a", j.component("a"))
		_ = group.Start(t.Context(), "stuck", func(context.Context) (Stop, error) {
			return func(context.Context) error { <-release; return nil }, nil
		})
		_ = group.Start(t.Context(), "heeding", func(context.Context) (Stop, error) {
			return func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("two calls were cut short")
			}, nil
		})
		began := time.Now()
		err := group.Stop()
		want := "heeding: stop: two calls were cut short\nstuck: stop: did not return within 10s"
		if err == nil || err.Error() != want {
			t.Errorf("Stop = %q, want %q", err, want)
		}
		if took := time.Since(began); took != 21*time.Second {
			t.Errorf("Stop took %v, want the bound for one and the bound and a tenth for the other", took)
		}
		if diff := cmp.Diff([]string{"start a", "stop a"}, j.read()); diff != "" {
			t.Error(diff)
		}
		close(release)
	})
}

func TestStopInterruptsAStartUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := quiet()
		started := make(chan error)
		go func() {
			started <- group.Start(t.Context(), "slow", func(ctx context.Context) (Stop, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}()
		synctest.Wait()
		if err := group.Stop(); err != nil {
			t.Errorf("Stop = %v; a start that was told to end has not failed", err)
		}
		if err := <-started; !errors.Is(err, ErrEnded) {
			t.Errorf("Start = %v, want ErrEnded", err)
		}
	})
}

func TestAStartThatComesUpTooLateIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		group := quiet()
		started := make(chan error)
		go func() {
			started <- group.Start(t.Context(), "deaf", func(context.Context) (Stop, error) {
				time.Sleep(time.Minute)
				return func(context.Context) error { j.add("stop deaf"); return nil }, nil
			})
		}()
		synctest.Wait()
		err := group.Stop()
		want := "deaf: start: did not return within 10s of being told to end"
		if err == nil || err.Error() != want {
			t.Errorf("Stop = %q, want %q", err, want)
		}
		if err := <-started; !errors.Is(err, ErrEnded) {
			t.Errorf("Start = %v, want ErrEnded", err)
		}
		if diff := cmp.Diff([]string{"stop deaf"}, j.read()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWhatStartsIsStoppedOnce races starts, failures and stops: each component
// that came up must go down exactly once.
func TestWhatStartsIsStoppedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		starters := rapid.IntRange(1, 6).Draw(t, "starters")
		stoppers := rapid.IntRange(1, 3).Draw(t, "stoppers")
		failing := rapid.SliceOfN(rapid.Bool(), starters, starters).Draw(t, "failing")
		group := quiet()
		var up, down atomic.Int64
		var everybody sync.WaitGroup
		for i := range starters {
			everybody.Go(func() {
				_ = group.Start(context.Background(), fmt.Sprint(i), func(context.Context) (Stop, error) {
					if failing[i] {
						return nil, errors.New("broken")
					}
					up.Add(1)
					return func(context.Context) error { down.Add(1); return nil }, nil
				})
			})
		}
		for range stoppers {
			everybody.Go(func() { _ = group.Stop() })
		}
		everybody.Wait()
		if up.Load() != down.Load() {
			t.Fatalf("%d components came up, %d stops ran", up.Load(), down.Load())
		}
	})
}
