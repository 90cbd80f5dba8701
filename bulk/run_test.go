package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/internal/problem"
)

func TestAShareIsWorkedThrough(t *testing.T) {
	in, out, f := memory(t), memory(t), newFunction()
	put(t, in, map[string]string{
		"a.jpg": "webp one", "sub/b.jpg": "jpeg two", "sub/": "", "bad.jpg": "bad three", "crash.jpg": "crash four",
		"long.jpg": "webp " + strings.Repeat("x", 1000), ".bulk/other/progress-0.json": "{}", "small/old.webp": "webp five", "line\nbreak.jpg": "webp six",
	})
	config := configForTest(in, out, f)
	config.Except = "small/"
	p, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	outputs, own := contents(t, out)
	if diff := cmp.Diff(map[string]string{"a.webp": "width=300|WEBP ONE", "sub/b.jpg": "width=300|JPEG TWO"}, outputs); diff != "" {
		t.Error(diff)
	}
	failures := failureLines(t, own, "job", 0)
	slices.Sort(failures)
	want := []string{
		`{"key":"bad.jpg","problem":"unsupported-media","detail":"This is no image."}`,
		`{"key":"crash.jpg","problem":"function-crashed","detail":"The function's process died."}`,
		`{"key":"line\nbreak.jpg","problem":"not-found","detail":"The object's name has control characters, or a part that is empty or ends with two dots, or is not UTF-8 text; rename it."}`,
		`{"key":"long.jpg","problem":"too-large","detail":"The object is longer than 1000 bytes, which is the most that the function takes; it was not read."}`,
	}
	if diff := cmp.Diff(want, failures); diff != "" {
		t.Error(diff)
	}
	if p.Total != 6 || p.Done != 2 || p.Failed != 4 || p.Runs != 1 || p.BytesIn != 35 || p.BytesOut != 36 || p.CPU != 4*time.Millisecond || p.Finished.IsZero() {
		t.Errorf("progress %+v", p)
	}
	var written Progress
	if err := json.Unmarshal([]byte(own[".bulk/job/progress-0.json"]), &written); err != nil || written.Done != 2 || written.Finished.IsZero() {
		t.Errorf("it wrote %+v, %v", written, err)
	}
}

// What is finished is not done again; what has changed, or was not the input's
// own fault, is.
func TestAShareCarriesOn(t *testing.T) {
	in, out, f := memory(t), memory(t), newFunction()
	put(t, in, map[string]string{"a.jpg": "webp one", "b.jpg": "webp two", "c.jpg": "webp three", "d.jpg": "bad four", "e.jpg": "crash five", "f.jpg": "webp six"})
	config := configForTest(in, out, f)
	run := func(want map[string]int) Progress {
		t.Helper()
		before := f.ran()
		p, err := Run(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		ran := f.ran()
		for input, n := range before {
			if ran[input] -= n; ran[input] == 0 {
				delete(ran, input)
			}
		}
		if diff := cmp.Diff(want, ran); diff != "" {
			t.Errorf("run %d: %s", p.Runs, diff)
		}
		return p
	}
	run(map[string]int{"webp one": 1, "webp two": 1, "webp three": 1, "bad four": 1, "crash five": 1, "webp six": 1})
	if p := run(map[string]int{"crash five": 1}); p.Skipped != 4 || p.Failed != 2 || p.Done != 0 || p.Runs != 2 || p.CPU != 7*time.Millisecond {
		t.Errorf("progress %+v", p)
	}
	_, own := contents(t, out)
	if lines := failureLines(t, own, "job", 0); len(lines) != 2 {
		t.Errorf("the failures of the second run: %q", lines)
	}
	// An input replaced, an output lost, an output cut short, a name contested.
	put(t, in, map[string]string{"a.jpg": "webp anew", "f.png": "webp seven"})
	if err := out.bucket.Delete(t.Context(), "b.webp"); err != nil {
		t.Fatal(err)
	}
	put(t, out, map[string]string{"c.webp": "WEBP"})
	run(map[string]int{"webp anew": 1, "webp two": 1, "webp three": 1, "crash five": 1, "webp six": 1, "webp seven": 1})
	if outputs, _ := contents(t, out); outputs["a.webp"] != "width=300|WEBP ANEW" || outputs["f.jpg.webp"] == "" || outputs["f.png.webp"] == "" {
		t.Errorf("outputs %q", outputs)
	}
	config.Params = url.Values{"width": {"600"}}
	run(map[string]int{"webp anew": 1, "webp two": 1, "webp three": 1, "bad four": 1, "crash five": 1, "webp six": 1, "webp seven": 1})

	// Cut into shares of another number, it still knows what is finished.
	for config.Shares, config.Share = 3, 0; config.Share < 3; config.Share++ {
		if ShareOf("e.jpg", 3) == config.Share {
			run(map[string]int{"crash five": 1})
		} else {
			run(map[string]int{})
		}
	}
	if all, err := Status(t.Context(), out, "job"); err != nil || all.Of != 3 || all.Complete != 3 || all.Total != 7 || all.Skipped != 5 {
		t.Errorf("status %+v, %v", all, err)
	}
}

func TestThePlatformsFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, f := memory(t), memory(t), newFunction()
		put(t, in, map[string]string{"a.jpg": "webp one"})
		f.fail = func(_ string, run int) error {
			kinds := []problem.Kind{problem.Overloaded, problem.WorkerLost, problem.DeadlineExceeded, problem.Internal}
			if run <= len(kinds) {
				return problem.New(kinds[run-1], "Not now.")
			}
			return nil
		}
		var reads atomic.Int64
		config := configForTest(flaky{in, func(what, _ string) error {
			if what == "read" && reads.Add(1) < 5 {
				return errors.New("connection reset")
			}
			return nil
		}}, out, f)
		config.Retry = DefaultPolicy
		began := time.Now()
		if p, err := Run(t.Context(), config); err != nil || p.Done != 1 || p.GivenUp != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		if waited := time.Since(began); waited == 0 || waited > 30*time.Second {
			t.Errorf("it waited %v between attempts", waited)
		}
	})
}

