package usage

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// victimFolder names the folder to append in, for a process of this test's that is
// there to be killed.
const victimFolder = "LIGHTCONE_USAGE_VICTIM"

// appendForEver appends records, and writes the number of each to standard output
// once it is acknowledged and counted as answered.
func appendForEver(dir string) {
	l, err := Open(context.Background(), Config{
		Dir: dir, Node: "gw-1", SealBytes: leastSegment, SealAge: 20 * time.Millisecond, SyncEvery: 2 * time.Millisecond,
		MaxDiskBytes: 1000 * leastSegment, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var first [8]byte
	if _, err := io.ReadFull(os.Stdin, first[:]); err != nil {
		os.Exit(1)
	}
	for n := binary.LittleEndian.Uint64(first[:]); ; n++ {
		r := record(int(n))
		if err := errors.Join(l.Append(&r), l.Answered(r.Start)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var said [8]byte
		binary.LittleEndian.PutUint64(said[:], n)
		if _, err := os.Stdout.Write(said[:]); err != nil {
			os.Exit(1)
		}
	}
}

// A process is killed while it appends, seals and ships: what it had acknowledged is
// there, once, and at most one record more each time.
func TestAKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	config, _ := configFor(t, t.TempDir())
	next := uint64(0)
	interrupted := 0
	for life := range 8 {
		next += uint64(killOne(t, config.Dir, next, 300+137*life))
		// One more may have been kept than was heard of: the next life goes on behind it.
		l := begin(t, config)
		if err := halt(l); err != nil {
			t.Fatal(err)
		}
		have := uint64(0)
		for _, rows := range stored(t, bucketOf(t, config)) {
			have += uint64(len(rows))
		}
		if have != next && have != next+1 {
			t.Fatalf("%d records are there, and %d were acknowledged", have, next)
		}
		interrupted += int(have - next)
		next = have
	}
	s := bucketOf(t, config)
	expectStored(t, s, records(0, int(next)))
	c := counts(t, s)[CountsKey("gw-1", past)]
	// A record that was being written when the kill came is torn, and nobody was told that it was kept.
	if c.Difference() != 0 || int(c.Interrupted) > interrupted+int(c.Torn) || c.Torn > 8 {
		t.Errorf("%d were heard of by nobody: %+v", interrupted, c)
	}
}

// killOne lets a process append from a number on, kills it after some, and returns how many it
// had acknowledged.
func killOne(t *testing.T, dir string, first uint64, after int) (acknowledged int) {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimFolder+"="+dir)
	victim.Stderr = os.Stderr
	in, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	if err := binary.Write(in, binary.LittleEndian, first); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	for {
		var number uint64
		err := binary.Read(reader, binary.LittleEndian, &number)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil || number != first+uint64(acknowledged) {
			t.Fatal(number, err)
		}
		if acknowledged++; acknowledged == after {
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := victim.Wait(); err == nil || acknowledged < after {
		t.Fatalf("it ended by itself after %d: %v", acknowledged, err)
	}
	return acknowledged
}
