package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/retry"
)

// AdoptConfig says whose ledgers an Adopter looks after. Folder, Bucket, Logger and
// Metrics have no default.
type AdoptConfig struct {
	Folder string        // each folder in it is a ledger's
	Bucket string        // that they ship to, as in Config
	After  time.Duration // a ledger is adopted when nobody has had it for so long; 0 = 1 min: a process that was killed is back sooner
	Every  time.Duration // between two looks; 0 = 1 min

	Logger  *slog.Logger
	Metrics prometheus.Registerer

	clock func() time.Time // nil = time.Now
}

const (
	defaultAdoptAfter = time.Minute
	defaultAdoptEvery = time.Minute
	// adoptionBound is how long one ledger is held at a time: its own process may come
	// back, and waits for it a little longer.
	adoptionBound = 10 * time.Second
	// leftSuffix is in the name of a folder that is kept for somebody to look at.
	leftSuffix = ".damaged"
)

// Adopter ships what ledgers hold whose processes are gone for good: what the fallen
// had not brought to the bucket is brought by whoever lives on the same machine. When
// all of a ledger is there and its hours are closed, its folder is removed. Any number
// of processes may look after one folder: a ledger's lock tells whose it is.
type Adopter struct {
	config  AdoptConfig
	metrics adoptMetrics
	free    map[string]time.Time // by folder's name: since when nobody was seen to have it

	cancel context.CancelFunc
	ended  chan struct{}
}

type adoptMetrics struct {
	adopted prometheus.Counter
	failed  prometheus.Counter
}

// StartAdopter starts to look, until Stop. Nothing in the folder needs to be there
// yet; it is an error if the metrics are.
func StartAdopter(config AdoptConfig) (*Adopter, error) {
	if config.After == 0 {
		config.After = defaultAdoptAfter
	}
	if config.Every == 0 {
		config.Every = defaultAdoptEvery
	}
	if config.clock == nil {
		config.clock = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Adopter{
		config: config, free: make(map[string]time.Time), cancel: cancel, ended: make(chan struct{}),
		metrics: adoptMetrics{
			adopted: prometheus.NewCounter(prometheus.CounterOpts{Name: "lightcone_usage_adopted_ledgers_total", Help: "Ledgers of processes that are gone, of which the bucket has all now."}),
			failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "lightcone_usage_adopt_failures_total", Help: "Times that a ledger of a process that is gone could not be brought to the bucket."}),
		},
	}
	for _, metric := range []prometheus.Collector{a.metrics.adopted, a.metrics.failed} {
		if err := config.Metrics.Register(metric); err != nil {
			cancel()
			return nil, fmt.Errorf("usage: adopt what is left in %s: register metrics: %w", config.Folder, err)
		}
	}
	go a.look(ctx)
	return a, nil
}

// Stop ends the looking, and waits until the ledger that is being shipped is let go of.
func (a *Adopter) Stop(context.Context) error {
	a.cancel()
	<-a.ended
	return nil
}

func (a *Adopter) look(ctx context.Context) {
	defer close(a.ended)
	for {
		for _, name := range a.orphans(a.config.clock()) {
			if ctx.Err() != nil {
				return
			}
			if err := a.adopt(ctx, name); err != nil && ctx.Err() == nil {
				a.metrics.failed.Inc()
				a.config.Logger.Warn("usage of a process that is gone is not all in the bucket; it is tried again", "ledger", name, "error", err)
			}
		}
		if retry.Pause(ctx, a.config.Every) != nil {
			return
		}
	}
}

// orphans are the ledgers that nobody has had for long enough.
func (a *Adopter) orphans(now time.Time) (names []string) {
	entries, err := os.ReadDir(a.config.Folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.metrics.failed.Inc()
		a.config.Logger.Warn("nobody knows which processes that are gone have left usage", "error", err)
		return nil
	}
	free := make(map[string]time.Time)
	for _, entry := range entries {
		name := entry.Name()
		if filepath.Ext(name) == leftSuffix || !a.nobodyHas(name) {
			continue
		}
		since, known := a.free[name]
		if !known {
			since = now
		}
		free[name] = since
		if now.Sub(since) >= a.config.After {
			names = append(names, name)
		}
	}
	a.free = free // what is not there any more is forgotten
	return names
}

// nobodyHas says whether a folder is a ledger's whose lock is free.
func (a *Adopter) nobodyHas(name string) bool {
	dir := filepath.Join(a.config.Folder, name)
	if _, err := os.Stat(filepath.Join(dir, numbersFile)); err != nil {
		return false // not a ledger's, or not yet
	}
	lock, err := tryLock(dir)
	if err != nil {
		return false
	}
	return lock.Close() == nil
}

// adopt ships what one ledger holds, as far as that goes in adoptionBound. Its folder
// is removed when nothing is left to do for it.
func (a *Adopter) adopt(ctx context.Context, name string) error {
	dir := filepath.Join(a.config.Folder, name)
	node, err := nodeOf(dir)
	if err != nil {
		return err
	}
	l, err := Open(ctx, Config{
		Dir: dir, Node: node, Bucket: a.config.Bucket,
		Logger: a.config.Logger.With("ledger", name), Metrics: prometheus.NewRegistry(), // the process's own ledger has the names
		orphan: func() error { return a.remove(dir) }, lockWait: time.Nanosecond, clock: a.config.clock,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, adoptionBound)
	defer cancel()
	return l.Stop(ctx)
}

// remove removes a ledger's folder, or puts it aside if damaged segments are in it.
// Its lock is still held, so that nobody opens it meanwhile.
func (a *Adopter) remove(dir string) error {
	damaged, err := filepath.Glob(filepath.Join(dir, "*"+leftSuffix))
	if err == nil && len(damaged) > 0 {
		a.config.Logger.Error("damaged usage of a process that is gone is kept for somebody to look at", "folder", dir+leftSuffix)
		err = os.Rename(dir, dir+leftSuffix)
	} else if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	a.metrics.adopted.Inc()
	a.config.Logger.Info("usage of a process that is gone is in the bucket", "node", filepath.Base(dir))
	return nil
}

// nodeOf reads whose ledger is in a folder.
func nodeOf(dir string) (string, error) {
	name := filepath.Join(dir, numbersFile)
	content, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	var n numbers
	if err := json.Unmarshal(content, &n); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return n.Node, ValidateNode(n.Node)
}
