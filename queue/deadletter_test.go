package queue

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func crash(context.Context, *functions.Call, *functions.Answer) error {
	return problem.New(problem.FunctionCrashed, "The function died.")
}

func TestACallThatFailsIsTriedAgainThenDead(t *testing.T) {
	limits := testLimits
	limits.Attempts = 3
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		var runs atomic.Int64
		stop := b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			runs.Add(1)
			return crash(ctx, call, answer)
		})
		q := queued(t, "doomed")
		b.accept(c, q)
		dead := b.until(c, q.Call.ID, lightcone.InvocationDead)
		stop()
		if dead.Attempts != 3 || runs.Load() != 3 || !strings.Contains(dead.Error, "The function died.") || dead.FinishedAt.IsZero() {
			t.Errorf("%d runs, %+v", runs.Load(), dead)
		}
		_, err := c.Result(t.Context(), "acme", q.Call.ID)
		wantKind(t, err, problem.NotFinished)

		letters, err := c.DeadLetters(t.Context(), "", lightcone.CallID{}, 10)
		if err != nil || len(letters) != 1 || letters[0].Invocation.ID != q.Call.ID || letters[0].Input != nil || letters[0].InputBytes != 6 {
			t.Fatalf("%+v, %v", letters, err)
		}
		letter, err := c.DeadLetter(t.Context(), q.Call.ID)
		if err != nil || string(letter.Input) != "doomed" || letter.Invocation.Attempts != 3 || letter.Timeout != q.Timeout {
			t.Errorf("%+v, %v", letter, err)
		}

		again, err := c.Redrive(t.Context(), q.Call.ID)
		if err != nil || again.Status != lightcone.InvocationQueued || again.Attempts != 0 || again.Error != "" {
			t.Fatalf("redriven: %+v, %v", again, err)
		}
		_, err = c.Redrive(t.Context(), q.Call.ID)
		wantKind(t, err, problem.NotFound)
		b.work(c, echo)
		if ended := b.until(c, q.Call.ID, lightcone.InvocationSucceeded); ended.Attempts != 1 {
			t.Errorf("%+v", ended)
		}
	})
}

func TestDeadLettersAreListedInPagesAndDropped(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c := b.connect(limits)
	b.work(c, crash)
	var ids []lightcone.CallID
	for i := range 5 {
		q := queued(t, strings.Repeat("x", i*(MostInline/2)))
		b.accept(c, q)
		b.until(c, q.Call.ID, lightcone.InvocationDead)
		ids = append(ids, q.Call.ID)
	}
	var after lightcone.CallID
	var listed []lightcone.CallID
	for {
		page, err := c.DeadLetters(t.Context(), "acme", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			listed, after = append(listed, l.Invocation.ID), l.Invocation.ID
		}
		if len(page) < 2 {
			break
		}
	}
	if fmt.Sprint(listed) != fmt.Sprint(ids) {
		t.Errorf("listed %v of %v", listed, ids)
	}
	if none, err := c.DeadLetters(t.Context(), "other", lightcone.CallID{}, 10); err != nil || len(none) != 0 {
		t.Errorf("another tenant's: %v, %v", none, err)
	}
	large := ids[4]
	if l, err := c.DeadLetter(t.Context(), large); err != nil || len(l.Input) != 2*MostInline {
		t.Errorf("%d bytes of input, %v", len(l.Input), err)
	}
	if err := c.Drop(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	wantKind(t, c.Drop(t.Context(), large), problem.NotFound)
	_, err := c.DeadLetter(t.Context(), large)
	wantKind(t, err, problem.NotFound)
	if left, err := c.warehouse.get(t.Context(), inputsBucket, inputName("acme", large)); left != nil || err != nil {
		t.Errorf("%d bytes of input are left, %v", len(left), err)
	}
}

func TestADeadLetterWhoseInputIsGoneSaysSo(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c := b.connect(limits)
	b.work(c, crash)
	q := queued(t, strings.Repeat("x", MostInline+1))
	b.accept(c, q)
	b.until(c, q.Call.ID, lightcone.InvocationDead)
	if err := c.warehouse.dropInput(t.Context(), "acme", q.Call.ID); err != nil { // as its expiry does
		t.Fatal(err)
	}
	_, err := c.DeadLetter(t.Context(), q.Call.ID)
	if found := wantKind(t, err, problem.NotFound); !strings.Contains(found.Detail, "input") {
		t.Errorf("%v", err)
	}
	_, err = c.Redrive(t.Context(), q.Call.ID)
	if found := wantKind(t, err, problem.NotFound); !strings.Contains(found.Detail, "input") {
		t.Errorf("%v", err)
	}
	if got := b.until(c, q.Call.ID, lightcone.InvocationDead); got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}

// What is redriven late has as long a time before it as what comes new: its input must
// not go because it was stored long ago.
func TestTheInputOfARedrivenCallStays(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := threeNodes(t)
	c := b.connect(limits)
	stop := b.work(c, crash)
	q := queued(t, strings.Repeat("x", 3*MostInline))
	b.accept(c, q)
	b.until(c, q.Call.ID, lightcone.InvocationDead)
	stop()
	inputs, err := c.js.Stream(t.Context(), "OBJ_"+inputsBucket)
	if err != nil {
		t.Fatal(err)
	}
	before, err := inputs.Info(t.Context()) // its only messages are the input's
	if err != nil || before.State.Msgs == 0 {
		t.Fatal(before, err)
	}
	late := b.connect(limits)
	late.protocol.now = func() time.Time { return time.Now().Add(inputSpare) }
	if _, err := late.Redrive(t.Context(), q.Call.ID); err != nil {
		t.Fatal(err)
	}
	after, err := inputs.Info(t.Context())
	if err != nil || after.State.FirstSeq <= before.State.LastSeq || after.State.Msgs != before.State.Msgs {
		t.Errorf("before the redrive %+v, after it %+v, %v", before.State, after, err)
	}
	b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		if len(call.Body) != 3*MostInline {
			t.Errorf("%d bytes of input", len(call.Body))
		}
		return echo(ctx, call, answer)
	})
	b.until(c, q.Call.ID, lightcone.InvocationSucceeded)
}

