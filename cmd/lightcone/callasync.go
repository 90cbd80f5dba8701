package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lightcone"
	"lightcone/client"
	"lightcone/cmd/internal/commandline"
)

// asyncFlags are those of `lightcone call` that speak of queued calls.
type asyncFlags struct {
	async, detach    bool
	callback, series string
	wait             time.Duration
}

func (a *asyncFlags) register(command *cobra.Command) {
	set := command.Flags()
	set.BoolVar(&a.async, "async", false, "queue the calls: what has been accepted is run, whatever happens here")
	set.BoolVar(&a.detach, "detach", false, "with --async: print the calls' ids, and do not wait for results")
	set.DurationVar(&a.wait, "wait", 0, "with --async: how long to wait for results, such as 30s (default: until they are there)")
	set.StringVar(&a.callback, "callback", "", "with --async: `URL` to be told of the end of each call")
	set.StringVar(&a.series, "series", "", "with --async: `NAME` of a series of calls; the same call in another series is run anew")
}

// check says what of the flags does not go together.
func (a *asyncFlags) check(command *cobra.Command, skipExisting bool) error {
	for _, name := range []string{"detach", "wait", "callback", "series"} {
		if !a.async && command.Flags().Changed(name) {
			return commandline.Usagef("--%s is for queued calls: give --async with it", name)
		}
	}
	switch {
	case a.wait < 0:
		return commandline.Usagef("--wait %v: want more than 0", a.wait)
	case a.detach && a.wait > 0:
		return commandline.Usagef("--detach and --wait are both given: leave one out")
	case a.detach && skipExisting:
		return commandline.Usagef("--detach and --skip-existing are both given, and without results there is nothing to skip: leave one out")
	case a.detach && command.Flags().Changed("out"):
		return commandline.Usagef("--detach and --out are both given, and without results there is nothing to write: leave one out")
	}
	return nil
}

var errWaited = errors.New("the time to wait is over")

// within bounds ctx by --wait.
func (a *asyncFlags) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.wait == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, a.wait, errWaited)
}

// queueFolder queues a job, shows its progress, and lists what failed.
func queueFolder(ctx context.Context, caller *client.Client, command *cobra.Command, job client.Job, flags asyncFlags) error {
	stderr, stdout := command.ErrOrStderr(), command.OutOrStdout()
	ctx, release := flags.within(ctx)
	defer release()
	queued := client.QueuedJob{Job: job, Callback: flags.callback, Series: flags.series, Detach: flags.detach}
	if flags.detach {
		var printing sync.Mutex
		queued.Accepted = func(file string, invocation client.Invocation) {
			printing.Lock()
			defer printing.Unlock()
			_, _ = fmt.Fprintf(stdout, "%s\t%s\n", invocation.ID, file) // who does not read the ids can start this again
		}
	}
	display := &progressDisplay{out: stderr, columns: terminalColumns(stderr)}
	summary, err := caller.RunQueued(ctx, queued, func(p client.Progress) { display.show(p, time.Now()) })
	if err != nil {
		return err
	}
	display.end()
	for _, failure := range summary.Failures {
		fmt.Fprintf(stderr, "%s: %v\n", failure.File, failure.Err)
	}
	if summary.NotTried > 0 && (errors.Is(summary.EndedBy, context.Canceled) || errors.Is(summary.EndedBy, errWaited)) {
		return fmt.Errorf("stopped waiting with %d of %d files finished; what was accepted goes on, and the same command carries on without running it twice", summary.Done+summary.Skipped, summary.Total)
	}
	return verdict(job, summary)
}

// queueOne queues one call, and fetches its result unless that is left for later.
func queueOne(ctx context.Context, caller *client.Client, command *cobra.Command, function lightcone.FunctionName, params url.Values, flags callFlags) error {
	input, err := openInput(flags.in, command.InOrStdin())
	if err != nil {
		return err
	}
	keep, flush, err := outputOf(command, flags)
	if err != nil {
		return err
	}
	key, err := client.ContentKey(flags.series, function, params, input, flags.callback)
	if err != nil {
		return err
	}
	invocation, err := caller.Enqueue(ctx, function, params, input, client.Queueing{Key: key, Callback: flags.callback})
	if err != nil {
		return err
	}
	if flags.detach {
		_, err := fmt.Fprintln(command.OutOrStdout(), invocation.ID)
		return err
	}
	fmt.Fprintf(command.ErrOrStderr(), "accepted as %s\n", invocation.ID)
	waiting, release := flags.within(ctx)
	defer release()
	began := time.Now()
	answer, err := caller.Outcome(waiting, invocation.ID, keep)
	if waiting.Err() != nil && err != nil {
		return fmt.Errorf("stopped waiting; the call goes on: `lightcone invocation result %s` fetches what comes of it", invocation.ID)
	}
	if err != nil {
		return invocation.EndOfRepeat(err)
	}
	answer.BytesIn, answer.Took = input.Size, time.Since(began)
	if err := flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(command.ErrOrStderr(), queuedCallLine(invocation, answer))
	return err
}

// queuedCallLine is the line of a call that was accepted as invocation says: what an
// earlier run took is no part of the time that this one was waited for.
func queuedCallLine(accepted client.Invocation, answer client.Answer) string {
	if !accepted.Repeated() {
		return callLine(answer)
	}
	answer.Queue, answer.Exec, answer.CPU = 0, 0, 0
	return callLine(answer) + " · of an earlier run"
}
