package wire

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// TestEverythingOfACallArrives sends calls and answers of every shape over one
// client and compares both ends.
func TestEverythingOfACallArrives(t *testing.T) {
	var mu sync.Mutex // the race detector does not see writev order both ends
	var got functions.Call
	var say functions.Answer
	_, address := serve(t, ServerConfig{Key: testKey, Runner: newRunner(func(call *functions.Call, answer *functions.Answer) error {
		mu.Lock()
		defer mu.Unlock()
		got = *call
		got.Query, got.ContentType, got.Accept = bytes.Clone(call.Query), bytes.Clone(call.ContentType), bytes.Clone(call.Accept)
		got.Traceparent, got.Body = bytes.Clone(call.Traceparent), bytes.Clone(call.Body)
		body := append(answer.Body[:0], say.Body...)
		*answer = say
		answer.Body = body
		return nil
	})})
	client := dialReady(t, ClientConfig{Address: address, Key: testKey})
	value := rapid.StringMatching(`([!-~]([ -~]{0,30}[!-~])?)?`)
	var answer functions.Answer
	rapid.Check(t, func(t *rapid.T) {
		sent := newCall(rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "body"))
		sent.Query = []byte(rapid.StringMatching(`[!-~]{0,40}`).Draw(t, "query"))
		sent.ContentType = []byte(value.Draw(t, "content type"))
		sent.Accept = []byte(value.Draw(t, "accept"))
		sent.Traceparent = []byte(value.Draw(t, "traceparent"))
		next := functions.Answer{
			Status:      rapid.IntRange(0, 999).Draw(t, "status"), // 204 and 304 with a body, too
			Problem:     rapid.SampledFrom([]problem.Kind{"", problem.CorruptInput}).Draw(t, "problem"),
			ContentType: value.Draw(t, "answer's content type"), Vary: value.Draw(t, "vary"),
			Body: rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "answer"),
			CPU:  time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "cpu")), Exec: time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "exec")),
		}
		mu.Lock()
		say = next
		mu.Unlock()
		if err := client.Run(sent, &answer); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if late := sent.Deadline.Sub(got.Deadline).Abs(); late > 2*time.Second {
			t.Errorf("the deadline moved by %v", late)
		}
		got.Deadline = sent.Deadline
		if diff := cmp.Diff(*sent, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error("call:", diff)
		}
		if diff := cmp.Diff(say, answer, cmpopts.EquateEmpty()); diff != "" {
			t.Error("answer:", diff)
		}
	})
}

// TestEveryProblemArrives as it was, and unlike a function's own.
func TestEveryProblemArrives(t *testing.T) {
	var mu sync.Mutex
	var say error
	_, address := serve(t, ServerConfig{Runner: newRunner(func(_ *functions.Call, answer *functions.Answer) error {
		answer.CPU, answer.Exec = 12345678901, 7
		mu.Lock()
		defer mu.Unlock()
		return say
	})})
	client := dialReady(t, ClientConfig{Address: address})
	run := func(fail error, answer *functions.Answer) error {
		mu.Lock()
		say = fail
		mu.Unlock()
		return client.Run(newCall([]byte("x")), answer)
	}
	for _, kind := range []problem.Kind{
		problem.BadParameter, problem.Forbidden, problem.NotFound, problem.MethodNotAllowed,
		problem.RequestTimeout, problem.LengthMismatch, problem.TooLarge, problem.UnsupportedMedia, problem.CorruptInput,
		problem.TooManyPixels, problem.LimitReached, problem.FunctionCrashed, problem.OutOfMemory, problem.FunctionFailed,
		problem.Overloaded, problem.WorkerLost, problem.DeadlineExceeded, problem.Internal,
	} {
		for _, want := range []*problem.Error{
			{Kind: kind, Detail: "Schlüssel\r\nX: y", RetryAfter: 1234567 * time.Nanosecond}, {Kind: kind},
		} {
			answer := functions.Answer{Status: 200, Problem: "stale", Body: []byte("stale")}
			got := wantKind(t, run(want, &answer), kind)
			if got.Detail != want.Detail || got.RetryAfter != want.RetryAfter {
				t.Errorf("%+v arrived as %+v", want, got)
			}
			if diff := cmp.Diff(functions.Answer{CPU: 12345678901, Exec: 7}, answer, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: answer: %s", kind, diff)
			}
		}
	}
	found := wantKind(t, run(errors.New("open /secret"), new(functions.Answer)), problem.Internal)
	if strings.Contains(found.Error(), "secret") {
		t.Errorf("the cause crossed the wire: %v", found)
	}
}

func TestARunnersPanicCostsItsCall(t *testing.T) {
	_, address := serve(t, ServerConfig{Runner: newRunner(func(call *functions.Call, answer *functions.Answer) error {
		if len(call.Body) == 0 {
			panic("oh")
		}
		return echo(call, answer)
	})})
	client := dialReady(t, ClientConfig{Address: address})
	var answer functions.Answer
	wantKind(t, client.Run(newCall(nil), &answer), problem.Internal)
	if err := client.Run(newCall([]byte("fine")), &answer); err != nil || string(answer.Body) != "fine" {
		t.Errorf("afterwards: %q, %v", answer.Body, err)
	}
}

