package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"time"
)

// measureMemory is (e): resident memory at idle, under load, and over a great
// many calls.
func measureMemory(ctx context.Context, s settings, r *report) error {
	small, err := smallPhoto()
	if err != nil {
		return err
	}
	t, message, err := startResizing(ctx, s.photo)
	if err != nil {
		return err
	}
	defer t.stop()
	defer message.close()
	r.heading("(e) memory, resident")
	const section = "memory"
	main, slots, err := t.memory()
	if err != nil {
		return err
	}
	r.add(section, "gateway and supervisor, idle", "MiB", "", main)
	r.add(section, "a process of resize, idle", "MiB", "", slots...)

	for range 2 { // the second time shows whether the first was the last of the growth
		if err := closedLoop(ctx, t.api, message, 2*r.Cores, s.duration, maxCalls).check(); err != nil {
			return err
		}
	}
	if main, slots, err = t.memory(); err != nil {
		return err
	}
	r.add(section, "gateway and supervisor, under load of the photograph", "MiB", "", main)
	r.add(section, "a process of resize, under that load", "MiB", "", slots...)

	thumbnail, err := newRequest(t.api, "/function/resize?width=64", t.key, small)
	if err != nil {
		return err
	}
	defer thumbnail.close()
	const parts = 10
	var first, last, firstSlots, lastSlots float64
	start := time.Now()
	for part := range parts {
		seen := closedLoop(ctx, t.api, thumbnail, 2*r.Cores, 10*time.Minute, s.steady/parts)
		if err := seen.check(); err != nil {
			return err
		}
		if main, slots, err = t.memory(); err != nil {
			return err
		}
		if part == 0 {
			first, firstSlots = main, sum(slots)
		}
		last, lastSlots = main, sum(slots)
	}
	fmt.Printf("  (%d calls with a photograph of %d bytes took %.0f s)\n", s.steady, len(small), time.Since(start).Seconds())
	r.add(section, fmt.Sprintf("gateway and supervisor, after %d calls", s.steady/parts), "MiB", "", first)
	r.add(section, fmt.Sprintf("gateway and supervisor, after %d calls", s.steady), "MiB", "", last)
	r.add(section, fmt.Sprintf("all processes of resize, after %d calls", s.steady/parts), "MiB", "", firstSlots)
	r.add(section, fmt.Sprintf("all processes of resize, after %d calls", s.steady), "MiB", "", lastSlots)
	r.add(section, "growth over the last nine tenths", "x", "flat", (last+lastSlots)/(first+firstSlots))
	if crashes := t.of("resize").Crashes; crashes != 0 {
		return fmt.Errorf("%d processes crashed", crashes)
	}
	return nil
}

// memory is the resident memory, in MiB, of the tree's main process and of each
// process of resize.
func (t *tree) memory() (main float64, slots []float64, err error) {
	if main, err = residentMiB(t.pid()); err != nil {
		return 0, nil, err
	}
	for _, pid := range t.of("resize").PIDs {
		one, err := residentMiB(pid)
		if err != nil {
			return 0, nil, err
		}
		slots = append(slots, one)
	}
	if len(slots) == 0 {
		return 0, nil, fmt.Errorf("the tree names no process of resize")
	}
	return main, slots, nil
}

func sum(numbers []float64) (total float64) {
	for _, n := range numbers {
		total += n
	}
	return total
}

// smallPhoto is a JPEG of 320 by 200 pixels that compresses about as a
// photograph does: many calls of it fit a short time.
func smallPhoto() ([]byte, error) {
	canvas := image.NewRGBA(image.Rect(0, 0, 320, 200))
	noise := uint32(1)
	for y := range 200 {
		for x := range 320 {
			noise = noise*1664525 + 1013904223 // Numerical Recipes' generator
			grain := uint8(noise >> 28)
			canvas.SetRGBA(x, y, color.RGBA{R: uint8(x*3/4) + grain, G: uint8(y) + grain, B: uint8(x+y) / 3, A: 255})
		}
	}
	var out bytes.Buffer
	err := jpeg.Encode(&out, canvas, &jpeg.Options{Quality: 85})
	return out.Bytes(), err
}
