package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// decisionBound is within what a step in load must have more workers asked for.
	decisionBound = 10 * time.Second

	stepRate  = 50
	stepDelay = "100ms" // each call of the step holds a slot for so long: 5 slots in all
)

// stepLoad calls echo, which has no worker, so often that it needs several, and
// watches Nomad's count go up soon and down slowly, to none.
func (d *drills) stepLoad(ctx context.Context) error {
	calls := load{
		url: frontDoorURL + "/function/echo?delay=" + stepDelay, key: d.key, body: []byte("hello"), rate: stepRate, patience: 30 * time.Second,
	}
	began := time.Now()
	most := 0
	seen, err := calls.during(ctx, 0, func() error {
		if err := d.awaitCount(ctx, 1, decisionBound); err != nil {
			return err
		}
		d.note("first worker asked for after %.1f s", time.Since(began).Seconds())
		for time.Since(began) < 40*time.Second {
			count, err := d.nomad.Count(ctx, "worker-echo", "worker")
			if err != nil {
				return err
			}
			if count.Count > most {
				most = count.Count
				d.note("%d workers asked for after %.1f s", most, time.Since(began).Seconds())
			}
			if err := pauseFor(ctx, 200*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.note("echo: %d calls, %d not answered %v, p50 %.0f ms, p99 %.0f ms", seen.sent, seen.sent-seen.answered, seen.failures, seen.milliseconds(50), seen.milliseconds(99))
	if most < 2 {
		return fmt.Errorf("echo had at most %d workers under a load of five slots", most)
	}
	ended := time.Now()
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
