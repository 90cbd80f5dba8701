package usage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/testbed"
)

// house is a machine's folder of ledgers, and an Adopter for it.
type house struct {
	log  *testbed.Log
	seen *prometheus.Registry
	*Adopter
}

func adopted(t *testing.T, dir, bucket string) *house {
	t.Helper()
	h := &house{log: new(testbed.Log), seen: prometheus.NewRegistry()}
	var err error
	h.Adopter, err = StartAdopter(AdoptConfig{
		Folder: dir, Bucket: bucket, After: 30 * time.Millisecond, Every: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(h.log, nil)), Metrics: h.seen,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Stop(context.Background()) })
	return h
}

func gone(name string) bool {
	_, err := os.Stat(name)
	return errors.Is(err, os.ErrNotExist)
}

// A process is killed and does not come back. Another on its machine brings what it
// has left to the bucket, closes its hours, and clears up behind it.
func TestWhatTheFallenLeftIsShipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fallen, living := filepath.Join(dir, "gw-1"), filepath.Join(dir, "gw-2")
	bucket := filepath.Join(t.TempDir(), "bucket")
	acknowledged := killOne(t, fallen, 0, 500) // the victim's own bucket is in its folder
	reached := filepath.Join(fallen, "store")
	if err := os.Rename(reached, bucket); err != nil { // as if it had been this one
		t.Fatal(err)
	}
	config, _ := configFor(t, living)
	config.Node, config.Bucket = "gw-2", bucket
	alive := begin(t, config)
	put(t, alive, records(1000, 1010))
	for _, folder := range []string{"lost+found", "gw-0.gone/counts"} { // the second, half removed
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := adopted(t, dir, bucket)

	s := bucketOf(t, config)
	rows := func(node string) (n int) {
		for key, rows := range stored(t, s) {
			if strings.Contains(key, "node="+node+"/") {
				n += len(rows)
			}
		}
		return n
	}
	await(t, "all that was acknowledged is in the bucket", func() bool { return rows("gw-1") >= acknowledged && rows("gw-2") == 10 })
	if n := rows("gw-1"); n > acknowledged+1 {
		t.Errorf("%d records are there, and %d were acknowledged", n, acknowledged)
	}
	await(t, "the fallen one's folder is gone", func() bool { return gone(fallen) })
	for key, c := range counts(t, s) {
		if c.Node == "gw-1" && (!c.Closed || c.Difference() != 0) {
			t.Errorf("%s: %+v", key, c)
		}
	}
	if gone(living) || gone(filepath.Join(dir, "lost+found")) || !gone(filepath.Join(dir, "gw-0.gone")) {
		t.Error("a folder is gone that is somebody's, or one is there that is nobody's")
	}
	await(t, "one ledger was adopted", func() bool { return gauge(t, h.seen, "lightcone_usage_adopted_ledgers_total") == 1 })
}

// While the bucket is away, a ledger without a process keeps what it has.
func TestAnOrphanOutlastsItsBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := killOne(t, filepath.Join(dir, "gw-1"), 0, 200)
	in := t.TempDir()
	bucket := filepath.Join(in, "file", "bucket") // cannot be made: a file is in its way
	if err := os.WriteFile(filepath.Join(in, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "gw-1", "store"), filepath.Join(in, "bucket")); err != nil {
		t.Fatal(err)
	}
	h := adopted(t, dir, bucket)
	await(t, "it has failed", func() bool { return gauge(t, h.seen, "lightcone_usage_adopt_failures_total") >= 2 })
	if gone(filepath.Join(dir, "gw-1")) {
		t.Fatal("the ledger is gone, and its bucket was not there")
	}
	if err := os.Remove(filepath.Join(in, "file")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(in, "file"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(in, "bucket"), bucket); err != nil {
		t.Fatal(err)
	}
	await(t, "the folder is gone", func() bool { return gone(filepath.Join(dir, "gw-1")) })
	config, _ := configFor(t, dir)
	config.Bucket = bucket
	have := 0
	for _, rows := range stored(t, bucketOf(t, config)) {
		have += len(rows)
	}
	if have != acknowledged && have != acknowledged+1 {
		t.Errorf("%d records are there, and %d were acknowledged", have, acknowledged)
	}
}

// A process that comes back after long takes its ledger over from who has adopted it.
func TestWhoComesBackHasItsLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, _ := configFor(t, filepath.Join(dir, "gw-1"))
	config.Bucket = filepath.Join(t.TempDir(), "bucket")
	config.lockWait = time.Minute
	h := adopted(t, dir, config.Bucket)
	sent := 0
	for life := range 20 {
		l, err := Open(context.Background(), config)
		if err != nil {
			t.Fatal(err)
		}
		put(t, l, records(sent, sent+25))
		sent += 25
		if err := halt(l); err != nil {
			t.Fatal(err)
		}
		if life%2 == 0 { // or it comes back while it is being adopted
			await(t, "it has been adopted", func() bool { return gone(config.Dir) })
		}
	}
	if n := gauge(t, h.seen, "lightcone_usage_adopted_ledgers_total"); n < 9 {
		t.Errorf("%v ledgers were adopted", n)
	}
	expectStored(t, bucketOf(t, config), records(0, sent))
}

// Damaged segments are somebody's to look at, and their folder is looked at once.
func TestDamagedUsageOfTheFallenIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fallen := filepath.Join(dir, "gw-1")
	killOne(t, fallen, 0, 50)
	bucket := filepath.Join(t.TempDir(), "bucket")
	if err := os.Rename(filepath.Join(fallen, "store"), bucket); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fallen, "00000000000000000001.segment.damaged"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := adopted(t, dir, bucket)
	await(t, "the folder is put aside", func() bool { return gone(fallen) && !gone(fallen+leftSuffix) })
	if err := h.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := adopted(t, dir, bucket)
	await(t, "another has looked", func() bool {
		return !gone(fallen+leftSuffix) && gauge(t, again.seen, "lightcone_usage_adopt_looks_total") > 2
	})
	if told := strings.Count(h.log.String()+again.log.String(), "somebody to look at"); told != 1 {
		t.Errorf("it was told %d times: %s%s", told, h.log, again.log)
	}
}