func TestAShareThatCannotBeFinishedSaysSo(t *testing.T) {
	trouble := errors.New("the disk is on fire")
	inputs := make(map[string]string)
	for i := range 200 {
		inputs[fmt.Sprintf("%03d.jpg", i)] = fmt.Sprintf("webp %d", i)
	}
	isOutput := func(key string) bool { return !strings.HasPrefix(key, ownFolder) }
	for _, test := range []struct {
		name    string
		runner  func(string, int) error
		in, out func(what, key string) error
		want    string
	}{
		{name: "one input cannot be read", in: func(what, key string) error {
			if what == "read" && key == "007.jpg" {
				return trouble
			}
			return nil
		}, want: "1 objects could not be read, run or written, as .bulk/job/failures-0.ndjson says; start it again"},
		{name: "no input can be read", in: func(what, key string) error {
			if what == "read" {
				return trouble
			}
			return nil
		}, want: "ended early: 21 objects could not be read"},
		{name: "no output can be written", out: func(what, key string) error {
			if what == "write" && isOutput(key) {
				return trouble
			}
			return nil
		}, want: "(storage): the disk is on fire"},
		{name: "nothing can be listed", in: func(what, _ string) error {
			if what == "list" {
				return trouble
			}
			return nil
		}, want: "the disk is on fire"},
		{name: "nothing can be recorded", out: func(what, key string) error {
			if what == "write" && !isOutput(key) {
				return trouble
			}
			return nil
		}, want: "could not begin: the disk is on fire"},
		{name: "no worker", runner: func(string, int) error { return problem.New(problem.Overloaded, "Not now.") }, want: "(overloaded): Not now."},
		{name: "no such function", runner: func(string, int) error { return problem.New(problem.NotFound, "There is no such function.") }, want: "There is no such function."},
		{name: "impossible parameters", runner: func(string, int) error { return problem.New(problem.BadParameter, "There is no width.") }, want: `the parameters "width=300" were refused`},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, out, f := memory(t), memory(t), newFunction()
			put(t, in, inputs)
			f.fail = test.runner
			config := configForTest(in, out, f)
			var mu sync.Mutex
			calls := 0
			wrap := func(s Store, before func(what, key string) error) Store {
				return flaky{s, func(what, key string) error {
					mu.Lock()
					defer mu.Unlock()
					calls++
					if before == nil {
						return nil
					}
					return before(what, key)
				}}
			}
			config.In, config.Out = wrap(in, test.in), wrap(out, test.out)
			p, err := Run(t.Context(), config)
			if err == nil || !strings.Contains(err.Error(), test.want) || !p.Finished.IsZero() {
				t.Errorf("%v, not %q; progress %+v", err, test.want, p)
			}
			if calls > 3000 {
				t.Errorf("the storage was called %d times", calls)
			}
			// In better times the same share can be finished.
			config.In, config.Out, f.fail = in, out, nil
			if p, err := Run(t.Context(), config); err != nil || p.Done+p.Skipped != 200 || p.Finished.IsZero() {
				t.Errorf("afterwards: %+v, %v", p, err)
			}
		})
	}
}

