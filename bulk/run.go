package bulk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"lightcone"
)

// Run works through a share and returns when every object of it has its output
// or a line in the failures' list. Its error says why it ended before: ctx ended,
// the storage or the platform failed too often, or every object would fail alike.
// Started again with the same job, it carries on.
//
// When ctx ends, calls under way run to their end and their outputs are written;
// no further one begins. The Progress is the last one written.
func Run(ctx context.Context, config Config) (Progress, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return Progress{}, err
	}
	began := time.Now()
	id, err := lightcone.NewCallID(began, rand.Reader)
	if err != nil {
		return Progress{}, err
	}
	r := &running{
		config: config, work: workOf(config.Function.Name, config.Params), began: began,
		patience: patience{policy: config.Retry, budget: newBudget()},
		slots:    make(chan struct{}, config.Slots),
		journal: newLines(config.Out, func(part int) string {
			return journalKey(config.Job, config.Share, config.Shares, id.String(), part)
		}),
		failures: newLines(config.Out, func(part int) string { return failuresKey(config.Job, config.Share, part) }),
	}
	interrupted, err := r.begin(ctx)
	if err != nil {
		return r.tally.Progress, fmt.Errorf("bulk: share %d of %d could not begin: %w", config.Share, config.Shares, err)
	}
	err = r.whole(ctx)
	if saveErr := r.finish(err); saveErr != nil {
		return r.tally.Progress, errors.Join(err, saveErr)
	}
	if interrupted {
		r.sweep(ctx)
	}
	return r.tally.Progress, err
}

// running is a share under way.
type running struct {
	config   Config
	work     work
	began    time.Time
	patience patience
	slots    chan struct{} // holds one for each call that runs
	history  history       // read only once the workers run
	journal  *lines
	failures *lines
	end      context.CancelCauseFunc

	mu    sync.Mutex
	tally tally
}

// begin reads what earlier runs have left, and clears their list of failures. It
// says whether the last of them was cut short.
func (r *running) begin(ctx context.Context) (interrupted bool, err error) {
	c := r.config
	err = r.patience.try(ctx, func() (bool, error) {
		var err error
		r.history, err = readHistory(ctx, c.Out, c.Job, c.Share, c.Shares)
		return err != nil, err
	})
	if err != nil {
		return false, err
	}
	earlier, err := r.earlier(ctx)
	if err != nil {
		return false, err
	}
	r.tally = newTally(c, earlier, r.began)
	if err := r.clearFailures(ctx); err != nil {
		return false, err
	}
	return earlier.Runs > 0 && earlier.Finished.IsZero(), r.saveProgress(ctx)
}

// earlier is the progress that the last run left, zero if there is none.
func (r *running) earlier(ctx context.Context) (p Progress, err error) {
	err = r.patience.try(ctx, func() (bool, error) {
		var err error
		p, err = readProgress(ctx, r.config.Out, progressKey(r.config.Job, r.config.Share))
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		return err != nil, err
	})
	return p, err
}

// clearFailures empties the lists of earlier runs: what still fails is listed anew.
func (r *running) clearFailures(ctx context.Context) error {
	for part := 0; ; part++ {
		key := failuresKey(r.config.Job, r.config.Share, part)
		err := r.patience.try(ctx, func() (bool, error) {
			size, err := r.config.Out.Size(ctx, key)
			if err == nil && size > 0 {
				err = r.config.Out.Write(ctx, key, "application/x-ndjson", nil)
			}
			return err != nil && !errors.Is(err, ErrNotFound), err
		})
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// whole hands every object of the share to the workers and waits for them.
func (r *running) whole(ctx context.Context) error {
	asked := ctx
	ctx, r.end = context.WithCancelCause(ctx)
	defer r.end(nil)
	stopCounting := r.beside(ctx, r.count)
	stopKeeping := r.beside(ctx, r.keep)
	defer stopKeeping()

	candidates := make(chan candidate)
	var workers sync.WaitGroup
	for range r.config.Slots + r.config.Ahead {
		workers.Go(func() {
			var s scratch
			for c := range candidates {
				r.one(ctx, c, &s)
			}
		})
	}
	err := r.list(ctx, func(c candidate) error {
		select {
		case candidates <- c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(candidates)
	stopCounting()
	workers.Wait()
	return r.verdict(asked, context.Cause(ctx), err)
}

// beside runs act in a goroutine until it returns or the returned function is
// called, which waits for it.
func (r *running) beside(ctx context.Context, act func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		act(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// verdict is how the share went as a whole: asked is what the caller may have
// ended, cause what did end the work, listing the listing's error.
func (r *running) verdict(asked context.Context, cause, listing error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.tally
	switch {
	case cause != nil && cause == context.Cause(asked):
		return fmt.Errorf("bulk: share %d of %d was interrupted with %d of its objects finished; start it again to carry on: %w", t.Share, t.Of, t.Done+t.Skipped+t.Failed, cause)
	case cause != nil:
		return fmt.Errorf("bulk: share %d of %d ended early: %w", t.Share, t.Of, cause)
	case listing != nil:
		return fmt.Errorf("bulk: share %d of %d: %w", t.Share, t.Of, listing)
	}
	t.Total, t.Counted = t.Done+t.Skipped+t.Failed+t.GivenUp, true
	if t.GivenUp > 0 {
		return fmt.Errorf("bulk: share %d of %d is not finished: %d objects could not be read, run or written, as %s says; start it again", t.Share, t.Of, t.GivenUp, FailuresKey(t.Job, t.Share))
	}
	if t.refusedAlike(1) {
		return r.refusal()
	}
	return nil
}

// list visits the share's objects. A listing that breaks is begun again, and
// what has been visited is passed over.
func (r *running) list(ctx context.Context, visit func(candidate) error) error {
	var names namer
	var failed error // not the storage's: no other attempt
	mine := func(c candidate) {
		if ShareOf(c.Key, r.config.Shares) == r.config.Share {
			failed = visit(c)
		}
	}
	err := r.patience.try(ctx, func() (bool, error) {
		seen := names.waiting.Key
		reached := !names.begun
		err := r.config.In.List(ctx, "", func(o Object) error {
			if !reached && o.Key <= seen || !r.isInput(o.Key) {
				return nil
			}
			reached = true
			settled, any, err := names.next(o)
			if failed = err; any && err == nil {
				mine(settled)
			}
			return failed
		})
		return err != nil && failed == nil, err
	})
	if err != nil {
		return err
	}
	if c, any := names.last(); any {
		mine(c)
	}
	return failed
}

// isInput leaves out what a store uses to mark a folder, what jobs write about
// themselves, and the output where it lies in the input.
func (r *running) isInput(key string) bool {
	return key != "" && !strings.HasSuffix(key, "/") && !strings.HasPrefix(key, ownFolder) &&
		(r.config.Except == "" || !strings.HasPrefix(key, r.config.Except))
}

// count finds out how many objects the share has, beside the work on them.
func (r *running) count(ctx context.Context) {
	var total int64
	err := r.list(ctx, func(candidate) error {
		total++
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			r.config.Logger.Warn("the share's objects could not be counted", "error", err)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Total, r.tally.Counted = total, true
}
