// Command kernelbench measures what one resize costs, against the same work done
// by bimg alone and by libjpeg's own tools. It prints one JSON object:
//
//	{"photo","width","rounds","calls",
//	 "cpu_ms":{"lightcone","develop","bimg","floor"},   medians over rounds, CPU ms per resize
//	 "bimg_threads_per_second",                         resizes a second, medians over rounds, with
//	 "bimg_processes_per_second"}                       --parallel above 1: in one process, in several
//
// Within a round the contestants take turns, so that a busy moment of the
// machine hits all of them. "floor" is djpeg, decoding to the smallest size of at
// least the width that libjpeg can, into cjpeg; it does no resampling at all.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/jpeg"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/h2non/bimg"
	"golang.org/x/sys/unix"

	"lightcone/functions/resize"
)

const quality = 80 // of all contestants

type report struct {
	Photo              string             `json:"photo"`
	Width              int                `json:"width"`
	Rounds             int                `json:"rounds"`
	Calls              int                `json:"calls"`
	CPUms              map[string]float64 `json:"cpu_ms"`
	ThreadsPerSecond   float64            `json:"bimg_threads_per_second,omitempty"`
	ProcessesPerSecond float64            `json:"bimg_processes_per_second,omitempty"`
}

func main() {
	photo := flag.String("photo", "", "a JPEG `file` to resize")
	width := flag.Int("width", 300, "output width in `px`")
	rounds := flag.Int("rounds", 5, "rounds; the median is reported")
	calls := flag.Int("calls", 20, "resizes per contestant in a round")
	parallel := flag.Int("parallel", 1, "above 1, also measure bimg's throughput on so many threads and processes")
	seconds := flag.Float64("seconds", 2, "length of each throughput measurement")
	worker := flag.Int("worker", 0, "be one of --parallel's processes, with so many threads")
	flag.Parse()
	length := time.Duration(*seconds * float64(time.Second))
	if *worker > 0 {
		if err := work(*photo, *width, *worker, length); err != nil {
			fmt.Fprintln(os.Stderr, "kernelbench: worker:", err)
			os.Exit(1)
		}
		return
	}
	result, err := measure(*photo, *width, *rounds, *calls, *parallel, length)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernelbench:", err)
		os.Exit(1)
	}
}

func measure(photo string, width, rounds, calls, parallel int, length time.Duration) (report, error) {
	input, err := os.ReadFile(photo)
	if err != nil {
		return report{}, fmt.Errorf("read --photo: %w", err)
	}
	if rounds < 1 || calls < 1 {
		return report{}, fmt.Errorf("--rounds %d and --calls %d must be at least 1", rounds, calls)
	}
	scale, err := floorScale(input, width)
	if err != nil {
		return report{}, fmt.Errorf("photo %s: %w", photo, err)
	}
	plain, err := resize.ParseParams(fmt.Sprintf("width=%d&quality=%d", width, quality))
	if err != nil {
		return report{}, err
	}
	// Half a turn costs next to nothing and takes the develop route.
	develop, err := resize.ParseParams(fmt.Sprintf("width=%d&quality=%d&rotate=180", width, quality))
	if err != nil {
		return report{}, err
	}
	lightcone := func(p resize.Params) func() error {
		return func() error {
			_, err := resize.Resize(context.Background(), input, p, "")
			return err
		}
	}
	raw := func() error { return bimgAlone(input, width) }
	contestants := []struct {
		name  string
		clock func() (time.Duration, error)
		run   func() error
	}{
		{"lightcone", ownCPU, lightcone(plain)},
		{"bimg", ownCPU, raw},
		{"develop", ownCPU, lightcone(develop)},
		{"floor", childrenCPU, func() error { return floor(input, scale) }},
	}
	seen := map[string][]float64{}
	var threads, processes []float64
	for round := range rounds {
		for i := range contestants {
			c := contestants[(i+round)%len(contestants)] // nobody is always first
			if err := c.run(); err != nil {              // warm
				return report{}, fmt.Errorf("%s: %w", c.name, err)
			}
			before, err := c.clock()
			if err != nil {
				return report{}, err
			}
			for range calls {
				if err := c.run(); err != nil {
					return report{}, fmt.Errorf("%s: %w", c.name, err)
				}
			}
			after, err := c.clock()
			if err != nil {
				return report{}, err
			}
			seen[c.name] = append(seen[c.name], (after-before).Seconds()*1000/float64(calls))
		}
		if parallel > 1 {
			together, err := threadsTogether(photo, width, parallel, length)
			if err != nil {
				return report{}, fmt.Errorf("bimg on threads: %w", err)
			}
			apart, err := throughput(photo, width, parallel, 1, length)
			if err != nil {
				return report{}, fmt.Errorf("bimg in processes: %w", err)
			}
			threads, processes = append(threads, together), append(processes, apart)
		}
	}
	result := report{Photo: photo, Width: width, Rounds: rounds, Calls: calls, CPUms: map[string]float64{}}
	for name, values := range seen {
		result.CPUms[name] = median(values)
	}
	if parallel > 1 {
		result.ThreadsPerSecond, result.ProcessesPerSecond = median(threads), median(processes)
	}
	return result, nil
}

