package usage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is a folder on a file system of its own, of so many KiB.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("lightcone", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small disk (this needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is full to the last byte is an error in time, not a SIGBUS, costs no
// record that was kept, and keeps nobody from shipping.
func TestADiskThatIsFull(t *testing.T) {
	dir := smallDisk(t, "900k")
	config, log := configFor(t, dir)
	bucket := t.TempDir()
	config.Bucket = "file://" + filepath.Join(bucket, "store")
	l := begin(t, config)
	await(t, "there is a spare", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.spare != nil
	})
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = filler.Close() // or the disk could not be unmounted
		if t.Failed() {
			t.Log(log)
		}
	})
	for block := make([]byte, 4096); err == nil; {
		_, err = filler.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	n := 0
	for ; n < 100_000; n++ {
		r := record(n)
		err := l.Append(&r)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Full(); !errors.Is(err, ErrFull) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("after %d records: %v", n, err)
	}
	await(t, "it says so", func() bool { return strings.Contains(log.String(), "admission must stop") })
	await(t, "all is shipped, though the disk is as full as it was", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "*.segment"))
		return err == nil && len(left) == 0
	})
	if err := filler.Truncate(0); err != nil {
		t.Fatal(err)
	}
	await(t, "it has room again", func() bool { return l.Full() == nil })
	r := record(n)
	await(t, "records are kept again", func() bool { return l.Append(&r) == nil })
	if err := errors.Join(filler.Close(), os.Remove(filler.Name()), halt(l)); err != nil {
		t.Fatal(err)
	}
	expectStored(t, bucketOf(t, config), records(0, n+1))
}