func TestARefusedInputIsNotTriedAgain(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	for _, test := range []struct {
		name     string
		run      function
		want     string
		attempts int
	}{
		{"corrupt", func(context.Context, *functions.Call, *functions.Answer) error {
			return problem.New(problem.CorruptInput, "It is cut short.")
		}, "It is cut short.", 1},
		{"quarantined", func(context.Context, *functions.Call, *functions.Answer) error {
			return problem.New(problem.Quarantined, "It kills.")
		}, "It kills.", 0}, // the function has not seen it
		{"named by the function", func(_ context.Context, _ *functions.Call, a *functions.Answer) error {
			a.Status, a.Problem, a.Body = 500, problem.UnsupportedMedia, []byte("Not an image.")
			return nil
		}, "Not an image.", 1},
		{"404", func(_ context.Context, _ *functions.Call, a *functions.Answer) error {
			a.Status, a.Body = 404, []byte("nothing")
			return nil
		}, "The function answered with status 404.", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			stop := b.work(c, test.run)
			defer stop()
			q := queued(t, test.name)
			b.accept(c, q)
			if got := b.until(c, q.Call.ID, lightcone.InvocationFailed); got.Attempts != test.attempts || got.Error != test.want {
				t.Errorf("%+v", got)
			}
			if result, err := c.Result(t.Context(), "acme", q.Call.ID); err != nil || len(result.Body) == 0 {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestACallThatTheFunctionHasNotSeenCostsNoAttempt(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c := b.connect(limits)
	var tries atomic.Int64
	b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		if tries.Add(1) < 5 {
			return problem.New(problem.Overloaded, "There is no slot.")
		}
		return echo(ctx, call, answer)
	})
	q := queued(t, "patient")
	b.accept(c, q)
	if got := b.until(c, q.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}

func TestATimeoutKillsTheAttempt(t *testing.T) {
	limits := testLimits
	limits.Attempts = 1
	b := oneNode(t)
	c := b.connect(limits)
	b.work(c, func(ctx context.Context, _ *functions.Call, _ *functions.Answer) error {
		<-ctx.Done()
		return ctx.Err()
	})
	q := queued(t, "slow")
	q.Timeout = 100 * time.Millisecond
	b.accept(c, q)
	if got := b.until(c, q.Call.ID, lightcone.InvocationDead); !strings.Contains(got.Error, "stopped after 100ms") {
		t.Errorf("%+v", got)
	}
}

func TestTheCallOfALostWorkerIsTakenAgain(t *testing.T) {
	limits := testLimits
	limits.Silence = 2 * time.Second
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		lost := b.connect(limits)
		started, release := make(chan struct{}), make(chan struct{})
		stop := b.work(lost, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			close(started)
			<-release
			return echo(ctx, call, answer)
		})
		q := queued(t, "precious")
		b.accept(c, q)
		<-started
		lost.nc.Close() // as a kill does: nothing is said to anybody
		b.work(c, echo)
		if got := b.until(c, q.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 2 {
			t.Errorf("%+v", got)
		}
		close(release)
		stop()
	})
}

func TestAWorkerThatStopsFinishesWhatRuns(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	started, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Work(ctx, WorkConfig{Function: "echo", AtOnce: 1, Room: func() bool { return true }, Run: func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			close(started)
			<-release
			if err := ctx.Err(); err != nil {
				return err
			}
			return echo(ctx, call, answer)
		}})
	}()
	running, waiting := queued(t, "running"), queued(t, "waiting")
	b.accept(c, running)
	<-started
	b.accept(c, waiting)
	cancel()
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := b.until(c, running.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
	if got := b.until(c, waiting.Call.ID, lightcone.InvocationQueued); got.Attempts != 0 {
		t.Errorf("%+v", got)
	}
}
