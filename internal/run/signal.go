package run

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilSignal is a context that ends with parent or at the first SIGINT or
// SIGTERM: the polite request to stop. The second signal ends the process at
// once with exit code 128 plus the signal's number, as shells count, for when
// stopping takes longer than the person at the keyboard likes to wait.
//
// The caller must call release when it no longer needs the context; signals then
// have their usual effect again.
func UntilSignal(parent context.Context) (ctx context.Context, release func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ctx, stopWatching := untilSignal(parent, signals, os.Exit)
	return ctx, func() {
		signal.Stop(signals)
		stopWatching()
	}
}

func untilSignal(parent context.Context, signals <-chan os.Signal, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	released := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
			cancel()
		case <-released:
			return
		}
		select {
		case second := <-signals:
			exit(exitCode(second))
		case <-released:
		}
	}()
	return ctx, func() {
		close(released)
		<-done
		cancel()
	}
}

// exitCode is what a shell reports for a process that a signal ended.
func exitCode(s os.Signal) int {
	if number, ok := s.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return 1
}
