package bulk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lightcone/functions"
)

var errDead = errors.New("this machine has lost its power")

// machine dies at a step: nothing that it does from then on has any effect.
type machine struct {
	mu    sync.Mutex
	steps int // still to be taken; below 0 it is dead
	end   context.CancelFunc
}

func (m *machine) step(string, string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steps--; m.steps < 0 {
		m.end()
		return errDead
	}
	return nil
}

func (m *machine) alive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.steps >= 0
}

// mortal runs calls while its machine lives.
type mortal struct {
	Runner
	*machine
}

func (m mortal) Run(call *functions.Call, answer *functions.Answer) error {
	if err := m.step("run", ""); err != nil {
		return err
	}
	return m.Runner.Run(call, answer)
}

// recorded are the inputs that the journals in out name.
func recorded(t fataler, out Store) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	known, err := readHistory(context.Background(), out, "job", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for id := range known {
		names[id.String()] = true
	}
	return names
}

// However often and wherever a share's machine dies, the share ends with the
// outputs of one that never did; nothing that a journal names is run again, and
// nothing is run more often than once and once for each death.
func TestCrashesAtAnyPoint(t *testing.T) {
	inputs := map[string]string{"a.jpg": "webp one", "a.png": "webp two", "b.jpg": "jpeg three", "c/d.gif": "png four", "e.jpg": "bad five", "f.jpg": "webp six"}
	in, want := memory(t), memory(t)
	put(t, in, inputs)
	if _, err := Run(t.Context(), configForTest(in, want, newFunction())); err != nil {
		t.Fatal(err)
	}
	reference, _ := contents(t, want)
	jobs := work{function: "resize", query: "width=300"}

	rapid.Check(t, func(t *rapid.T) {
		out, f := memory(t), newFunction()
		deaths := rapid.SliceOfN(rapid.IntRange(0, 70), 1, 4).Draw(t, "steps before each death")
		everyStep := rapid.Bool().Draw(t, "journal at every step")
		died := 0
		for _, steps := range deaths {
			before, known := f.ran(), recorded(t, out)
			ctx, cancel := context.WithCancel(context.Background())
			m := &machine{steps: steps, end: cancel}
			config := configForTest(flaky{in, m.step}, flaky{out, m.step}, mortal{f, m})
			if everyStep {
				config.ReportEvery = 1 // a nanosecond
			}
			_, err := Run(ctx, config)
			cancel()
			if !m.alive() {
				died++
			} else if err != nil {
				t.Fatalf("nothing happened to it, and it says %v", err)
			}
			checkNotRepeated(t, in, jobs, before, f.ran(), known)
		}
		config := configForTest(in, out, f)
		if p, err := Run(context.Background(), config); err != nil || p.Finished.IsZero() {
			t.Fatalf("%+v, %v", p, err)
		}
		outputs, own := contents(t, out)
		if diff := cmp.Diff(reference, outputs); diff != "" {
			t.Fatal(diff)
		}
		if lines := failureLines(t, own, "job", 0); len(lines) != 1 {
			t.Fatalf("failures %q", lines)
		}
		for input, n := range f.ran() {
			if n > 1+died {
				t.Fatalf("%q was run %d times with %d deaths", input, n, died)
			}
		}
	})
}

// One death at each step that a run has, first with few journals, then with many.
func TestADeathAtEveryStep(t *testing.T) {
	inputs := map[string]string{"a.jpg": "webp one", "b.jpg": "jpeg two", "c.jpg": "bad three"}
	for _, every := range []time.Duration{defaultReportEvery, 1} {
		in := memory(t)
		put(t, in, inputs)
		for steps, survived := 0, false; !survived; steps++ {
			out, f := memory(t), newFunction()
			ctx, cancel := context.WithCancel(t.Context())
			m := &machine{steps: steps, end: cancel}
			config := configForTest(flaky{in, m.step}, flaky{out, m.step}, mortal{f, m})
			config.ReportEvery = every
			_, err := Run(ctx, config)
			cancel()
			if survived = m.alive(); survived && (err != nil || steps < 20) {
				t.Fatalf("it survived after %d steps: %v", steps, err)
			}
			if _, err := Run(t.Context(), configForTest(in, out, f)); err != nil {
				t.Fatal(err)
			}
			outputs, own := contents(t, out)
			if want := map[string]string{"a.webp": "width=300|WEBP ONE", "b.jpg": "width=300|JPEG TWO"}; !maps.Equal(outputs, want) {
				t.Fatalf("death after %d steps: %q", steps, outputs)
			}
			if lines := failureLines(t, own, "job", 0); len(lines) != 1 {
				t.Fatalf("death after %d steps: failures %q", steps, lines)
			}
			for input, n := range f.ran() {
				if n > 2 {
					t.Fatalf("death after %d steps: %q was run %d times", steps, input, n)
				}
			}
		}
	}
}

// checkNotRepeated fails when an input was run between before and after though
// a journal named it before.
func checkNotRepeated(t *rapid.T, in Store, jobs work, before, after map[string]int, known map[string]bool) {
	t.Helper()
	var listed []Object
	if err := in.List(context.Background(), "", func(o Object) error { listed = append(listed, o); return nil }); err != nil {
		t.Fatal(err)
	}
	var names namer
	check := func(c candidate) {
		input, err := in.Read(context.Background(), c.Key, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if known[jobs.fingerprint(c).String()] && after[string(input)] > before[string(input)] {
			t.Fatalf("%q was run again, though a journal has it", c.Key)
		}
	}
	for _, o := range listed {
		c, any, err := names.next(o)
		if err != nil {
			t.Fatal(err)
		}
		if any {
			check(c)
		}
	}
	if c, any := names.last(); any {
		check(c)
	}
}

// Shares of a job never write one name, and leave nothing out.
func TestSharesTogetherAreTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, whole, parts, f := memory(t), memory(t), memory(t), newFunction()
		for i, key := range drawKeys(t) {
			word := rapid.SampledFrom([]string{"webp", "jpeg", "png", "bad"}).Draw(t, "word")
			put(t, in, map[string]string{key: fmt.Sprintf("%s %d", word, i)})
		}
		if _, err := Run(context.Background(), configForTest(in, whole, f)); err != nil {
			t.Fatal(err)
		}
		config := configForTest(in, parts, newFunction())
		config.Shares = rapid.IntRange(1, 5).Draw(t, "shares")
		for config.Share = range config.Shares {
			if _, err := Run(context.Background(), config); err != nil {
				t.Fatal(err)
			}
		}
		want, _ := contents(t, whole)
		got, _ := contents(t, parts)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		ran := config.Runner.(*function).ran()
		if !maps.Equal(ran, f.ran()) {
			t.Fatalf("ran %v, want %v", ran, f.ran())
		}
	})
}
