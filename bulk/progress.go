package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Progress is how a share stands. Done + Skipped + Failed + GivenUp is Total once
// the share has gone through all its objects.
type Progress struct {
	Job     string `json:"job"`
	Share   int    `json:"share"`
	Of      int    `json:"of"`
	Total   int64  `json:"total"`    // the share's objects; means nothing before Counted
	Counted bool   `json:"counted"`  // the listing has been gone through
	Done    int64  `json:"done"`     // outputs written by this run
	Skipped int64  `json:"skipped"`  // outputs that were there already
	Failed  int64  `json:"failed"`   // objects that get no output: FailuresKey lists them
	GivenUp int64  `json:"given_up"` // objects that the platform or storage failed at, listed there too

	// What all runs of the share have used, failed attempts included.
	BytesIn  int64         `json:"bytes_in"`
	BytesOut int64         `json:"bytes_out"`
	CPU      time.Duration `json:"cpu_ns"`
	Runs     int           `json:"runs"`

	Started  time.Time `json:"started"`            // of the first run
	Updated  time.Time `json:"updated"`            // when this was written
	Finished time.Time `json:"finished,omitzero"`  // when nothing was left to do
	EndedBy  string    `json:"ended_by,omitempty"` // why this run ended before that
}

const (
	longestProgress = 64 << 10 // bytes, when read back
	logEvery        = 5 * time.Second

	// mostUnsaved is how often in a row the journal may not be written before the
	// share ends: what it does meanwhile would be done again.
	mostUnsaved = 10

	// finishBound is how long the last writes may take together, within what Nomad's
	// kill_timeout should allow.
	finishBound = 20 * time.Second
)

func readProgress(ctx context.Context, out Store, key string) (Progress, error) {
	content, err := out.Read(ctx, key, longestProgress, nil)
	if err != nil {
		return Progress{}, err
	}
	var p Progress
	if err := json.Unmarshal(content, &p); err != nil {
		return Progress{}, fmt.Errorf("the progress in %s cannot be read; delete it and start the share again: %w", key, err)
	}
	return p, nil
}

// keep writes the journal, the failures and the progress now and then, and logs,
// until ctx ends.
func (r *running) keep(ctx context.Context) {
	ticker := time.NewTicker(r.config.ReportEvery)
	defer ticker.Stop()
	logged, unsaved := r.began, 0
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := r.save(ctx); err == nil {
			unsaved = 0
		} else if unsaved++; unsaved >= mostUnsaved {
			r.end(fmt.Errorf("what is finished could not be recorded %d times in a row: %w", unsaved, err))
		}
		if now := time.Now(); now.Sub(logged) >= logEvery {
			logged = now
			r.log("share under way")
		}
	}
}

// save writes the journal first, so that no progress tells of what a restart
// would have to do again.
func (r *running) save(ctx context.Context) error {
	r.mu.Lock()
	p := r.tally.Progress
	r.mu.Unlock()
	if err := r.journal.save(ctx); err != nil {
		return err
	}
	if err := r.failures.save(ctx); err != nil {
		return err
	}
	return r.writeProgress(ctx, p)
}

func (r *running) saveProgress(ctx context.Context) error {
	return r.patience.try(ctx, func() (bool, error) {
		err := r.writeProgress(ctx, r.tally.Progress)
		return err != nil, err
	})
}

func (r *running) writeProgress(ctx context.Context, p Progress) error {
	p.Updated = time.Now()
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return r.config.Out.Write(ctx, progressKey(p.Job, p.Share), "application/json", append(content, '\n'))
}

// finish writes everything once more, when no worker is left. The caller's
// context may have ended: this much is still done.
func (r *running) finish(outcome error) error {
	ctx, cancel := context.WithTimeout(context.Background(), finishBound)
	defer cancel()
	now := time.Now()
	r.tally.Updated = now
	if outcome == nil {
		r.tally.Finished = now
	} else {
		r.tally.EndedBy = clip(outcome.Error())
	}
	err := r.patience.try(ctx, func() (bool, error) {
		err := r.save(ctx)
		return err != nil, err
	})
	if err != nil {
		r.tally.Finished = time.Time{}
		return fmt.Errorf("bulk: what share %d of %d has finished could not be recorded: %w", r.tally.Share, r.tally.Of, err)
	}
	r.log("share ended")
	return nil
}

func (r *running) log(what string) {
	r.mu.Lock()
	p := r.tally.Progress
	r.mu.Unlock()
	rate := float64(p.Done) / max(time.Since(r.began).Seconds(), 1e-3)
	r.config.Logger.Info(what, "share", p.Share, "of", p.Of, "total", p.Total, "counted", p.Counted,
		"done", p.Done, "skipped", p.Skipped, "failed", p.Failed, "given-up", p.GivenUp,
		"per-second", fmt.Sprintf("%.1f", rate), "cpu", p.CPU.Round(time.Millisecond))
}

// sweep removes what a killed run may have left beside the outputs.
func (r *running) sweep(ctx context.Context) {
	sweeper, can := r.config.Out.(Sweeper)
	if !can {
		return
	}
	removed, err := sweeper.Sweep(ctx, r.began)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.config.Logger.Warn("what an interrupted run left behind could not be removed", "error", err)
	}
	if removed > 0 {
		r.config.Logger.Info("removed what an interrupted run left half-written", "files", removed)
	}
}
