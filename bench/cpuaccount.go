package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// measureCPUAccount is (i): the CPU time that calls are charged, as the metrics add
// it up, beside the kernel's account of the same processes over the same calls: all
// their threads' time, by clock_gettime(2), in nanoseconds.
func measureCPUAccount(ctx context.Context, s settings, r *report) error {
	t, photo, err := startResizing(ctx, s.photo)
	if err != nil {
		return err
	}
	defer t.stop()
	defer photo.close()
	small, err := newRequest(t.api, "/function/echo", t.key, make([]byte, 1000))
	if err != nil {
		return err
	}
	defer small.close()
	r.heading("(i) CPU charged to calls : the kernel's account of their processes")
	const section = "cpu-account"
	for _, function := range []struct {
		name, aim, outsideAim string
		message               request
	}{
		{"resize", "0.99 to 1", "", photo},
		{"echo", "", "under 100", small},
	} {
		start, err := t.accountOf(ctx, function.name)
		if err != nil {
			return err
		}
		var ratio, outside []float64
		for range s.rounds {
			before, err := t.accountOf(ctx, function.name)
			if err != nil {
				return err
			}
			seen := closedLoop(ctx, t.api, function.message, r.Cores, s.duration, maxCalls)
			if err := seen.check(); err != nil {
				return err
			}
			after, err := t.accountOf(ctx, function.name)
			if err != nil {
				return err
			}
			if !slices.Equal(before.pids, after.pids) {
				return fmt.Errorf("the processes of %s were %v, then %v", function.name, before.pids, after.pids)
			}
			charged, kernel := after.charged-before.charged, (after.kernel - before.kernel).Seconds()
			ratio = append(ratio, charged/kernel)
			outside = append(outside, (kernel-charged)*1e6/float64(seen.answered.TotalCount()))
		}
		r.add(section, function.name+": charged : kernel's account", "x", function.aim, ratio...)
		r.add(section, function.name+": charged to nobody, a call", "us", function.outsideAim, outside...)
		r.add(section, function.name+": start of a process, charged to nobody", "ms", "", milli(start.kernel)/float64(len(start.pids)))
	}
	return nil
}

func milli(d time.Duration) float64 { return d.Seconds() * 1e3 }

// cpuAccount is what has been used for a function since its processes started.
type cpuAccount struct {
	pids    []int
	kernel  time.Duration
	charged float64 // seconds
}

// accountOf waits until no process of the function uses CPU time, and reads both sides.
func (t *tree) accountOf(ctx context.Context, function string) (cpuAccount, error) {
	a := cpuAccount{pids: t.of(function).PIDs}
	slices.Sort(a.pids)
	err := t.await(ctx, func() bool {
		last := a.kernel
		time.Sleep(25 * time.Millisecond) // more than two ticks of the slowest kernel: a running thread shows
		a.kernel = 0
		for _, pid := range a.pids {
			used, err := cpuOf(pid)
			if err != nil {
				return false
			}
			a.kernel += used
		}
		return a.kernel == last && a.kernel > 0
	})
	if err != nil {
		return a, err
	}
	a.charged, err = t.metric(ctx, `lightcone_function_cpu_seconds_total{function="`+function+`"}`)
	return a, err
}

// metric reads one series at the management listener.
func (t *tree) metric(ctx context.Context, series string) (float64, error) {
	key, err := os.ReadFile(filepath.Join(t.dir, "operator.key"))
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.manage+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindSubmatch(page)
	if found == nil {
		return 0, fmt.Errorf("the metrics, status %d, have no %s", response.StatusCode, series)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
