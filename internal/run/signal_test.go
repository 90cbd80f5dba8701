package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestTheFirstSignalEndsTheContextTheSecondTheProcess(t *testing.T) {
	signals := make(chan os.Signal)
	codes := make(chan int, 1)
	ctx, release := untilSignal(t.Context(), signals, func(code int) { codes <- code })
	defer release()
	if ctx.Err() != nil {
		t.Fatal("the context ended before any signal")
	}
	signals <- syscall.SIGINT
	<-ctx.Done()
	signals <- syscall.SIGTERM
	if code := <-codes; code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
}

func TestReleaseEndsTheContext(t *testing.T) {
	ctx, release := UntilSignal(context.Background())
	release()
	if ctx.Err() == nil {
		t.Error("the context outlived its release")
	}
}

// TestSignalsOfARealProcess runs this test again as a process whose stop never
// ends, and interrupts it twice.
func TestSignalsOfARealProcess(t *testing.T) {
	const child = "LIGHTCONE_TEST_STUCK_CHILD"
	if os.Getenv(child) != "" {
		ctx, release := UntilSignal(context.Background())
		defer release()
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("stopping")
		select {}
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignalsOfARealProcess$")
	command.Env = append(os.Environ(), child+"=1")
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for _, want := range []string{"ready", "stopping"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the process said %q, want %q", lines.Text(), want)
		}
		if err := command.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	var exit *exec.ExitError
	if err := command.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("the process ended with %v, want exit code 130", err)
	}
}