func TestBigBodies(t *testing.T) {
	worker := newRunner(echo)
	worker.limit(20 << 20)
	_, address := serve(t, ServerConfig{Runner: worker})
	client := dialReady(t, ClientConfig{Address: address})
	body := make([]byte, 20<<20)
	_, _ = randomness{}.Read(body)
	var answer functions.Answer
	for range 3 {
		if err := client.Run(newCall(body), &answer); err != nil || !bytes.Equal(body, answer.Body) {
			t.Fatalf("%d bytes came back as %d: %v", len(body), len(answer.Body), err)
		}
	}
	over := newCall(append(body, 0))
	wantKind(t, client.Run(over, &answer), problem.TooLarge)
	worker.limit(10)
	wantKind(t, client.Run(newCall(body[:11]), &answer), problem.TooLarge)
	if err := client.Run(newCall(body[:10]), &answer); err != nil {
		t.Errorf("a body at the limit: %v", err)
	}
}

func TestWhatCannotBeCalled(t *testing.T) {
	_, address := serve(t, ServerConfig{Key: testKey, Runner: newRunner(echo)})
	client := dialReady(t, ClientConfig{Address: address, Key: testKey})
	var answer functions.Answer
	elsewhere := newCall(nil)
	elsewhere.Function = "resize"
	wantKind(t, client.Run(elsewhere, &answer), problem.NotFound)
	for _, query := range []string{"a b", "a\r\nX: y", "a\x00"} {
		smuggling := newCall(nil)
		smuggling.Query = []byte(query)
		wantKind(t, client.Run(smuggling, &answer), problem.BadParameter)
	}
	late := newCall(nil)
	late.Deadline = time.Now()
	wantKind(t, client.Run(late, &answer), problem.DeadlineExceeded)
	nobody := newCall(nil)
	nobody.Tenant = "No Body"
	wantKind(t, client.Run(nobody, &answer), problem.BadParameter)
}

func TestTheWrongKeyIsNamed(t *testing.T) {
	_, address := serve(t, ServerConfig{Key: testKey, Runner: newRunner(echo)})
	for _, key := range []string{"", "fleet-kez", testKey + "x"} {
		client := Dial(ClientConfig{Address: address, Key: key})
		eventually(t, "the refusal is known", func() bool { return strings.Contains(client.Ready().Error(), "fleet key") })
		found := wantKind(t, client.Run(newCall(nil), new(functions.Answer)), problem.Overloaded)
		if !errors.Is(found, errWrongKey) || strings.Contains(found.Detail, "key") {
			t.Errorf("key %q: %v", key, found)
		}
		client.Close()
		if _, err := FetchLoad(t.Context(), address, key); !errors.Is(err, errWrongKey) {
			t.Errorf("FetchLoad with key %q: %v", key, err)
		}
	}
	if _, err := FetchLoad(t.Context(), address, testKey); err != nil {
		t.Error(err)
	}
}

func TestTheWorkersDeadlineIsTheCallers(t *testing.T) {
	_, address := serve(t, ServerConfig{Runner: newRunner(func(call *functions.Call, answer *functions.Answer) error {
		pause := time.NewTimer(time.Until(call.Deadline))
		<-pause.C
		answer.CPU = 5
		return problem.New(problem.DeadlineExceeded, "It was stopped.")
	})})
	client := dialReady(t, ClientConfig{Address: address})
	call, began := newCall(nil), time.Now()
	call.Deadline = began.Add(200 * time.Millisecond)
	var answer functions.Answer
	found := wantKind(t, client.Run(call, &answer), problem.DeadlineExceeded)
	if found.Detail != "It was stopped." || answer.CPU != 5 {
		t.Errorf("the worker's own answer did not come back: %v, CPU %v", found, answer.CPU)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it took %v: stopped before the deadline", took)
	}
}

func TestNoDeadlineIsBeyondTheFunctionsLongest(t *testing.T) {
	deadlines := make(chan time.Time, 1)
	_, address := serve(t, ServerConfig{Runner: newRunner(func(call *functions.Call, answer *functions.Answer) error {
		deadlines <- call.Deadline
		return echo(call, answer)
	})})
	client := dialReady(t, ClientConfig{Address: address})
	call := newCall(nil)
	call.Deadline = time.Now().Add(time.Hour)
	if err := client.Run(call, new(functions.Answer)); err != nil {
		t.Fatal(err)
	}
	if longest := time.Now().Add(20 * time.Second); (<-deadlines).After(longest) {
		t.Error("the function was given more than its MaxTimeout")
	}
}

func TestAWorkerThatMissesTheDeadlineIsNotWaitedFor(t *testing.T) {
	slow := newBlocking()
	_, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	defer close(slow.release) // the server's stop waits for it
	client := dialReady(t, ClientConfig{Address: address})
	call := newCall(nil)
	call.Deadline = time.Now().Add(50 * time.Millisecond)
	wantKind(t, client.Run(call, new(functions.Answer)), problem.DeadlineExceeded)
	if late := time.Since(call.Deadline); late < deadlineGrace || late > 5*time.Second {
		t.Errorf("it returned %v after the deadline", late)
	}
}

func TestFetchLoadEndsWithItsContext(t *testing.T) {
	address, _ := blackHole(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := FetchLoad(ctx, address, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}
