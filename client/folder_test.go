package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lightcone/internal/problem"
)

// writeTree makes files below a new folder.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range files {
		name = filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// readTree is every file below a folder, those being written included.
func readTree(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(folder, name))
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// toWebP answers every body but "bad" in capitals, as WebP.
func toWebP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if string(body) == "bad" {
		refuse(w, 422, problem.CorruptInput, "The image is cut short.")
		return
	}
	w.Header().Set("Content-Type", "image/webp")
	_, _ = w.Write(bytes.ToUpper(body))
}

func TestRunMirrorsAFolder(t *testing.T) {
	in := writeTree(t, map[string]string{
		"a.jpg": "a", "b/c.png": "c", "b/c.jpg": "other c", "b/d/broken.jpg": "bad", "empty": "",
		".lightcone-LEFTOVER": "not an input",
	})
	if err := syscall.Mkfifo(filepath.Join(in, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(in, "small") // inside the input: what lands there is no input
	if err := os.MkdirAll(out, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "a.webp"), []byte("an older and longer output"), 0o666); err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		toWebP(w, r)
	})
	job := Job{Function: "resize", In: in, Out: out, Parallel: 3}
	var last Progress
	summary, err := c.Run(t.Context(), job, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a.webp": "A", "b/c.png.webp": "C", "b/c.jpg.webp": "OTHER C", "empty.webp": ""}
	if diff := cmp.Diff(want, readTree(t, out)); diff != "" {
		t.Errorf("the outputs:\n%s", diff)
	}
	if summary.Total != 5 || summary.Done != 4 || summary.Failed != 1 || summary.NotTried != 0 || summary.EndedBy != nil {
		t.Errorf("summary %+v", summary)
	}
	if last.Done != 4 || last.Failed != 1 || last.Remaining != 0 {
		t.Errorf("the last progress told is %+v", last)
	}
	if len(summary.Failures) != 1 || summary.Failures[0].File != "b/d/broken.jpg" || summary.Failures[0].Err.Error() != "The image is cut short. (422 corrupt-input)" {
		t.Errorf("failures %+v", summary.Failures)
	}

	requests.Store(0)
	job.SkipExisting = true
	summary, err = c.Run(t.Context(), job, func(Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if summary.Skipped != 4 || summary.Failed != 1 || requests.Load() != 1 {
		t.Errorf("the second run made %d requests, want 1; %+v", requests.Load(), summary)
	}
}

func TestRunEndsEarlyWhenEveryFileWouldFail(t *testing.T) {
	files := make(map[string]string)
	for i := range 200 {
		files[fmt.Sprintf("%03d", i)] = "x"
	}
	in := writeTree(t, files)
	for _, test := range []struct {
		name   string
		status int
		kind   problem.Kind
		early  bool
	}{
		{"a wrong key", 401, problem.Unauthenticated, true},
		{"a scope too narrow", 403, problem.Forbidden, true},
		{"no such function", 404, problem.NotFound, true},
		{"a wrong parameter", 400, problem.BadParameter, true},
		{"bad files", 422, problem.CorruptInput, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
				refuse(w, test.status, test.kind, "No.")
			})
			summary, err := c.Run(t.Context(), Job{Function: "resize", In: in, Out: t.TempDir(), Parallel: 2}, func(Progress) {})
			if err != nil {
				t.Fatal(err)
			}
			if early := summary.NotTried > 0; early != test.early {
				t.Errorf("%d files not tried, want some: %v", summary.NotTried, test.early)
			}
			var refusal *Refusal
			if test.early && !errors.As(summary.EndedBy, &refusal) {
				t.Errorf("ended by %v, want the refusal", summary.EndedBy)
			}
			if summary.Failed+summary.NotTried != summary.Total || len(summary.Failures) != summary.Failed {
				t.Errorf("the books do not add up: %+v", summary)
			}
		})
	}
}

