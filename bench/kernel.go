package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// kernelReport is what functions/resize/kernelbench prints.
type kernelReport struct {
	CPU       map[string]float64 `json:"cpu_ms"`
	Threads   float64            `json:"bimg_threads_per_second"`
	Processes float64            `json:"bimg_processes_per_second"`
}

// runKernel runs one round of the kernel benchmark; parallel above 1 also
// measures raw bimg on that many threads and processes, for so long each.
func runKernel(ctx context.Context, photo string, calls, parallel int, length time.Duration) (kernelReport, error) {
	command := exec.CommandContext(ctx, kernelBenchPath,
		"--photo", photo, "--width", "300", "--rounds", "1", "--calls", strconv.Itoa(calls),
		"--parallel", strconv.Itoa(parallel), "--seconds", strconv.FormatFloat(length.Seconds(), 'f', 1, 64))
	output, err := command.Output()
	if err != nil {
		return kernelReport{}, fmt.Errorf("%s: %w", command, err)
	}
	var r kernelReport
	if err := json.Unmarshal(output, &r); err != nil {
		return kernelReport{}, fmt.Errorf("%s printed %q: %w", command, output, err)
	}
	return r, nil
}

// kernelBenchPath is where `make bench` builds the kernel benchmark, which
// needs cgo and so is a program of its own.
const kernelBenchPath = "bin/kernelbench"

// morePhotos are measured beside the main one: other sizes and subjects.
var morePhotos = []string{"YellowFlower.jpg", "LadyBird.jpg", "Wood.jpg", "RainDrops.jpg", "FreshFlower.jpg"}

// measureKernel is (a): CPU time per resize, against raw bimg and the floor.
func measureKernel(ctx context.Context, s settings, r *report) error {
	r.heading("(a) kernel: CPU per resize to 300 px, one thread")
	samples := make(map[string][]float64)
	for range s.rounds {
		one, err := runKernel(ctx, s.photo, 40, 1, time.Second)
		if err != nil {
			return err
		}
		for name, cpu := range one.CPU {
			samples[name] = append(samples[name], cpu)
		}
	}
	const section = "kernel"
	r.add(section, "functions/resize", "ms", "", samples["lightcone"]...)
	r.add(section, "functions/resize, turned (its second route)", "ms", "", samples["develop"]...)
	r.add(section, "raw bimg in-process", "ms", "", samples["bimg"]...)
	r.add(section, "floor: djpeg -scale | cjpeg, as processes", "ms", "", samples["floor"]...)
	r.add(section, "functions/resize : raw bimg", "x", "at most 1.05", ratios(samples["lightcone"], samples["bimg"])...)
	r.add(section, "functions/resize : floor", "x", "at most 1.6", ratios(samples["lightcone"], samples["floor"])...)
	for _, name := range morePhotos {
		var against []float64
		for range min(s.rounds, 3) {
			one, err := runKernel(ctx, filepath.Join(filepath.Dir(s.photo), name), 15, 1, time.Second)
			if err != nil {
				return err
			}
			against = append(against, one.CPU["lightcone"]/one.CPU["bimg"])
		}
		r.add(section, name+": functions/resize : raw bimg", "x", "", against...)
	}
	return nil
}
