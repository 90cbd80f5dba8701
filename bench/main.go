// Command bench measures Lightcone beside named references, in one run, and
// prints every figure that the README shows.
//
// Invariants: a figure is a median over rounds; it is compared with its
// reference by the ratio within each round, so that a machine that speeds up or
// slows down between rounds moves both; the references are raw bimg in-process,
// djpeg and cjpeg, Debian's HAProxy, this disk, the kernel's account, and parquet-go
// and DuckDB alone. Load comes over loopback from this process, on the same cores as
// what it measures.
//
// It judges nothing: it prints what it saw, as a table and as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// settings are the command's flags.
type settings struct {
	photo    string
	rounds   int
	duration time.Duration
	steady   int
	records  int
	out      string
	only     string
}

func main() {
	if text := os.Getenv(gatewayEnv); text != "" {
		if err := serveGateway(text); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(nodeEnv); text != "" {
		if err := serveNode(text); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(foldEnv); text != "" {
		if err := serveFold(text); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var s settings
	flag.StringVar(&s.photo, "photo", "/usr/share/backgrounds/mate/nature/Garden.jpg", "photograph to resize")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds; every figure is their median")
	flag.DurationVar(&s.duration, "duration", 4*time.Second, "length of one measurement of load")
	flag.IntVar(&s.steady, "steady-calls", 100_000, "calls over which memory is watched")
	flag.IntVar(&s.records, "usage-records", 20_000_000, "records of usage in the hour that is billed")
	flag.StringVar(&s.out, "out", "bench.json", "file for the figures as JSON")
	flag.StringVar(&s.only, "only", "", "comma-separated sections to run: kernel,end-to-end,hop,overload,memory,front-door,queue,usage,cpu-account")
	flag.Parse()
	runtime.GOMAXPROCS(1) // one core of load is plenty; more would spin on cores that are being measured
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// section is one table of the report.
type section struct {
	name string
	run  func(context.Context, settings, *report) error
}

var sections = []section{
	{"kernel", measureKernel},
	{"end-to-end", measureEndToEnd},
	{"hop", measureHop},
	{"overload", measureOverload},
	{"memory", measureMemory},
	{"front-door", measureFrontDoor},
	{"queue", measureQueue},
	{"usage", measureUsage},
	{"cpu-account", measureCPUAccount},
}

func bench(ctx context.Context, s settings) error {
	if s.rounds < 1 || s.duration < 100*time.Millisecond || s.steady < 1 || s.records < 1 {
		return fmt.Errorf("rounds, duration, steady-calls and usage-records must be positive")
	}
	r := &report{Cores: runtime.NumCPU(), Photo: s.photo, Rounds: s.rounds}
	fmt.Printf("%d cores, %s, medians of %d rounds\n", r.Cores, s.photo, r.Rounds)
	for _, section := range sections {
		if s.only != "" && !strings.Contains(","+s.only+",", ","+section.name+",") {
			continue
		}
		if err := section.run(ctx, s, r); err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.out, append(text, '\n'), 0o644)
}
