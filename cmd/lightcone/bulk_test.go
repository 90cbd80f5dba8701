package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/bulk"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/testbed"
)

// photographs are real ones, of 0.1 to 15 megapixels.
const photographs = "/usr/share/backgrounds/mate"

// photoFolder is a folder with so many links to each photograph, under names of
// their own, and what was given.
func photoFolder(t *testing.T, copies int, others map[string]string) (folder string, names []string) {
	t.Helper()
	folder = t.TempDir()
	err := filepath.WalkDir(photographs, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		below, _ := filepath.Rel(photographs, name)
		for i := range copies {
			link := filepath.Join(folder, fmt.Sprint(i), below)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(name, link)); err != nil {
				return err
			}
			names = append(names, fmt.Sprintf("%d/%s", i, below))
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		t.Fatalf("%d photographs in %s: %v", len(names), photographs, err)
	}
	for name, content := range others {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder, names
}

// share is a real `lightcone bulk run`.
type share struct {
	command *exec.Cmd
	said    *testbed.Log
}

func startShare(t *testing.T, environment []string, flags ...string) *share {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	s := &share{command: exec.Command(filepath.Join(bin, "lightcone"), append([]string{"bulk", "run"}, flags...)...), said: &testbed.Log{}}
	s.command.Env = append(os.Environ(), environment...)
	s.command.Stdout, s.command.Stderr = s.said, s.said
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.command.ProcessState == nil {
			_ = s.command.Process.Kill()
			_ = s.command.Wait()
		}
	})
	return s
}

// ends waits for the share and checks its exit code.
func (s *share) ends(t *testing.T, code int) {
	t.Helper()
	_ = s.command.Wait()
	if got := s.command.ProcessState.ExitCode(); got != code {
		t.Fatalf("exit code %d, want %d: %s", got, code, s.said)
	}
}

