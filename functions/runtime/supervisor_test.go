package runtime

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

func TestACallCarriesTheContract(t *testing.T) {
	s := start(t, 1, specForTest())
	answer, err := call(s, "do=echo", "some input", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if string(answer.Body) != "some input" || answer.Status != 200 || answer.ContentType != "text/x-test" || answer.Vary != "Accept" {
		t.Errorf("echo answered %+v with body %q", answer, answer.Body)
	}
	answer, err = call(s, "do=deadline", "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(answer.Body))
	deadline, timeErr := time.Parse(time.RFC3339Nano, fields[1])
	if fields[0] != "true" || timeErr != nil || time.Until(deadline) < 50*time.Second || len(fields[2]) != 26 || fields[3] != "00-trace" {
		t.Errorf("the function saw %q", answer.Body)
	}
}

func TestAFunctionRefusesInItsOwnWords(t *testing.T) {
	s := start(t, 1, specForTest())
	answer, err := call(s, "do=refuse", "", time.Second)
	if err != nil || answer.Problem != problem.CorruptInput || string(answer.Body) != "It is broken at byte 7." {
		t.Errorf("got %+v %q, %v", answer, answer.Body, err)
	}
	answer, err = call(s, "do=fail", "", time.Second)
	if err != nil || answer.Problem != problem.FunctionFailed || strings.Contains(string(answer.Body), "secret") {
		t.Errorf("an inner failure reached the caller as %+v %q, %v", answer, answer.Body, err)
	}
}

func TestCPUIsMeteredOutsideTheFunction(t *testing.T) {
	s := start(t, 1, specForTest())
	answer, err := call(s, "do=burn&for=200ms", "", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	// Other work on the machine can only make it less than the wall time.
	if answer.CPU < 20*time.Millisecond || answer.CPU > 2*answer.Exec || answer.Exec < 200*time.Millisecond {
		t.Errorf("200 ms of spinning were metered as CPU %v, exec %v", answer.CPU, answer.Exec)
	}
	idle, err := call(s, "do=echo", "", time.Second)
	if err != nil || idle.CPU <= 0 || idle.CPU > 50*time.Millisecond {
		t.Errorf("an empty echo was metered as CPU %v (%v)", idle.CPU, err)
	}
}

// Every row is a way to go wrong. The caller is told its kind, a neighbouring
// call in flight succeeds, and the pool is whole again afterwards.
func TestWhatOneCallDoesCostsOnlyThatCall(t *testing.T) {
	s := start(t, 2, specForTest())
	for _, test := range []struct {
		do   string
		want problem.Kind
	}{
		{"exit", problem.FunctionCrashed},
		{"panic-elsewhere", problem.FunctionCrashed},
		{"segv", problem.FunctionCrashed},
		{"sleep", problem.DeadlineExceeded},
		{"eat", problem.OutOfMemory},
		{"garbage", problem.FunctionFailed},
		{"control", problem.FunctionFailed},
		{"twice", problem.FunctionFailed},
		{"huge", problem.FunctionFailed},
	} {
		t.Run(test.do, func(t *testing.T) {
			alongside(t, s, func() {
				within := 15 * time.Second // to die of its own doing, on a busy machine too
				if test.want == problem.DeadlineExceeded {
					within = 300 * time.Millisecond
				}
				answer, err := call(s, "do="+test.do, "poison", within)
				if err == nil {
					t.Fatalf("it was answered: %d %q", answer.Status, answer.Body)
				}
				if got := problem.Of(err); got.Kind != test.want {
					t.Errorf("the caller is told %v", err)
				}
				if (test.do == "eat" || test.do == "sleep") && answer.CPU <= 0 {
					t.Errorf("what it used until it was stopped was not metered: %v", answer.CPU)
				}
			})
			eventually(t, "the pool is whole again", func() bool { return allWarm(s) })
		})
	}
}

func TestAFullPoolRefusesAtOnce(t *testing.T) {
	s := start(t, 1, specForTest())
	alongside(t, s, func() {
		eventually(t, "the slot is taken", func() bool { return len(s.pools[testFunction].places) == 1 })
		_, err := call(s, "do=echo", "", time.Minute)
		if got := problem.Of(err); got.Kind != problem.Overloaded {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheSpareIsWarm(t *testing.T) {
	s := start(t, 1, specForTest())
	for range 5 {
		eventually(t, "slot and spare are warm", func() bool { return allWarm(s) })
		if _, err := call(s, "do=exit", "", time.Second); err == nil {
			t.Fatal("exit was answered")
		}
		if _, alive := s.pools[testFunction].ready(); alive == 0 {
			t.Fatal("no process was left after a crash")
		}
		// No restart can have happened yet: a start takes milliseconds, this nothing.
		if answer, err := call(s, "do=echo", "next", time.Second); err != nil || string(answer.Body) != "next" {
			t.Fatalf("the next call: %q, %v", answer.Body, err)
		}
	}
}

func TestProcessesAreRecycled(t *testing.T) {
	t.Run("after a number of calls", func(t *testing.T) {
		spec := specForTest()
		spec.RecycleAfterCalls = 3
		s := start(t, 1, spec)
		served := make(map[string]int)
		for range 12 {
			answer, err := call(s, "do=pid", "", 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			served[string(answer.Body)]++
		}
		for pid, count := range served {
			if count > 3 {
				t.Errorf("process %s served %d calls", pid, count)
			}
		}
	})
	t.Run("above a memory mark", func(t *testing.T) {
		spec := specForTest()
		spec.RecycleAboveBytes, spec.MemoryBytes = 100<<20, 1<<30
		s := start(t, 1, spec)
		first := s.Status()[0].PIDs
		for range 8 {
			answer, err := call(s, "do=grow", "", 5*time.Second)
			if err != nil {
				t.Fatalf("growing slowly cost a call: %v", err)
			}
			if len(answer.Body) > 1 || answer.Body[0] > '4' {
				t.Fatalf("a process kept %s pieces of 40 MiB", answer.Body)
			}
			time.Sleep(2 * watchInterval) // the mark is looked at once per interval: this is its clock
		}
		if s.Status()[0].Crashes != 0 || fmt.Sprint(s.Status()[0].PIDs) == fmt.Sprint(first) {
			t.Errorf("after growing: %+v, at first %v", s.Status()[0], first)
		}
	})
}

func TestAFunctionMayListenOnAPort(t *testing.T) {
	spec := specForTest()
	spec.UsePort = true
	s := start(t, 1, spec)
	for i := range 20 {
		want := fmt.Sprint("call ", i)
		if answer, err := call(s, "do=echo", want, time.Second); err != nil || string(answer.Body) != want {
			t.Fatalf("got %q, %v", answer.Body, err)
		}
	}
	if answer, err := call(s, "do=connect&to=192.0.2.1:80", "", 2*time.Second); err != nil || !strings.Contains(string(answer.Body), "not permitted") {
		t.Errorf("connecting outside: %q, %v", answer.Body, err)
	}
}

func TestFunctionsWithExecutablesOfOneNameStayApart(t *testing.T) {
	first, second := specForTest(), specForTest()
	second.Name = "second"
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	second.Command = []string{filepath.Join(folder, filepath.Base(first.Command[0]))}
	if err := os.WriteFile(second.Command[0], []byte("#!/bin/sh\necho I am the second >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lc-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Chmod(dir, 0o755)
	s, err := Start(configForTest(dir+"/run", 1, first, second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the first is warm", func() bool { return s.Status()[0].Idle == 2 })
	if status := s.Status()[1]; status.Processes != 0 {
		t.Errorf("the second runs the first's code: %+v", status)
	}
}

func TestABuildThatDoesNotStartIsSaidAndRetried(t *testing.T) {
	spec := specForTest()
	spec.Env = []string{envBehave + "=die"}
	good := specForTest()
	good.Name = "good"
	dir, err := os.MkdirTemp("", "lc-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Chmod(dir, 0o755)
	config, registry, said := configForTest(dir+"/run", 1, spec, good), prometheus.NewRegistry(), new(testbed.Log)
	config.Metrics, config.Logger = registry, slog.New(slog.NewTextHandler(said, nil))
	began := time.Now()
	s, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the good function is warm beside it", func() bool { return s.Status()[1].Idle == 2 })
	if err := s.Ready(); err != nil || s.Status()[0].Processes != 0 {
		t.Errorf("Ready says %v, the status of the bad build is %+v", err, s.Status()[0])
	}
	_, err = call(s, "do=echo", "", 50*time.Millisecond)
	if got := problem.Of(err); got.Kind != problem.DeadlineExceeded {
		t.Errorf("a call to it: %v", err)
	}
	eventually(t, "it has been tried some times", func() bool { return failedStarts(t, registry) >= 6 })
	lines, atMost := strings.Count(said.String(), "no library today"), 1+int(time.Since(began)/sameComplaintEvery)
	if lines < 1 || lines > atMost {
		t.Errorf("why it does not start is logged %d times, want it at least once and at most %d times: %s", lines, atMost, said)
	}
}

// failedStarts is that counter of the one function that has failed to start.
func failedStarts(t *testing.T, registry *prometheus.Registry) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "lightcone_function_failed_starts_total" {
			return int(family.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return 0
}

func TestManyCallsAtOnce(t *testing.T) {
	s := start(t, 3, specForTest())
	var group sync.WaitGroup
	for worker := range 3 {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range 200 {
				want := fmt.Sprint(worker, " ", i)
				if i%50 == 49 {
					if _, err := call(s, "do=exit", "", 5*time.Second); problem.Of(err).Kind != problem.FunctionCrashed {
						t.Errorf("exit: %v", err)
					}
					continue
				}
				if answer, err := call(s, "do=echo", want, 5*time.Second); err != nil || string(answer.Body) != want {
					t.Errorf("call %s: %q, %v", want, answer.Body, err)
				}
			}
		}()
	}
	group.Wait()
	eventually(t, "the pool is whole", func() bool { return allWarm(s) })
}

func TestAConfigurationIsCheckedBeforeAnythingStarts(t *testing.T) {
	bad := specForTest()
	bad.Command = []string{"relative"}
	for _, test := range []struct {
		config Config
		want   string
	}{
		{configForTest("/tmp/x", 1), "no function"},
		{configForTest("/tmp/x", 0, specForTest()), "slots"},
		{configForTest("/tmp/"+strings.Repeat("x", 80), 1, specForTest()), "at most 80 bytes"},
		{configForTest("/tmp/x", 1, bad), "absolute path"},
		{configForTest("/tmp/x", 1, specForTest(), specForTest()), "twice"},
	} {
		if _, err := Start(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
	missing := specForTest()
	missing.Command = []string{"/nowhere/function"}
	dir := t.TempDir()
	if _, err := Start(configForTest(dir, 1, missing)); err == nil || !strings.Contains(err.Error(), "/nowhere/function") {
		t.Errorf("a missing executable: %v", err)
	}
}
