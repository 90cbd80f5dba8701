package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lightcone/internal/retry"
)

const (
	// decisionBound is within what a step in load must have more workers asked for.
	decisionBound = 10 * time.Second

	fewRate   = 1       // calls per second for echo, which one worker of eight slots answers
	manyRate  = 70      // with those that come on top it is still enough, and no room is left
	stepDelay = "100ms" // each of them holds a slot for so long
)

// stepLoad calls echo, which has no worker, first now and then and after that so
// often that its first worker is nearly full. Nomad's count must go up soon, down
// slowly and to none in the end, and no call be refused.
func (d *drills) stepLoad(ctx context.Context) error {
	calls := load{
		url: frontDoorURL + "/function/echo?delay=" + stepDelay, key: d.key, body: []byte("hello"), rate: fewRate, patience: 30 * time.Second,
	}
	many := calls
	many.rate = manyRate
	began := time.Now()
	var second *tally
	first, err := calls.during(ctx, 0, func() error {
		if err := d.awaitCount(ctx, 1, decisionBound); err != nil {
			return err
		}
		if err := d.awaitInstances(ctx, "worker-echo", 1, 20*time.Second); err != nil {
			return err
		}
		d.note("the first call had a worker after %.1f s", time.Since(began).Seconds())
		if err := retry.Pause(ctx, 12*time.Second); err != nil { // its deployment ends
			return err
		}
		var err error
		second, err = many.during(ctx, 0, func() error {
			stepped := time.Now()
			if err := d.awaitCount(ctx, 2, decisionBound); err != nil {
				return err
			}
			d.note("%.1f s after the step from %d to %d calls a second, more workers were asked for", time.Since(stepped).Seconds(), fewRate, fewRate+manyRate)
			return retry.Pause(ctx, 20*time.Second)
		})
		return err
	})
	if err != nil {
		return err
	}
	ended := time.Now()
	for _, seen := range []*tally{first, second} {
		d.note("echo: %d calls, yield %.3f %%, p50 %.0f ms, p99 %.0f ms", seen.sent, seen.yield(), seen.milliseconds(50), seen.milliseconds(99))
		if seen.yield() < leastYield {
			return fmt.Errorf("the yield of echo was %.3f %%: %v", seen.yield(), seen.failures)
		}
	}
	if err := d.awaitCount(ctx, 0, 4*time.Minute); err != nil {
		return err
	}
	d.note("no worker any more %.0f s after the last call", time.Since(ended).Seconds())
	if time.Since(ended) < 20*time.Second {
		return fmt.Errorf("the workers went within %v: slowly is meant otherwise", time.Since(ended))
	}
	return nil
}

// awaitCount waits until echo has been given at least so many workers; for 0, none.
func (d *drills) awaitCount(ctx context.Context, workers int, bound time.Duration) error {
	last := -1
	err := waitUntil(ctx, bound, func() bool {
		count, err := d.nomad.Count(ctx, "worker-echo", "worker")
		last = count.Count
		return err == nil && (workers == 0 && last == 0 || workers > 0 && last >= workers)
	})
	if err != nil {
		return fmt.Errorf("echo has %d workers, waited for %d: %w", last, workers, err)
	}
	return nil
}

// resizeFolder dispatches resize-bulk over every photograph of the sample's folder.
func (d *drills) resizeFolder(ctx context.Context) error {
	in, out := filepath.Join(d.photographs(), "in"), filepath.Join(d.photographs(), "out")
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.CopyFS(in, os.DirFS(filepath.Dir(sample))); err != nil && !os.IsExist(err) {
		return err
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(out, 0o777); err != nil { // the batch runs as nobody
		return err
	}
	wanted, err := countFiles(in)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.nomad.Dispatch(ctx, "resize-bulk", map[string]string{
		"in": "file:///photographs/in", "out": "file:///photographs/out", "params": "width=300", "run": "drill",
	}); err != nil {
		return err
	}
	done := 0
	err = waitUntil(ctx, 2*time.Minute, func() bool {
		done, err = countFiles(out)
		return err == nil && done == wanted
	})
	if err != nil {
		return fmt.Errorf("%d of %d photographs are resized: %w", done, wanted, err)
	}
	d.note("%d photographs resized in %.0f s", done, time.Since(began).Seconds())
	return nil
}

// countFiles counts the photographs below folder.
func countFiles(folder string) (int, error) {
	count := 0
	err := filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".bulk" {
			return fs.SkipDir
		}
		if ext := filepath.Ext(entry.Name()); !entry.IsDir() && (ext == ".jpg" || ext == ".png" || ext == ".webp") {
			count++
		}
		return nil
	})
	return count, err
}
