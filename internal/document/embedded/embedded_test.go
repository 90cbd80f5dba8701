package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"lightcone/internal/document"
	"lightcone/internal/document/conformance"
)

// writerKey names the file for the process that TestWhatWasAcknowledgedSurvives kills.
const writerKey = "LIGHTCONE_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerKey); path != "" {
		writeForEver(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) document.Store { return open(t, filepath.Join(t.TempDir(), "documents")) })
}

func TestOneProcessHasTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "documents")
	first := open(t, path)
	began := time.Now()
	_, err := Open(path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another Lightcone") {
		t.Errorf("opened twice: %v", err)
	}
	if took := time.Since(began); took > lockBound+5*time.Second {
		t.Errorf("it waited %v", took)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	version, err := first.Commit(t.Context(), document.Change{Path: "a", Value: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if d, found, err := again.Get(t.Context(), "a"); err != nil || !found || string(d.Value) != "1" || d.Version != version {
		t.Errorf("after opening again: %+v, %v", d, err)
	}
}

func TestVersionsOutliveDeletionsAndProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "documents")
	last := uint64(0)
	for range 3 {
		s := open(t, path)
		version, err := s.Commit(t.Context(), document.Change{Path: "a"})
		if err != nil || version <= last {
			t.Fatalf("version %d after %d, %v", version, last, err)
		}
		if _, err := s.Commit(t.Context(), document.Change{Path: "a", Version: version, Delete: true}); err != nil {
			t.Fatal(err)
		}
		last = version
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("a text, and no store\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{foreign, t.TempDir(), filepath.Join(t.TempDir(), "none", "documents")} {
		if s, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("opened %s: %v, %v", path, s, err)
		}
	}
}

func TestCloseEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, filepath.Join(t.TempDir(), "documents"))
		const waiters = 5
		ended := make(chan error, waiters)
		for range waiters {
			go func() {
				_, _, err := s.Wait(t.Context(), "a", 0)
				ended <- err
			}()
		}
		synctest.Wait() // all of them wait
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		for range waiters {
			if err := <-ended; !errors.Is(err, errClosed) {
				t.Errorf("a Wait ended with %v", err)
			}
		}
		_, commitErr := s.Commit(t.Context(), document.Change{Path: "a"})
		_, _, getErr := s.Get(t.Context(), "a")
		_, pathsErr := s.Paths(t.Context(), "")
		_, _, waitErr := s.Wait(t.Context(), "a", 0)
		for _, err := range []error{commitErr, getErr, pathsErr, waitErr} {
			if !errors.Is(err, errClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

func TestAContextEndsTheWaitForOtherCommits(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "documents"))
	s.writing <- struct{}{} // a commit that does not end
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Commit(ctx, document.Change{Path: "a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("committed: %v", err)
	}
	<-s.writing
	if _, found, err := s.Get(t.Context(), "a"); found || err != nil {
		t.Errorf("it is there: %v", err)
	}
}

// A commit that falls between a Wait's look at the file and its rest must wake it.
// Each of many commits is the last that a Wait can hear, at about that moment.
func TestACommitAtTheWorstMomentWakes(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "documents"))
	s.db.NoSync = true // for speed: what is tried here is not the disk
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	begin, heard := make(chan uint64), make(chan error)
	go func() {
		for version := range begin {
			for spin := range rand.IntN(20_000) { // some of the microseconds that a commit takes
				_ = spin
			}
			_, _, err := s.Wait(ctx, "a", version)
			heard <- err
		}
		close(heard)
	}()
	version := uint64(0)
	for range 5000 {
		begin <- version
		next, err := s.Commit(ctx, document.Change{Path: "a", Version: version})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-heard; err != nil {
			t.Fatal(err)
		}
		version = next
	}
	close(begin)
	<-heard
}

// writeForEver commits the numbers from the last one on, each in three documents, and prints
// a number once its commit has returned.
func writeForEver(path string) {
	s, err := Open(path)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	head, _, err := s.Get(ctx, "head")
	if err != nil {
		panic(err)
	}
	n, _ := strconv.Atoi(string(head.Value)) // 0 when there is none
	for version := head.Version; ; {
		n++
		value := []byte(strconv.Itoa(n))
		version, err = s.Commit(ctx,
			document.Change{Path: "head", Value: value, Version: version},
			document.Change{Path: fmt.Sprintf("entries/%06d", n), Value: value},
			document.Change{Path: fmt.Sprintf("mirror/%06d", n), Value: []byte(strings.Repeat("m", 10_000))})
		if err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

// A process killed in the middle of commits shows that none of them is there by
// half. That they outlive a machine's power, too, is bbolt's fdatasync: no test
// here can cut that off.
func TestWhatWasAcknowledgedSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "documents")
	acknowledged := 0
	for round := range 6 {
		before := acknowledged
		acknowledged = killedWriter(t, path, acknowledged, 5+7*round)
		if acknowledged <= before {
			t.Fatalf("round %d acknowledged nothing", round)
		}
		s := open(t, path)
		head, _, err := s.Get(t.Context(), "head")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(head.Value))
		if err != nil || n < acknowledged || n > acknowledged+1 {
			t.Fatalf("round %d: %d commits were acknowledged, and the file knows %d, %v", round, acknowledged, n, err)
		}
		for _, folder := range []string{"entries/", "mirror/"} {
			paths, err := s.Paths(t.Context(), folder)
			if err != nil || len(paths) != n || paths[n-1] != fmt.Sprintf("%s%06d", folder, n) {
				t.Fatalf("round %d: %d of %d under %s, %v", round, len(paths), n, folder, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		acknowledged = n
	}
}

// killedWriter runs a writer, kills it once it has acknowledged so many commits, and
// returns the last number that it acknowledged at all.
func killedWriter(t *testing.T, path string, last, commits int) int {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), writerKey+"="+path)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(output)
	for read := 0; ; read++ {
		if read == commits {
			_ = command.Process.Kill() // in the middle of whatever it does now
		}
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := command.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the writer ended with %v", err)
	}
	return last
}