func TestAListingThatBreaksGoesOn(t *testing.T) {
	in, out, f := memory(t), memory(t), newFunction()
	want := make(map[string]int)
	for i := range 50 {
		put(t, in, map[string]string{fmt.Sprintf("%02d.jpg", i): fmt.Sprintf("webp %02d", i)})
		want[fmt.Sprintf("webp %02d", i)] = 1
	}
	var visits atomic.Int64
	config := configForTest(flaky{in, func(what, _ string) error {
		if what == "visit" && slices.Contains([]int64{20, 21, 60, 100}, visits.Add(1)) {
			return errors.New("connection reset")
		}
		return nil
	}}, out, f)
	config.Retry.Attempts = 5
	if p, err := Run(t.Context(), config); err != nil || p.Total != 50 {
		t.Fatalf("%+v, %v", p, err)
	}
	if diff := cmp.Diff(want, f.ran()); diff != "" {
		t.Error(diff)
	}
}

// An end that is asked for lets calls under way end, and keeps what they gave.
func TestAnInterruptedShareKeepsWhatItHas(t *testing.T) {
	in, out, f := memory(t), memory(t), newFunction()
	for i := range 100 {
		put(t, in, map[string]string{fmt.Sprintf("%02d.jpg", i): fmt.Sprintf("webp %02d", i)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var started atomic.Int64
	f.fail = func(string, int) error {
		if started.Add(1) == 10 {
			cancel()
		}
		return nil
	}
	config := configForTest(in, out, f)
	p, err := Run(ctx, config)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "start it again to carry on") || !p.Finished.IsZero() || p.EndedBy == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	outputs, _ := contents(t, out)
	if ran := len(f.ran()); ran >= 100 || int64(ran) != p.Done || len(outputs) != ran {
		t.Errorf("%d ran, %d outputs, %d done", ran, len(outputs), p.Done)
	}
	f.fail = nil
	if again, err := Run(t.Context(), config); err != nil || again.Skipped != p.Done || again.Done+again.Skipped != 100 {
		t.Errorf("afterwards: %+v, %v", again, err)
	}
	for input, n := range f.ran() {
		if n != 1 {
			t.Errorf("%q was run %d times", input, n)
		}
	}
}

func TestNoMoreCallsThanSlots(t *testing.T) {
	in, out, f := memory(t), memory(t), newFunction()
	for i := range 60 {
		put(t, in, map[string]string{fmt.Sprintf("%02d.jpg", i): fmt.Sprintf("webp %02d", i)})
	}
	var now, most atomic.Int64
	f.fail = func(string, int) error {
		most.Store(max(most.Load(), now.Add(1)))
		time.Sleep(time.Millisecond) // long enough for others to come in
		now.Add(-1)
		return nil
	}
	config := configForTest(in, out, f)
	config.Slots = 3
	if _, err := Run(t.Context(), config); err != nil || most.Load() != 3 {
		t.Errorf("%d calls at once, want 3; %v", most.Load(), err)
	}
}

func TestProgressIsWrittenWhileItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, f := memory(t), memory(t), newFunction()
		for i := range 30 {
			put(t, in, map[string]string{fmt.Sprintf("%02d.jpg", i): fmt.Sprintf("webp %02d", i)})
		}
		f.fail = func(string, int) error { time.Sleep(time.Second); return nil }
		var writes []time.Duration
		began := time.Now()
		var mu sync.Mutex
		config := configForTest(in, flaky{out, func(what, key string) error {
			if mu.Lock(); what == "write" && strings.Contains(key, "progress-") {
				writes = append(writes, time.Since(began))
			}
			mu.Unlock()
			return nil
		}}, f)
		config.Slots = 1
		result := make(chan error, 1)
		go func() { _, err := Run(t.Context(), config); result <- err }()
		time.Sleep(15500 * time.Millisecond)
		all, err := Status(t.Context(), out, "job")
		if err != nil || all.Done < 13 || all.Done > 15 || all.Total != 30 || !all.Counted || all.Harvest != 1 || all.Complete != 0 {
			t.Errorf("half way: %+v, %v", all, err)
		}
		if _, own := contents(t, out); !strings.Contains(fmt.Sprint(own), `"output":"00.webp"`) {
			t.Error("no journal half way")
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		for i, at := range writes[1:] {
			if gap := at - writes[i]; gap > 2*time.Second {
				t.Errorf("nothing was written for %v", gap)
			}
		}
		if len(writes) > 18 {
			t.Errorf("%d writes in 30 s", len(writes))
		}
	})
}
