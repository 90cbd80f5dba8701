package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"lightcone"
	"lightcone/functions"
	"lightcone/queue"
)

const (
	acceptors   = 64      // calls on their way into the queue at once, of 1 KB
	fewAcceptor = 16      // of 256 KB
	kilobyte    = 1 << 10 // a short input
	quarterMega = 256 << 10
	backlogSize = 100_000
	queuedName  = lightcone.FunctionName("queued")
)

// measureQueue is (g): what three nodes on this machine accept with fsync before every
// answer, and how long they are without a leader. The reference is this disk.
func measureQueue(ctx context.Context, s settings, r *report) error {
	r.heading("(g) queue: three nodes on this machine, fsync before every answer")
	n, err := startNodes()
	defer n.stop()
	if err != nil {
		return err
	}
	client, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, size := range []struct {
		name      string
		bytes, at int
		rate      float64 // that is aimed at
		aim       string
	}{
		{"256 KB", quarterMega, fewAcceptor, 300, "at least 300, or 0.7 of the disk"},
		{"1 KB", kilobyte, acceptors, 2000, "at least 2000"},
	} {
		// What is accepted waits: how much does, costs nothing.
		if err := drain(ctx, client); err != nil {
			return err
		}
		if err := measureAccepting(ctx, s, r, n, client, size.name, size.bytes, size.at, size.rate, size.aim); err != nil {
			return err
		}
	}
	if err := measureFailover(ctx, s, r, n, client); err != nil {
		return err
	}
	return measureBacklog(ctx, r, n, client)
}

func measureAccepting(ctx context.Context, s settings, r *report, n *nodes, client *queue.Client, name string, bytes, at int, aimed float64, aim string) error {
	const section = "queue"
	var disk, rate, half99 []float64
	for range s.rounds {
		bound, err := diskBound(n.dir, bytes, s.duration)
		if err != nil {
			return err
		}
		disk = append(disk, bound)
		seen, err := accept(ctx, client, bytes, at, 0, s.duration)
		if err != nil {
			return err
		}
		rate = append(rate, float64(seen.TotalCount())/s.duration.Seconds())
		if seen, err = accept(ctx, client, bytes, at, aimed/2, s.duration); err != nil {
			return err
		}
		half99 = append(half99, milliseconds(seen, 99))
	}
	r.add(section, name+": accepted", "/s", aim, rate...)
	r.add(section, name+": the disk, three files of three processes' bytes", "/s", "", disk...)
	r.add(section, name+": accepted : the disk", "x", "", ratios(rate, disk)...)
	r.add(section, fmt.Sprintf("%s: p99 of accepting %.0f/s", name, aimed/2), "ms", "under 50", half99...)
	return nil
}

// diskBound is how often a second this disk takes what one accepted call makes three
// nodes write, the input once into each log and once into each stream, in three files
// at once, with an fsync of each log for every call.
func diskBound(dir string, size int, lasting time.Duration) (float64, error) {
	var writing sync.WaitGroup
	var calls atomic.Int64
	failures := make([]error, queueNodes)
	began := time.Now()
	for i := range queueNodes {
		writing.Go(func() {
			path := filepath.Join(dir, fmt.Sprintf("disk-%d", i))
			defer os.Remove(path)
			file, err := os.Create(path)
			if err != nil {
				failures[i] = err
				return
			}
			defer file.Close()
			block := make([]byte, 2*size)
			for time.Since(began) < lasting {
				if _, err := file.Write(block); err != nil {
					failures[i] = err
					return
				}
				if err := unix.Fdatasync(int(file.Fd())); err != nil {
					failures[i] = err
					return
				}
				calls.Add(1)
			}
		})
	}
	writing.Wait()
	return float64(calls.Load()) / queueNodes / time.Since(began).Seconds(), errors.Join(failures...)
}

// accept queues calls for a while: as fast as it can from at goroutines, or at a rate,
// whatever becomes of those before. It returns the latencies of all, in microseconds,
// from when each should have begun.
func accept(ctx context.Context, client *queue.Client, size, at int, rate float64, lasting time.Duration) (*hdrhistogram.Histogram, error) {
	body := make([]byte, size)
	if _, err := rand.Read(body); err != nil {
		return nil, err
	}
	began := time.Now()
	var next atomic.Int64
	seen := make([]*hdrhistogram.Histogram, at)
	failures := make([]error, at)
	var accepting sync.WaitGroup
	for i := range at {
		seen[i] = hdrhistogram.New(1, 120_000_000, 3)
		accepting.Go(func() {
			for ctx.Err() == nil {
				due := time.Now()
				if rate > 0 {
					due = began.Add(time.Duration(float64(next.Add(1)) / rate * float64(time.Second)))
					time.Sleep(time.Until(due))
				}
				if due.Sub(began) >= lasting {
					return
				}
				if failures[i] = acceptOne(ctx, client, body); failures[i] != nil {
					return
				}
				_ = seen[i].RecordValue(time.Since(due).Microseconds()) // within the histogram's two minutes
			}
		})
	}
	accepting.Wait()
	for _, other := range seen[1:] {
		seen[0].Merge(other)
	}
	return seen[0], errors.Join(failures...)
}

func acceptOne(ctx context.Context, client *queue.Client, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, err := lightcone.NewCallID(time.Now(), rand.Reader)
	if err != nil {
		return err
	}
	_, err = client.Accept(ctx, &functions.Queued{
		Call:    functions.Call{ID: id, Tenant: lightcone.TenantID(fmt.Sprintf("tenant-%d", id[15]%32)), Function: queuedName, Body: body},
		Timeout: time.Minute,
	})
	return err
}

// drain runs all that waits, with a function that does nothing.
func drain(ctx context.Context, client *queue.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return working(ctx, client, func() error {
		for ctx.Err() == nil {
			left, err := waiting(ctx, client)
			if err == nil && left == 0 {
				return nil
			}
			time.Sleep(100 * time.Millisecond)
		}
		return ctx.Err()
	})
}

// working runs queued calls while do runs.
func working(ctx context.Context, client *queue.Client, do func() error) error {
	ctx, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() {
		worked <- client.Work(ctx, queue.WorkConfig{
			Function: queuedName, AtOnce: 128, Room: func() bool { return true },
			Run: func(_ context.Context, _ *functions.Call, answer *functions.Answer) error {
				answer.Status = 200
				return nil
			},
		})
	}()
	err := do()
	stop()
	return errors.Join(err, <-worked)
}

// waiting is how many calls have not ended.
func waiting(ctx context.Context, client *queue.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	backlogs, err := client.Backlogs(ctx)
	left := 0
	for _, b := range backlogs {
		left += b.Waiting + b.Running
	}
	return left, err
}
