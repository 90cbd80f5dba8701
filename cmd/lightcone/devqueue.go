package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/functions"
	"lightcone/gateway"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
	"lightcone/internal/run"
	"lightcone/queue"
)

const (
	devQueueBytes   = 4 << 30          // the most bytes that each part of the queue keeps: calls, inputs, results, and so on
	devQueueParts   = 8                // with some room; what is not used takes no disk
	queueStartBound = 20 * time.Second // for a queue that has much to read
)

// startDevQueue starts the one node of `lightcone dev`, which keeps its calls below the
// data folder, and a client of it. It is stopped after all that uses the client.
func startDevQueue(ctx context.Context, group *run.Group, data string, logger *slog.Logger) (*queue.Client, error) {
	var client *queue.Client
	err := group.Start(ctx, "queue", func(ctx context.Context) (run.Stop, error) {
		const user = "dev"
		password := rand.Text() // nobody else is to be let in
		node, err := queue.StartNode(queue.NodeConfig{
			Seat: "dev", Dir: filepath.Join(data, "queue"), MaxStoreBytes: devQueueParts * devQueueBytes, User: user, Password: password, Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		client, err = queue.Connect(queue.Config{InProcess: node, User: user, Password: password, Name: "dev", Logger: logger, Limits: queue.Limits{MaxBytes: devQueueBytes}})
		if err != nil {
			return node.Stop, err
		}
		stop := func(ctx context.Context) error {
			client.Close()
			return node.Stop(ctx)
		}
		return stop, untilReady(ctx, client.Ready)
	})
	return client, err
}

// queueLogger leaves out what a node on one machine warns of, unless asked for: that it
// reads its files again after a kill, for instance.
func queueLogger(command *cobra.Command, flags devFlags) *slog.Logger {
	level := slog.LevelError
	if flags.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(command.ErrOrStderr(), &slog.HandlerOptions{Level: level})).With("component", "queue")
}

// untilReady waits until ready is nil, or queueStartBound is over.
func untilReady(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, queueStartBound)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// counted is attempt, and counts what it used for its tenant, as a gateway does for a
// call that waits.
func (t *threshold) counted(attempt attempt) attempt {
	return func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		err := attempt(ctx, call, answer)
		used := lightcone.Usage{CPU: answer.CPU, BytesIn: int64(len(call.Body))}
		outcome := admission.Untold
		switch {
		case err == nil:
			outcome, used.BytesOut = admission.Answered, int64(len(answer.Body))
		case gateway.KilledSlot(err):
			outcome = admission.Crashed
		default:
			switch problem.Of(err).Kind {
			case problem.DeadlineExceeded, problem.Cancelled:
			default:
				return err // the function has not seen it
			}
		}
		t.tenants.Record(call.Tenant, outcome, used, time.Now())
		return err
	}
}
