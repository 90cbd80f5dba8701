package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lightcone/client"
)

// plainEvery is how often progress is printed where no terminal shows it live.
const plainEvery = 5 * time.Second

// callFolder does a job, shows its progress, and lists what failed.
func callFolder(ctx context.Context, caller *client.Client, stderr io.Writer, job client.Job) error {
	display := &progressDisplay{out: stderr, columns: terminalColumns(stderr)}
	summary, err := caller.Run(ctx, job, func(p client.Progress) { display.show(p, time.Now()) })
	if err != nil {
		return err
	}
	display.end()
	for _, failure := range summary.Failures {
		fmt.Fprintf(stderr, "%s: %v\n", failure.File, failure.Err)
	}
	return verdict(job, summary)
}

// verdict is nil when every file has its output, and otherwise says how many do not.
func verdict(job client.Job, summary client.Summary) error {
	switch {
	case summary.Total == 0:
		return fmt.Errorf("there are no files in %s", job.In)
	case summary.NotTried > 0 && errors.Is(summary.EndedBy, context.Canceled):
		return fmt.Errorf("interrupted with %d of %d files done; the same command with --skip-existing carries on", summary.Done+summary.Skipped, summary.Total)
	case summary.NotTried > 0:
		return fmt.Errorf("ended with %d of %d files not tried, because they would have failed alike: %w", summary.NotTried, summary.Total, summary.EndedBy)
	case summary.Failed > 0:
		return fmt.Errorf("%d of %d files failed", summary.Failed, summary.Total)
	default:
		return nil
	}
}

// progressDisplay shows progress as one line that is drawn over, or as plain
// lines now and then where columns is 0: no terminal.
type progressDisplay struct {
	out     io.Writer
	columns int
	latest  client.Progress
	printed time.Time // of the last plain line; zero = none
}

func (d *progressDisplay) show(p client.Progress, now time.Time) {
	d.latest = p
	switch {
	case d.columns > 0:
		fmt.Fprintf(d.out, "\r%s\x1b[K", p.Line(max(d.columns-1, 1))) // \x1b[K clears what a longer line left
	case d.printed.IsZero():
		d.printed = now // the first line comes when there is something to tell
	case now.Sub(d.printed) >= plainEvery:
		d.printed = now
		fmt.Fprintln(d.out, p.Line(0))
	}
}

// end leaves the last state standing.
func (d *progressDisplay) end() {
	if d.columns > 0 {
		fmt.Fprint(d.out, "\r\x1b[K")
	}
	fmt.Fprintln(d.out, d.latest.Line(0))
}

// terminalColumns is how wide the terminal behind w is; 0 when there is none.
func terminalColumns(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80 // a terminal that does not say
	}
	return int(size.Col)
}
