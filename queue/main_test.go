package queue

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// nodeVariable makes this test's executable a node of the queue: its value is the
// NodeConfig.
const nodeVariable = "LIGHTCONE_TEST_QUEUE_NODE"

func TestMain(m *testing.M) {
	if config := os.Getenv(nodeVariable); config != "" {
		os.Exit(runAsNode(config))
	}
	goleak.VerifyTestMain(m)
}

// runAsNode is a node that ends in order at SIGTERM, and at once when the test has
// ended. Each line it reads is the peers to follow.
func runAsNode(text string) int {
	terminated, release := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer release()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config := NodeConfig{Logger: logger}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		logger.Error("bad configuration", "error", err)
		return 2
	}
	node, err := StartNode(config)
	if err != nil {
		logger.Error("cannot start", "error", err)
		return 1
	}
	go func() {
		decoder := json.NewDecoder(os.Stdin)
		for {
			var peers []string
			if err := decoder.Decode(&peers); err == io.EOF {
				os.Exit(3) // the test is gone
			} else if err != nil {
				logger.Error("bad peers", "error", err)
				os.Exit(2)
			}
			if err := node.Follow(peers); err != nil {
				logger.Error("cannot follow", "error", err)
			}
		}
	}()
	<-terminated.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := node.Stop(ctx); err != nil {
		logger.Error("stopped", "error", err)
		return 1
	}
	return 0
}
