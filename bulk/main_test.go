package bulk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gocloud.dev/blob/memblob"

	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// function answers as an input's first word asks, and counts what it ran.
type function struct {
	mu   sync.Mutex
	runs map[string]int // by input
	fail func(input string, run int) error
}

func newFunction() *function { return &function{runs: make(map[string]int)} }

func (f *function) Run(call *functions.Call, answer *functions.Answer) error {
	input := string(call.Body)
	f.mu.Lock()
	f.runs[input]++
	run := f.runs[input]
	f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(input, run); err != nil {
			return err
		}
	}
	answer.CPU, answer.Exec, answer.Status = time.Millisecond, 2*time.Millisecond, 200
	word, _, _ := strings.Cut(input, " ")
	switch word {
	case "bad":
		answer.Status, answer.Problem, answer.Body = 415, problem.UnsupportedMedia, append(answer.Body, "This is no image."...)
	case "crash":
		return problem.New(problem.FunctionCrashed, "The function's process died.")
	default:
		answer.ContentType = "image/" + word
		answer.Body = append(append(append(answer.Body, call.Query...), '|'), strings.ToUpper(input)...)
	}
	return nil
}

// ran is how often each input was run.
func (f *function) ran() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.runs)
}

func memory(t interface{ Cleanup(func()) }) *Location {
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() })
	return NewLocation(bucket, "memory")
}

func put(t fataler, store Store, objects map[string]string) {
	t.Helper()
	for key, content := range objects {
		if err := store.Write(context.Background(), key, "application/octet-stream", []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

// contents are all objects of a store, those that jobs keep for themselves apart.
func contents(t fataler, store Store) (outputs, own map[string]string) {
	t.Helper()
	outputs, own = make(map[string]string), make(map[string]string)
	var keys []string
	if err := store.List(context.Background(), "", func(o Object) error { keys = append(keys, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		content, err := store.Read(context.Background(), key, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(key, ownFolder) {
			own[key] = string(content)
		} else {
			outputs[key] = string(content)
		}
	}
	return outputs, own
}

// configForTest is the only share of a job that waits for nothing long.
func configForTest(in, out Store, runner Runner) Config {
	return Config{
		In: in, Out: out, Job: "job", Shares: 1, Runner: runner, Slots: 2, Tenant: "bulk",
		Function: functions.Spec{
			Name: "resize", Command: []string{"/bin/true"}, MemoryBytes: 64 << 20,
			DefaultTimeout: time.Second, MaxTimeout: time.Minute, MaxBodyBytes: 1000,
		},
		Params: url.Values{"width": {"300"}},
		Retry:  Policy{Attempts: 4, Base: time.Microsecond, Cap: time.Microsecond},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func failureLines(t fataler, own map[string]string, job string, share int) []string {
	t.Helper()
	var found []string
	for line := range bytes.Lines([]byte(own[FailuresKey(job, share)])) {
		found = append(found, strings.TrimSpace(string(line)))
	}
	return found
}

// flaky is a Store that calls before for every step and fails as it says.
type flaky struct {
	Store
	before func(what, key string) error
}

func (f flaky) List(ctx context.Context, prefix string, visit func(Object) error) error {
	if err := f.before("list", prefix); err != nil {
		return err
	}
	return f.Store.List(ctx, prefix, func(o Object) error {
		if err := f.before("visit", o.Key); err != nil {
			return err
		}
		return visit(o)
	})
}

func (f flaky) Read(ctx context.Context, key string, most int64, into []byte) ([]byte, error) {
	if err := f.before("read", key); err != nil {
		return into, err
	}
	return f.Store.Read(ctx, key, most, into)
}

func (f flaky) Write(ctx context.Context, key, contentType string, body []byte) error {
	if err := f.before("write", key); err != nil {
		return err
	}
	err := f.Store.Write(ctx, key, contentType, body)
	return errors.Join(err, f.before("written", key))
}

func (f flaky) Size(ctx context.Context, key string) (int64, error) {
	if err := f.before("size", key); err != nil {
		return 0, err
	}
	return f.Store.Size(ctx, key)
}