// outputs are the files below folder, each with its time of change, other than a
// job's own.
func outputs(t *testing.T, folder string) map[string]time.Time {
	t.Helper()
	found := make(map[string]time.Time)
	err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // renamed since its folder was read
		}
		if entry.IsDir() && entry.Name() == ".bulk" {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() {
			return nil
		}
		below, _ := filepath.Rel(folder, name)
		found[below] = info.ModTime()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestBulkResizesAFolderInShares(t *testing.T) {
	whole := read(t, photo)
	in, names := photoFolder(t, 1, map[string]string{
		"cut.jpg": whole[:len(whole)/2], "text.jpg": "I am no image.", "long.jpg": strings.Repeat("x", maxBodyBytes+1), "again.png": whole,
	})
	out := t.TempDir()
	bulkEnvironment := []string{
		"LIGHTCONE_BULK_IN=" + in, "LIGHTCONE_BULK_OUT=file://" + out, "LIGHTCONE_BULK_PARAMS=width=300&format=jpeg", "LIGHTCONE_BULK_SHARES=2", "NOMAD_JOB_ID=small/dispatch-1",
	}
	shares := []*share{
		startShare(t, append(bulkEnvironment, "NOMAD_ALLOC_INDEX=0"), "--slots", "1"),
		startShare(t, append(bulkEnvironment, "NOMAD_ALLOC_INDEX=1"), "--slots", "1"),
	}
	for _, s := range shares {
		s.ends(t, commandline.OK)
	}
	want := []string{"again.jpg"}
	for _, name := range names {
		want = append(want, strings.TrimSuffix(name, filepath.Ext(name))+".jpg")
	}
	slices.Sort(want)
	var got []string
	for name := range outputs(t, out) {
		got = append(got, name)
		if size := imageSize(t, readBytes(t, filepath.Join(out, name))); size.X != 300 {
			t.Errorf("%s is %v", name, size)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	failed := ""
	for i := range shares {
		failed += read(t, filepath.Join(out, bulk.FailuresKey("small/dispatch-1", i)))
	}
	for _, line := range []string{`{"key":"cut.jpg","problem":"corrupt-input",`, `{"key":"text.jpg","problem":"unsupported-media",`, `{"key":"long.jpg","problem":"too-large",`} {
		if !strings.Contains(failed, line) {
			t.Errorf("%s is not among the failures: %s", line, failed)
		}
	}
	if said := shares[bulk.ShareOf("cut.jpg", 2)].said.String(); !strings.Contains(said, "have none is listed in .bulk/small/dispatch-1/failures-") {
		t.Errorf("it said %s", said)
	}

	code, stdout, stderr := runCommand(t, "", "bulk", "status", "--out", out, "--job", "small/dispatch-1", "--json")
	var all bulk.Overview
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != commandline.OK {
		t.Fatalf("%d, %v, %s", code, err, stderr)
	}
	if int(all.Total) != len(want)+3 || int(all.Done) != len(want) || all.Failed != 3 || all.Harvest != 1 || all.Complete != 2 || all.CPU == 0 {
		t.Errorf("status %+v", all)
	}
	_, stdout, _ = runCommand(t, "", "bulk", "status", "--out", out, "--job", "small/dispatch-1")
	if !strings.Contains(stdout, "2 of 2 shares report, 2 are finished") || strings.Count(stdout, "finished\n") != 3 {
		t.Errorf("status: %s", stdout)
	}
}

// A share killed again and again ends with the outputs of one that was left
// alone, and does not repeat what its journal has.
func TestABulkShareSurvivesItsDeath(t *testing.T) {
	in, names := photoFolder(t, 2, map[string]string{"text.jpg": "I am no image."})
	out, undisturbed := t.TempDir(), t.TempDir()
	flags := func(out string) []string {
		return []string{"--in", in, "--out", out, "--job", "small", "--param", "width=200", "--param", "format=jpeg"}
	}
	startShare(t, nil, flags(undisturbed)...).ends(t, commandline.OK)

	journals := func() map[string]string {
		found := make(map[string]string) // output by input
		files, _ := filepath.Glob(filepath.Join(out, ".bulk/small/share-*.ndjson"))
		for _, file := range files {
			for line := range bytes.Lines(readBytes(t, file)) {
				var r struct{ Key, Output string }
				if err := json.Unmarshal(line, &r); err != nil {
					t.Errorf("%s: %v in %q", file, err, line)
				}
				found[r.Key] = r.Output
			}
		}
		return found
	}
	for death, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGKILL} {
		known, before := journals(), outputs(t, out)
		s := startShare(t, nil, append(flags(out), "--slots", "1")...)
		within(t, "it is under way", func() bool { return len(outputs(t, out)) > len(before)+4 })
		_ = s.command.Process.Signal(signal)
		_ = s.command.Wait()
		after := outputs(t, out)
		if len(journals()) >= len(names) {
			t.Fatalf("death %d came too late: it was finished", death)
		}
		if death > 0 && len(known) == 0 {
			t.Error("the share that was stopped left no journal")
		}
		for _, output := range known {
			if output != "" && !after[output].Equal(before[output]) {
				t.Errorf("%s was in the journal and was written again", output)
			}
		}
	}
	startShare(t, nil, flags(out)...).ends(t, commandline.OK)
	want, got := outputs(t, undisturbed), outputs(t, out)
	if len(want) != len(names) || len(got) != len(want) {
		t.Errorf("%d outputs for %d photographs, want %d", len(got), len(names), len(want))
	}
	for name := range want {
		if !bytes.Equal(readBytes(t, filepath.Join(out, name)), readBytes(t, filepath.Join(undisturbed, name))) {
			t.Errorf("%s is not what it would be", name)
		}
	}
}

func TestABulkShareStopsWhenAsked(t *testing.T) {
	in, names := photoFolder(t, 3, nil)
	out := t.TempDir()
	flags := []string{"--in", in, "--out", out, "--job", "small", "--param", "width=200", "--param", "format=webp"}
	s := startShare(t, nil, flags...)
	within(t, "there are outputs", func() bool { return len(outputs(t, out)) > 2 })
	// A second process for the same share would take the first one's processes.
	second := startShare(t, nil, flags...)
	second.ends(t, commandline.Failed)
	if !strings.Contains(second.said.String(), "runs on this machine already") {
		t.Errorf("the second said %s", second.said)
	}
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(t, commandline.Failed)
	if !strings.Contains(s.said.String(), "start it again to carry on") {
		t.Errorf("it said %s", s.said)
	}
	written := outputs(t, out)
	_, stdout, _ := runCommand(t, "", "bulk", "status", "--out", out, "--job", "small")
	if !strings.Contains(stdout, fmt.Sprintf(": %d written", len(written))) || !strings.Contains(stdout, "ended early: ") || !strings.Contains(stdout, "0 are finished") {
		t.Errorf("with %d outputs, status says %s", len(written), stdout)
	}
	again := startShare(t, nil, flags...)
	again.ends(t, commandline.OK)
	if !strings.Contains(again.said.String(), fmt.Sprintf("%d written, %d there already", len(names)-len(written), len(written))) {
		t.Errorf("it said %s", again.said)
	}
	for name, at := range outputs(t, out) {
		if earlier, there := written[name]; there && !earlier.Equal(at) {
			t.Errorf("%s was written again", name)
		}
	}
}

func TestBulkCommandLines(t *testing.T) {
	for _, name := range []string{"LIGHTCONE_BULK_IN", "LIGHTCONE_BULK_OUT", "NOMAD_JOB_ID", "NOMAD_ALLOC_INDEX", envBulkParams} {
		t.Setenv(name, "")
	}
	for _, test := range []struct {
		args, environment string
		code              int
		stderr            string
	}{
		{"bulk", "", commandline.OK, ""},
		{"bulk now", "", commandline.NotUnderstood, `"now" is one too many`},
		{"bulk run --out b --job c", "", commandline.NotUnderstood, "--in (or $LIGHTCONE_BULK_IN) is missing"},
		{"bulk run --in a --out b", "", commandline.NotUnderstood, "--job (or $LIGHTCONE_BULK_JOB) is missing"},
		{"bulk run --in a --out b --job ../c", "", commandline.NotUnderstood, `job "../c"`},
		{"bulk run --in a --out b --job c --share 1", "", commandline.NotUnderstood, "--share 1 --shares 1"},
		{"bulk run --in a --out b --job c", "NOMAD_ALLOC_INDEX=7", commandline.NotUnderstood, "--share 7 --shares 1"},
		{"bulk run --in a --out b --job c", "NOMAD_ALLOC_INDEX=x", commandline.NotUnderstood, "the environment variable NOMAD_ALLOC_INDEX"},
		{"bulk run --in a --out b --job c --slots 0", "", commandline.NotUnderstood, "--slots 0"},
		{"bulk run --in a --out b --job c --param width", "", commandline.NotUnderstood, "want name=value"},
		{"bulk run --in a --out b --job c", envBulkParams + "=width=%zz", commandline.NotUnderstood, envBulkParams},
		{"bulk status --out b", "", commandline.NotUnderstood, "--out and --job are both needed"},
		{"bulk status --out b --job ..", "", commandline.NotUnderstood, `job ".."`},
		{"bulk status --out /nonexistent --job c", "", commandline.Failed, "/nonexistent"},
		{"bulk status --out . --job c", "", commandline.Failed, `no share of the job "c" has reported`},
	} {
		t.Run(test.args+test.environment, func(t *testing.T) {
			if name, value, set := strings.Cut(test.environment, "="); set {
				t.Setenv(name, value)
			}
			if code, _, stderr := runCommand(t, "", strings.Fields(test.args)...); code != test.code || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d; it said %q, want %q in it", code, test.code, stderr, test.stderr)
			}
		})
	}
	// With the executables in place.
	folder := t.TempDir()
	for _, test := range []struct{ args, want string }{
		{"--in /nonexistent --out " + folder, "/nonexistent"},
		{"--in " + folder + " --out " + folder, "are the same"},
		{"--function nope --in " + folder + " --out " + folder, "want one of resize, echo"},
	} {
		s := startShare(t, nil, append(strings.Fields(test.args), "--job", "c")...)
		if _ = s.command.Wait(); s.command.ProcessState.Success() || !strings.Contains(s.said.String(), test.want) {
			t.Errorf("%s: it said %s", test.args, s.said)
		}
	}
}
