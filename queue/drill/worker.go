package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	random "math/rand/v2"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
	"lightcone/queue"
	"lightcone/queue/history"
)

// drilled is the function that the calls are for.
const drilled = lightcone.FunctionName("drilled")

// workAtOnce are the queued calls that one worker process runs at once.
const workAtOnce = 8

// workerProcess takes calls and notes each that it runs.
type workerProcess struct {
	queue     *queue.Client
	notes     journal
	reluctant bool // says, nine times of ten, that it has no room after all
}

func (w *workerProcess) run(ctx context.Context) error {
	return w.queue.Work(ctx, queue.WorkConfig{
		Function: drilled, AtOnce: workAtOnce,
		Room: func() bool { return true },
		Run:  w.execute,
	})
}

// execute is the function: its answer is a token that no other execution gives.
func (w *workerProcess) execute(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
	if w.reluctant && random.IntN(10) > 0 {
		return problem.New(problem.Overloaded, "This worker has no room after all; the call was not run.")
	}
	crash := crashes(call.ID) || random.IntN(50) == 0
	if err := w.notes.note(history.Execution{Call: call.ID, Crashes: crash}); err != nil {
		return err
	}
	if err := retry.Pause(ctx, time.Duration(random.Int64N(int64(40*time.Millisecond)))); err != nil {
		return problem.New(problem.Cancelled, "The call was stopped.")
	}
	if crash {
		return problem.New(problem.FunctionCrashed, "The function crashed, as it was told to.")
	}
	var token [8]byte
	if _, err := rand.Read(token[:]); err != nil {
		return err
	}
	answer.Status, answer.ContentType = 200, "text/plain"
	answer.Body = append(answer.Body[:0], hex.EncodeToString(token[:])...)
	answer.CPU = time.Millisecond
	return nil
}

// crashes says of which calls every execution crashes: they end as dead letters.
func crashes(id lightcone.CallID) bool { return id[13]%64 == 0 }
