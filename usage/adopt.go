package usage

import (
	"context"
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
}

const (
	defaultAdoptAfter = time.Minute
	defaultAdoptEvery = time.Minute
	// adoptionBound is how long one ledger is shipped at a time, once it is open: its own
	// process may come back, and waits for it a little longer.
	adoptionBound = 10 * time.Second
	// leftSuffix is in the name of a folder that is kept for somebody to look at, and
	// goneSuffix in that of one that is being removed.
	leftSuffix = ".damaged"
	goneSuffix = ".gone"
)

// Adopter ships what ledgers hold whose processes are gone for good: what the fallen
// had not brought to the bucket is brought by whoever lives on the same machine. When
// all of a ledger is there, its hours are closed and its folder is removed. Any number
// of processes may look after one folder: a ledger's lock tells whose it is.
type Adopter struct {
	config  AdoptConfig
	metrics adoptMetrics
	free    map[string]orphan // by folder's name

	cancel context.CancelFunc
	ended  chan struct{}
}

// orphan is a ledger that nobody has.
type orphan struct {
	since  time.Time // nobody was seen to have it, or its last try
	failed int       // tries, one after the other
}

// mostDoublings bounds how seldom a ledger is tried: each try reads all of it.
const mostDoublings = 3

type adoptMetrics struct {
	looks   prometheus.Counter
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
	ctx, cancel := context.WithCancel(context.Background())
	a := &Adopter{
		config: config, free: make(map[string]orphan), cancel: cancel, ended: make(chan struct{}),
		metrics: adoptMetrics{
			looks:   prometheus.NewCounter(prometheus.CounterOpts{Name: "lightcone_usage_adopt_looks_total", Help: "Looks for ledgers of processes that are gone."}),
			adopted: prometheus.NewCounter(prometheus.CounterOpts{Name: "lightcone_usage_adopted_ledgers_total", Help: "Ledgers of processes that are gone, of which the bucket has all now."}),
			failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "lightcone_usage_adopt_failures_total", Help: "Times that a ledger of a process that is gone could not be brought to the bucket."}),
		},
	}
	for _, metric := range []prometheus.Collector{a.metrics.looks, a.metrics.adopted, a.metrics.failed} {
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
		for _, name := range a.orphans(time.Now()) {
			if ctx.Err() != nil {
				return
			}
			if err := a.adopt(ctx, name); err != nil && !errors.Is(err, errLocked) && ctx.Err() == nil { // locked: it has been somebody's since
				a.metrics.failed.Inc()
				a.free[name] = orphan{since: time.Now(), failed: a.free[name].failed + 1}
				a.config.Logger.Warn("usage of a process that is gone is not all in the bucket; it is tried again", "ledger", name, "error", err)
			}
		}
		a.metrics.looks.Inc()
		if retry.Pause(ctx, a.config.Every) != nil {
			return
		}
	}
}

// orphans are the ledgers that nobody has had for long enough.
func (a *Adopter) orphans(now time.Time) (names []string) {
	entries, err := os.ReadDir(a.config.Folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.complain(err)
		return nil
	}
	free := make(map[string]orphan)
	for _, entry := range entries {
		name := entry.Name()
		switch filepath.Ext(name) {
		case leftSuffix:
			continue
		case goneSuffix: // whoever removed it was killed meanwhile
			a.complain(os.RemoveAll(filepath.Join(a.config.Folder, name)))
			continue
		}
		if !a.nobodyHas(name) {
			continue
		}
		o, known := a.free[name]
		if !known {
			o.since = now
		}
		free[name] = o
		if now.Sub(o.since) >= a.config.After<<min(o.failed, mostDoublings) {
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
	kept, err := readNumbers(dir)
	if err != nil {
		return err
	}
	l, err := Open(ctx, Config{
		Dir: dir, Node: kept.Node, Bucket: a.config.Bucket,
		Logger: a.config.Logger.With("ledger", name), Metrics: prometheus.NewRegistry(), // the process's own ledger has the names
		orphan: func() error { return a.remove(dir) }, lockWait: time.Nanosecond,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, adoptionBound)
	defer cancel()
	return l.Stop(ctx)
}

// remove removes a ledger's folder, or puts it aside if damaged segments are in it. Its
// lock is held until it has another name: so nobody opens what is half removed.
func (a *Adopter) remove(dir string) error {
	damaged, err := filepath.Glob(filepath.Join(dir, "*"+leftSuffix))
	if err != nil {
		return err
	}
	if len(damaged) > 0 {
		if err := os.Rename(dir, dir+leftSuffix); err != nil {
			return err
		}
		a.config.Logger.Error("damaged usage of a process that is gone is kept for somebody to look at", "folder", dir+leftSuffix)
	} else {
		if err := os.Rename(dir, dir+goneSuffix); err != nil {
			return err
		}
		if err := os.RemoveAll(dir + goneSuffix); err != nil {
			return err
		}
	}
	a.metrics.adopted.Inc()
	a.config.Logger.Info("usage of a process that is gone is in the bucket", "node", filepath.Base(dir))
	return nil
}

// complain tells that the folder cannot be looked after.
func (a *Adopter) complain(err error) {
	if err != nil {
		a.metrics.failed.Inc()
		a.config.Logger.Warn("what processes that are gone have left of usage cannot be looked after", "folder", a.config.Folder, "error", err)
	}
}
