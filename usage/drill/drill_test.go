package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// executables builds what a region runs, and moves to the repository's folder, where
// the drill is run.
func executables(t *testing.T) string {
	t.Helper()
	t.Chdir("../..")
	bin := t.TempDir()
	for program, cgo := range map[string]string{"lightcone": "0", "lightcone-resize": "1", "lightcone-billing": "1"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", bin, "./cmd/"+program)
		build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	return bin
}

// TestDrill is the drill with fewer calls. Then another is interrupted. Neither leaves
// anything behind.
func TestDrill(t *testing.T) {
	bin := executables(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var said bytes.Buffer
	if err := act(ctx, []string{"-bin", bin, "-calls", "10000", "-kills", "10"}, &said); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Log(said.String())
	for _, line := range []string{"lost 0", "doubled 0", "duplicates 0", "unshipped 0", "calls sent 10000", "kills 10"} {
		if !strings.Contains(strings.Join(strings.Fields(said.String()), " "), " "+line+" ") {
			t.Errorf("the table does not say %q:\n%s", line, said.String())
		}
	}
	nothingIsLeft(t, bin)

	interrupted, interrupt := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer interrupt()
		await(ctx, func() bool { return len(running(bin)) >= 3+gatewayCount+workerCount }) // all are there, and functions
	})
	err := act(interrupted, []string{"-bin", bin, "-calls", "1000000", "-kills", "1"}, io.Discard)
	watching.Wait()
	if !errors.Is(err, context.Canceled) || ctx.Err() != nil {
		t.Errorf("it was interrupted, and says %v", err)
	}
	nothingIsLeft(t, bin)
}

// await waits until a condition holds, or ctx ends.
func await(ctx context.Context, holds func() bool) bool {
	for !holds() {
		if retry.Pause(ctx, 10*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// nothingIsLeft checks that no process and no folder of a drill is left. Functions
// end with their worker, a moment later.
func nothingIsLeft(t *testing.T, bin string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !await(ctx, func() bool { return len(running(bin)) == 0 }) {
		t.Errorf("processes are left: %q", running(bin))
	}
	left, err := filepath.Glob(folderPrefix() + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("folders are left: %q, %v", left, err)
	}
}

// running are the programs of this process's children, and of those that run from a
// folder of executables or from a drill's own.
func running(bin string) (found []string) {
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is sound
	for _, process := range processes {
		program, err := os.Readlink(process + "/exe")
		if err != nil {
			continue // it has ended
		}
		stat, err := os.ReadFile(process + "/stat")
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(stat), ") ") // proc_pid_stat(5): the state, the parent
		fields := strings.Fields(after)
		child := len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid())
		if child || strings.HasPrefix(program, bin) || strings.HasPrefix(program, folderPrefix()) {
			found = append(found, filepath.Base(process)+" "+program)
		}
	}
	return found
}
