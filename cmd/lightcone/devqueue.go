package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

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
		return stop, untilReady(ctx, queueStartBound, client.Ready)
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

// untilReady waits until ready is nil, or the bound is over.
func untilReady(ctx context.Context, bound time.Duration, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
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