// TestRunInterrupted ends the job while one answer is half way.
func TestRunInterrupted(t *testing.T) {
	in := writeTree(t, map[string]string{"a": "a", "b": "b", "c": "c", "d": "d"})
	out := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var requests atomic.Int64
	c := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1) == 3 {
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
			cancel()
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "whole")
	})
	summary, err := c.Run(ctx, Job{Function: "echo", In: in, Out: out, Parallel: 1}, func(Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if summary.Done != 2 || summary.NotTried != 2 || summary.Failed != 0 || !errors.Is(summary.EndedBy, context.Canceled) {
		t.Errorf("summary %+v", summary)
	}
	if diff := cmp.Diff(map[string]string{"a": "whole", "b": "whole"}, readTree(t, out)); diff != "" {
		t.Errorf("half an output was left:\n%s", diff)
	}
}

func TestRunRefusesToOverwriteItsInputs(t *testing.T) {
	in := writeTree(t, map[string]string{"a.jpg": "a"})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{API: "http://127.0.0.1:1", Policy: hasty})
	for _, out := range []string{in, in + "/", link} {
		if _, err := c.Run(t.Context(), Job{Function: "resize", In: in, Out: out}, func(Progress) {}); err == nil {
			t.Errorf("reading %s and writing %s was not refused", in, out)
		}
	}
}

func TestWriteFile(t *testing.T) {
	t.Run("a failure leaves the old file and nothing else", func(t *testing.T) {
		folder := writeTree(t, map[string]string{"out": "old"})
		broken := errors.New("connection lost")
		err := WriteFile(filepath.Join(folder, "out"), io.MultiReader(bytes.NewReader([]byte("new")), failingReader{broken}))
		if !errors.Is(err, broken) {
			t.Errorf("error %v, want the reader's", err)
		}
		if diff := cmp.Diff(map[string]string{"out": "old"}, readTree(t, folder)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a link stays one", func(t *testing.T) {
		folder := writeTree(t, map[string]string{"real": "old"})
		link := filepath.Join(folder, "link")
		if err := os.Symlink("real", link); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(link, bytes.NewReader([]byte("new"))); err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink(link); err != nil || target != "real" {
			t.Errorf("the link now is %q, %v", target, err)
		}
		if diff := cmp.Diff(map[string]string{"real": "new", "link": "new"}, readTree(t, folder)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a pipe is written to, not replaced", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o666); err != nil {
			t.Fatal(err)
		}
		read := make(chan string, 1)
		go func() {
			content, _ := os.ReadFile(pipe) // what was not read shows below
			read <- string(content)
		}()
		if err := WriteFile(pipe, bytes.NewReader([]byte("through"))); err != nil {
			t.Fatal(err)
		}
		if got := <-read; got != "through" {
			t.Errorf("the pipe gave %q", got)
		}
	})
	t.Run("others may read it as far as the mask allows", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "sub", "out")
		if err := WriteFile(name, bytes.NewReader(nil)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		mask := syscall.Umask(0)
		syscall.Umask(mask)
		if want := fs.FileMode(0o666 &^ mask); info.Mode().Perm() != want {
			t.Errorf("mode %v, want %v", info.Mode().Perm(), want)
		}
	})
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestFileInput(t *testing.T) {
	folder := writeTree(t, map[string]string{"a.jpg": "\x89PNG\r\n\x1a\nrest", "empty": ""})
	input, err := FileInput(filepath.Join(folder, "a.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if input.ContentType != "image/png" || input.Size != 12 {
		t.Errorf("type %s of %d bytes: the content counts, not the name", input.ContentType, input.Size)
	}
	for range 2 {
		body, err := input.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(body)
		if err != nil || !slices.Equal(content, []byte("\x89PNG\r\n\x1a\nrest")) {
			t.Errorf("read %q, %v", content, err)
		}
		_ = body.Close()
	}
	if _, err := FileInput(filepath.Join(folder, "empty")); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for _, name := range []string{folder, filepath.Join(folder, "missing")} {
		if _, err := FileInput(name); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
