package retry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackOff(t *testing.T) {
	for _, test := range []struct {
		failures int
		random   float64
		want     time.Duration
	}{
		{1, 0, 0}, {1, 0.5, 50 * time.Millisecond}, {2, 0.5, 100 * time.Millisecond}, {4, 0.5, 400 * time.Millisecond},
		{5, 0.5, 500 * time.Millisecond}, {6, 0.5, 500 * time.Millisecond}, {1000, 0.5, 500 * time.Millisecond}, {0, 0.5, 50 * time.Millisecond},
	} {
		if got := BackOff(test.failures, 100*time.Millisecond, time.Second, test.random); got != test.want {
			t.Errorf("after %d failures with %v: %v, want %v", test.failures, test.random, got, test.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		base := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "base"))
		most := base + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "above base"))
		failures, random := rapid.IntRange(1, 200).Draw(t, "failures"), rapid.Float64Range(0, 0.999).Draw(t, "random")
		wait := BackOff(failures, base, most, random)
		if wait < 0 || wait > most || failures == 1 && wait > base {
			t.Fatalf("%v", wait)
		}
		if longer := BackOff(failures+1, base, most, random); longer < wait {
			t.Fatalf("%v after one more failure, %v before", longer, wait)
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Pause(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if err := Pause(ctx, time.Hour); err != context.DeadlineExceeded || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := Pause(ctx, 0); err == nil {
			t.Error("a context that has ended is no reason to stop")
		}
	})
}

func TestBudget(t *testing.T) {
	b := NewBudget(0.25, 2, 3)
	take := func(want int, when string) {
		t.Helper()
		got := 0
		for b.Withdraw() {
			got++
		}
		if got != want {
			t.Errorf("%s: %d retries, want %d", when, got, want)
		}
	}
	take(2, "at the start")
	for range 7 {
		b.Deposit()
	}
	take(1, "after 7 calls")
	b.Deposit()
	take(1, "after the eighth: the rest of seven is not lost")
	for range 1000 {
		b.Deposit()
	}
	take(3, "after many calls")
}