// floorScale is the N of djpeg -scale 1/N: the most that still leaves width px.
func floorScale(input []byte, width int) (int, error) {
	config, err := jpeg.DecodeConfig(bytes.NewReader(input))
	if err != nil {
		return 0, err
	}
	for _, n := range []int{8, 4, 2} {
		if config.Width/n >= width {
			return n, nil
		}
	}
	return 1, nil
}

func floor(input []byte, scale int) error {
	decode := exec.Command("djpeg", "-scale", fmt.Sprintf("1/%d", scale))
	encode := exec.Command("cjpeg", "-quality", fmt.Sprint(quality))
	decode.Stdin = bytes.NewReader(input)
	var output bytes.Buffer
	encode.Stdout = &output
	pixels, err := decode.StdoutPipe()
	if err != nil {
		return err
	}
	encode.Stdin = pixels
	if err := decode.Start(); err != nil {
		return err
	}
	if err := encode.Run(); err != nil {
		return fmt.Errorf("cjpeg: %w", err)
	}
	if err := decode.Wait(); err != nil {
		return fmt.Errorf("djpeg: %w", err)
	}
	if output.Len() == 0 {
		return fmt.Errorf("cjpeg wrote nothing")
	}
	return nil
}

// crashTries is how often a measurement of threads is begun: pipelines at once
// in one process crash it now and then (see the invariants of package resize),
// which is bimg's trouble and not the reference's rate.
const crashTries = 4

// threadsTogether is bimg's rate in one process with so many threads.
func threadsTogether(photo string, width, threads int, length time.Duration) (rate float64, err error) {
	for range crashTries {
		if rate, err = throughput(photo, width, 1, threads, length); err == nil {
			return rate, nil
		}
	}
	return 0, err
}

// throughput is the sum of the rates of so many processes of this program, each
// running bimg on so many threads.
func throughput(photo string, width, processes, threads int, length time.Duration) (total float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	type worker struct {
		command *exec.Cmd
		start   io.WriteCloser
		output  *bufio.Reader
	}
	var workers []worker
	defer func() {
		for _, w := range workers {
			_ = w.start.Close()                      // a worker that has not started ends
			err = errors.Join(err, w.command.Wait()) // and one that has, by itself
		}
	}()
	for range processes {
		command := exec.Command(self, "--photo", photo, "--width", fmt.Sprint(width), "--seconds", fmt.Sprint(length.Seconds()), "--worker", fmt.Sprint(threads))
		command.Stderr = os.Stderr
		start, err := command.StdinPipe()
		if err != nil {
			return 0, err
		}
		output, err := command.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := command.Start(); err != nil {
			return 0, err
		}
		workers = append(workers, worker{command, start, bufio.NewReader(output)})
	}
	for _, w := range workers {
		if _, err := w.output.ReadString('\n'); err != nil {
			return 0, fmt.Errorf("wait for a worker to warm up: %w", err)
		}
	}
	for _, w := range workers {
		if _, err := io.WriteString(w.start, "go\n"); err != nil {
			return 0, err
		}
	}
	for _, w := range workers {
		var rate float64
		if _, err := fmt.Fscan(w.output, &rate); err != nil {
			return 0, fmt.Errorf("read a worker's rate: %w", err)
		}
		total += rate
	}
	return total, nil
}

// work is one worker of throughput: warm up, say so, wait for the word, run,
// print the rate.
func work(photo string, width, threads int, length time.Duration) error {
	input, err := os.ReadFile(photo)
	if err != nil {
		return fmt.Errorf("read --photo: %w", err)
	}
	for range 3 {
		if err := bimgAlone(input, width); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	var done atomic.Int64
	errs := make([]error, threads)
	start := time.Now()
	var group sync.WaitGroup
	for i := range threads {
		group.Go(func() {
			for ; time.Since(start) < length && errs[i] == nil; done.Add(1) {
				errs[i] = bimgAlone(input, width)
			}
		})
	}
	group.Wait()
	fmt.Println(float64(done.Load()) / time.Since(start).Seconds())
	return errors.Join(errs...)
}

func bimgAlone(input []byte, width int) error {
	_, err := bimg.Resize(input, bimg.Options{Width: width, Interpolator: bimg.Bilinear, Quality: quality})
	runtime.KeepAlive(input)
	return err
}

// ownCPU is this process's CPU time, all threads, in nanoseconds' resolution.
func ownCPU() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		return 0, fmt.Errorf("read the process's CPU clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// childrenCPU is the CPU time of the child processes that were waited for.
func childrenCPU() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &used); err != nil {
		return 0, fmt.Errorf("read the children's CPU time: %w", err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
