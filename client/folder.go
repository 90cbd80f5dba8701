package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

// Job is a function to be called on every regular file in a folder, at any depth.
type Job struct {
	Function     lightcone.FunctionName
	Params       url.Values
	In, Out      string // folders; Out is made, and mirrors In's names; empty for a job without outputs
	Parallel     int    // calls at a time; at least 1
	SkipExisting bool   // leave out what has an output of any type already
}

// Failure is a file that has no output, and why.
type Failure struct {
	File string // below the job's In
	Err  error
}

// Summary is how a job went.
type Summary struct {
	Tally
	Failures []Failure // sorted by file
	NotTried int       // files left, or cut short, when the job ended early
	EndedBy  error     // why it ended early, if it did: the caller's context, or a failure that every file would meet
}

// tickEvery is how often a job's progress is told.
const tickEvery = 250 * time.Millisecond

// Run does the job, and tells its progress four times a second and at the end
// from the calling goroutine. It returns early when ctx ends or when a call
// fails in a way that every other would, too. Its error means that nothing was
// tried; what happened to the files is in the Summary.
func (c *Client) Run(ctx context.Context, job Job, tell func(Progress)) (Summary, error) {
	work, files, err := c.prepare(job)
	if err != nil {
		return Summary{}, err
	}
	return work.run(ctx, files, job.Parallel, work.one, tell), nil
}

// prepare lists a job's files.
func (c *Client) prepare(job Job) (*folderRun, []string, error) {
	files, err := job.files()
	if err != nil {
		return nil, nil, err
	}
	return &folderRun{client: c, job: job, names: NamesFor(files), turns: newTurns(job.Parallel), began: time.Now(), summary: Summary{Tally: newTally(len(files))}}, files, nil
}

// run has so many workers do one to each file, and tells the progress.
func (f *folderRun) run(ctx context.Context, files []string, workersAtOnce int, one func(context.Context, string) error, tell func(Progress)) Summary {
	ctx, endEarly := context.WithCancelCause(ctx)
	defer endEarly(nil)
	next := make(chan string)
	var workers sync.WaitGroup
	for range max(1, workersAtOnce) {
		workers.Go(func() {
			for file := range next {
				if err := one(ctx, file); endsJob(err) {
					endEarly(err)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { // ends when the files are handed out or ctx ends, then waits for the workers
		defer close(finished)
		defer workers.Wait()
		defer close(next)
		for _, file := range files {
			select {
			case next <- file:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
		case <-finished:
			running = false
		}
		tell(f.progress(time.Now(), !running))
	}
	return f.finish(context.Cause(ctx))
}

// files checks the job's folders and lists its inputs.
func (job Job) files() ([]string, error) {
	in, err := realPath(job.In)
	if err != nil {
		return nil, fmt.Errorf("the input folder %s: %w", job.In, err)
	}
	if job.Out == "" {
		return listFiles(in, "")
	}
	if err := os.MkdirAll(job.Out, 0o777); err != nil {
		return nil, fmt.Errorf("make the output folder: %w", err)
	}
	out, err := realPath(job.Out)
	if err != nil {
		return nil, fmt.Errorf("the output folder %s: %w", job.Out, err)
	}
	if in == out {
		return nil, fmt.Errorf("input and output are the same folder, %s: name another with --out, so that no original is overwritten", in)
	}
	return listFiles(in, out)
}

// realPath is absolute and free of symbolic links, so that two names of one
// folder compare equal.
func realPath(name string) (string, error) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
}

// endsJob says whether a file failed for a reason that has nothing to do with it.
func endsJob(err error) bool {
	var unreachable *Unreachable
	var refusal *Refusal
	if errors.As(err, &refusal) {
		switch refusal.Kind {
		case problem.Unauthenticated, problem.Forbidden, problem.NotFound, problem.BadParameter:
			return true
		}
	}
	return errors.As(err, &unreachable)
}

// folderRun is a job under way.
type folderRun struct {
	client *Client
	job    Job
	names  *Names
	turns  *turns
	began  time.Time

	mu      sync.Mutex
	summary Summary
}

// one calls the function on one file and keeps the books.
func (f *folderRun) one(ctx context.Context, file string) error {
	if f.skips(file) {
		return nil
	}
	answer, err := f.call(ctx, file)
	f.note(ctx, file, answer, err)
	return err
}

// skips leaves the file out if it has an output already and the job says so.
func (f *folderRun) skips(file string) bool {
	if !f.job.SkipExisting || !f.hasOutput(file) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.summary.Skipped++
	return true
}

// note keeps what came of a file.
func (f *folderRun) note(ctx context.Context, file string, answer Answer, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.summary.succeeded(answer)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()): // cut short: neither done nor failed
	default:
		f.summary.Failed++
		f.summary.Failures = append(f.summary.Failures, Failure{File: file, Err: err})
	}
}

func (f *folderRun) call(ctx context.Context, file string) (Answer, error) {
	input, err := f.input(file)
	if err != nil {
		return Answer{}, err
	}
	return f.client.call(ctx, f.job.Function, f.job.Params, input, f.keep(file), turn{turns: f.turns})
}

func (f *folderRun) input(file string) (Input, error) {
	return FileInput(filepath.Join(f.job.In, filepath.FromSlash(file)))
}

// keep writes an answer's body where the file's output belongs.
func (f *folderRun) keep(file string) func(Answer, io.Reader) error {
	return func(answer Answer, body io.Reader) error {
		name := f.names.Output(file, answer.ContentType)
		return WriteFile(filepath.Join(f.job.Out, filepath.FromSlash(name)), body)
	}
}

func (f *folderRun) hasOutput(file string) bool {
	return slices.ContainsFunc(f.names.Candidates(file), func(name string) bool {
		info, err := os.Stat(filepath.Join(f.job.Out, filepath.FromSlash(name)))
		return err == nil && info.Mode().IsRegular()
	})
}

// progress is a picture of now.
func (f *folderRun) progress(now time.Time, ended bool) Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.summary.Tally.at(now.Sub(f.began), f.client.Retries())
	p.Ended = ended
	return p
}

func (f *folderRun) finish(cause error) Summary {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.summary.Failures, func(a, b Failure) int { return strings.Compare(a.File, b.File) })
	f.summary.NotTried = f.summary.Total - f.summary.Done - f.summary.Failed - f.summary.Skipped
	if f.summary.NotTried > 0 {
		f.summary.EndedBy = cause
	}
	return f.summary
}
