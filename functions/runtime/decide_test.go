package runtime

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestRecycle(t *testing.T) {
	bounded := functions.Spec{RecycleAfterCalls: 100, RecycleAboveBytes: 1 << 20}
	for _, test := range []struct {
		name     string
		spec     functions.Spec
		calls    int
		resident int64
		want     bool
	}{
		{"young and small", bounded, 99, 1 << 20, false},
		{"old", bounded, 100, 0, true},
		{"large", bounded, 1, 1<<20 + 1, true},
		{"no bounds", functions.Spec{}, 1 << 30, 1 << 40, false},
	} {
		if got := recycle(test.spec, test.calls, test.resident) != ""; got != test.want {
			t.Errorf("%s: recycled %v", test.name, got)
		}
	}
}

func TestRestartDelayGrowsWithinItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		failures := rapid.IntRange(0, 1<<20).Draw(t, "failures")
		random := rapid.Float64Range(0, 0.999999).Draw(t, "random")
		delay := restartDelay(failures, random)
		if delay < 0 || delay > maxRestartDelay {
			t.Fatalf("delay %v", delay)
		}
		if restartDelay(failures+1, random) < delay {
			t.Fatalf("the delay shrank from %v after one more failure", delay)
		}
	})
	if restartDelay(0, 0.5) > 10*time.Millisecond {
		t.Error("the first restart is slow")
	}
}

func TestAComplaintIsNotRepeatedSoon(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c complaints
		now := time.Unix(1_000_000, 0)
		said := make(map[string]time.Time)
		var times []time.Time // of all that was said
		for range rapid.IntRange(1, 100).Draw(t, "complaints") {
			now = now.Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, "pause")) * time.Millisecond)
			text := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "text")
			last, before := said[text]
			soon := before && now.Sub(last) < sameComplaintEvery
			lately := 0
			for _, at := range times {
				if now.Sub(at) < sameComplaintEvery {
					lately++
				}
			}
			if want := !soon && lately < maxComplaints; c.worthSaying(text, now) != want {
				t.Fatalf("%q at %v, last at %v, with %d said lately: worth saying is %v", text, now, last, lately, !want)
			} else if want {
				said[text], times = now, append(times, now)
			}
		}
	})
}

func TestDiagnose(t *testing.T) {
	for _, test := range []struct {
		name      string
		overgrown bool
		words     string
		peak      int64
		want      problem.Kind
	}{
		{"killed by the watch", true, "", 0, problem.OutOfMemory},
		{"Go says so", false, "fatal error: runtime: out of memory", 0, problem.OutOfMemory},
		{"GLib says so", false, "GLib-ERROR: gmem.c:130: failed to allocate 1000 bytes", 0, problem.OutOfMemory},
		{"no words, nearly all of its bound", false, "SIGSEGV", 80, problem.OutOfMemory},
		{"no words, little memory", false, "SIGSEGV", 40, problem.FunctionCrashed},
	} {
		if got := diagnose(test.overgrown, []byte(test.words), test.peak, 100); got != test.want {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}

func TestLastWordsKeepBothEndsWithinABound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words, whole := &lastWords{}, ""
		for _, piece := range rapid.SliceOf(rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 0, 3000, -1)).Draw(t, "pieces") {
			if n, err := words.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
			whole += piece
		}
		kept := words.text()
		if len(whole) <= firstWordsSize+lastWordsSize {
			if kept != whole {
				t.Fatalf("of %d bytes, %d were kept", len(whole), len(kept))
			}
			return
		}
		if len(kept) > firstWordsSize+lastWordsSize+10 || !strings.HasPrefix(kept, whole[:firstWordsSize]) || !strings.HasSuffix(kept, whole[len(whole)-lastWordsSize:]) {
			t.Fatalf("of %d bytes, %d were kept, not the two ends", len(whole), len(kept))
		}
	})
}
