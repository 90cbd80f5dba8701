// Command drill lets things go wrong with three nodes of the queue, each on a host of
// its own on this machine, while clients and workers use them, and judges what they
// saw: nothing that was accepted may be lost, no result stored twice, and nothing
// said that no order of events explains. It prints a table, and fails when it finds a
// fault.
//
// Invariants: nodes, clients and workers are processes, so what is killed is killed as
// it would be by the kernel; nothing but what it started is touched; all of it ends
// with the drill.
//
// It needs root and iproute2, for network namespaces. It does not measure speed
// (bench does), and it does not drill the gateways' HTTP (cluster does).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lightcone/internal/run"
)

func main() {
	ctx, release := run.UntilSignal(context.Background())
	err := act(ctx, os.Args[1:], os.Stdout)
	release()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drill:", err)
		os.Exit(1)
	}
}

func act(ctx context.Context, args []string, say io.Writer) error {
	if len(args) > 0 {
		if child, known := children[args[0]]; known {
			return child(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("drill", flag.ContinueOnError)
	lasting := flags.Duration("for", 20*time.Second, "about how long each goes wrong")
	keep := flags.String("dir", "", "folder for what nodes keep and all log; removed unless something failed (default: a new one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, name := range flags.Args() {
		if !slices.ContainsFunc(drills, func(d drill) bool { return d.name == name }) {
			return fmt.Errorf("there is no drill %q", name)
		}
	}
	dir := *keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "lightcone-drill-"); err != nil {
			return err
		}
	}
	err := all(ctx, dir, *lasting, flags.Args(), say)
	if err != nil {
		return fmt.Errorf("%w\nwhat nodes, clients and workers logged is in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// drillBound is how long one drill may take beyond the time that it was given.
const drillBound = 6 * time.Minute

// all runs the named drills, or all, and prints the table.
func all(ctx context.Context, dir string, lasting time.Duration, names []string, say io.Writer) error {
	if err := makeSecrets(dir); err != nil {
		return err
	}
	network.Unplug(ctx) // what a drill that was killed has left
	defer network.Unplug(context.WithoutCancel(ctx))
	if err := network.Plug(ctx); err != nil {
		return err
	}
	var failed []error
	var done []outcome
	for _, d := range drills {
		if len(names) > 0 && !slices.Contains(names, d.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(say, "%-16s %s\n", d.name, d.what)
		bound, cancel := context.WithTimeout(ctx, lasting+drillBound)
		o := d.run(bound, dir, lasting)
		cancel()
		done = append(done, o)
		for _, note := range o.notes {
			fmt.Fprintf(say, "%16s   %s\n", "", note)
		}
		if o.err != nil {
			fmt.Fprintf(say, "%16s   FAILED: %v\n", "", o.err)
			failed = append(failed, fmt.Errorf("%s: %w", d.name, o.err))
		}
	}
	printTable(say, done)
	return errors.Join(append(failed, ctx.Err())...)
}

// secretsOf is where the drill's certificates and passwords are, for its children.
func secretsOf(dir string) string { return filepath.Join(dir, "secrets") }
