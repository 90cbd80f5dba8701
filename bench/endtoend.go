package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const resizePath = "/function/resize?width=300&quality=80"

// startResizing starts a tree and makes the call that resizes the photograph.
func startResizing(ctx context.Context, name string) (*tree, request, error) {
	photo, err := os.ReadFile(name)
	if err != nil {
		return nil, request{}, err
	}
	t, err := startTree(ctx)
	if err != nil {
		return nil, request{}, err
	}
	message, err := newRequest(t.api, resizePath, t.key, photo)
	if err != nil {
		t.stop()
	}
	return t, message, err
}

// measureEndToEnd is (b): the same photograph over HTTP, through the front door,
// against raw bimg on all cores in the same minute.
func measureEndToEnd(ctx context.Context, s settings, r *report) error {
	t, message, err := startResizing(ctx, s.photo)
	if err != nil {
		return err
	}
	defer t.stop()
	defer message.close()
	r.heading(fmt.Sprintf("(b) end to end over HTTP: %d KB in, load from the same cores", message.length/1000))
	connections := 2 * r.Cores
	closedLoop(ctx, t.api, message, connections, time.Second, maxCalls) // warm
	var rate, raw, apart, p50, p99, p999, client []float64
	for range s.rounds {
		kernel, err := runKernel(ctx, s.photo, 1, r.Cores, s.duration)
		if err != nil {
			return err
		}
		before, err := cpuOf(os.Getpid())
		if err != nil {
			return err
		}
		seen := closedLoop(ctx, t.api, message, connections, s.duration, maxCalls)
		if err := seen.check(); err != nil {
			return err
		}
		after, err := cpuOf(os.Getpid())
		if err != nil {
			return err
		}
		raw = append(raw, kernel.Threads)
		apart = append(apart, kernel.Processes)
		rate = append(rate, seen.rate())
		p50 = append(p50, milliseconds(seen.answered, 50))
		p99 = append(p99, milliseconds(seen.answered, 99))
		p999 = append(p999, milliseconds(seen.answered, 99.9))
		client = append(client, (after-before).Seconds()*1e6/float64(seen.answered.TotalCount()))
	}
	const section = "end-to-end"
	r.add(section, "calls answered", "/s", "", rate...)
	r.add(section, "raw bimg in-process, a thread a core", "/s", "", raw...)
	r.add(section, "raw bimg in a process a core", "/s", "", apart...)
	r.add(section, "calls answered : raw bimg in-process", "x", "at least 1.0", ratios(rate, raw)...)
	r.add(section, "calls answered : raw bimg in processes", "x", "", ratios(rate, apart)...)
	r.add(section, fmt.Sprintf("p50 at the client, %d connections", connections), "ms", "", p50...)
	r.add(section, "p99", "ms", "under 500", p99...)
	r.add(section, "p99.9", "ms", "", p999...)
	r.add(section, "the load's own CPU per call", "us", "", client...)
	return nil
}

// maxCalls is more than any timed measurement makes.
const maxCalls = 1 << 20
