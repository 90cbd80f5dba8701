package edge

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/internal/document"
)

// Config says where a Directory looks and for how long it believes what it saw.
// Origin, Logger and Metrics are needed; the rest has defaults.
type Config struct {
	Origin document.Store
	Redis  *Redis // nil: there is none, and that tier is left out

	MostKeys             int           // keys held, and as many tenants; 200 000. Beyond it those least used go
	FreshFor             time.Duration // what is confirmed is not asked for again this long; 30 s
	StaleFor             time.Duration // what nobody can confirm is believed this long; 24 h
	OriginReadsPerSecond float64       // at most, for keys and tenants; 1 000. Refreshes get half of it

	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

const (
	recheckFor     = time.Hour              // what only the audit trail vouches for is read again after this long
	unknownFor     = 5 * time.Second        // a key that is not there is not looked for again this long
	justHeardFor   = 300 * time.Millisecond // the same, when it was heard of lately
	mostUnknown    = 10_000                 // such keys remembered
	loadTimeout    = time.Second            // a call waits for its key, or its tenant, no longer
	mostLoads      = 256                    // of them at once
	refreshers     = 8
	mostRefreshes  = 4096        // waiting for a refresher
	refreshPause   = time.Second // between tries to refresh the same document
	doubtedPause   = 100 * time.Millisecond
	newcomerReads  = 20  // a second, for keys that the filter does not know
	unfilteredRead = 500 // a second, while there is no filter
)

func (c Config) withDefaults() (Config, error) {
	if c.Origin == nil || c.Logger == nil || c.Metrics == nil {
		return c, errors.New("edge: the configuration lacks an origin, a logger or metrics: set all three")
	}
	c.MostKeys = cmp.Or(c.MostKeys, 200_000)
	c.FreshFor = cmp.Or(c.FreshFor, 30*time.Second)
	c.StaleFor = cmp.Or(c.StaleFor, DefaultStaleFor)
	c.OriginReadsPerSecond = cmp.Or(c.OriginReadsPerSecond, 1000)
	if c.MostKeys < 1 || c.FreshFor < 0 || c.StaleFor < c.FreshFor || c.OriginReadsPerSecond < 1 {
		return c, fmt.Errorf("edge: %d keys, fresh for %v, stale for %v, %v reads a second: want at least 1 key and 1 read, and nothing stale before it is no longer fresh",
			c.MostKeys, c.FreshFor, c.StaleFor, c.OriginReadsPerSecond)
	}
	return c, nil
}
