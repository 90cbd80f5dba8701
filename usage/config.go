package usage

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is a ledger's. Zero means the default where one is named.
type Config struct {
	Dir    string // of this ledger alone; made if it is missing
	Node   string // unique among all that write to the bucket; see ValidateNode
	Bucket string // as store.Open takes it: a folder, or s3://bucket?region=…; "" = the folder "store" in Dir

	SealBytes int64         // a segment's length, 64 KiB to 64 MiB; 0 = 16 MiB: some 180 000 records
	SealAge   time.Duration // a segment is sealed when its first record is so old; 0 = 1 min
	// SyncEvery is how often segments are brought to the disk: a machine that loses
	// its power loses the records of so long a time, a killed process none; 0 = 1 s.
	SyncEvery    time.Duration
	MaxDiskBytes int64 // for segments that are not yet in the bucket, at least four segments; 0 = 1 GiB

	Logger  *slog.Logger
	Metrics prometheus.Registerer

	// orphan is set for a ledger whose process is gone: nothing is appended to it, and it
	// opens no hour. It is called at the end, with the folder still locked, if the bucket
	// has all of it.
	orphan   func() error
	lockWait time.Duration    // for an Adopter to let go of the folder
	clock    func() time.Time // by which hours are closed
}

const (
	leastSegment     = 64 << 10
	mostSegment      = 64 << 20
	defaultSealBytes = 16 << 20
	defaultSealAge   = time.Minute
	defaultSyncEvery = time.Second
	defaultDisk      = 1 << 30
	leastSegments    = 4                              // in MaxDiskBytes
	defaultLockWait  = adoptionBound + 20*time.Second // which reads it first
)

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	if c.Bucket == "" {
		c.Bucket = filepath.Join(c.Dir, "store")
	}
	if c.SealBytes == 0 {
		c.SealBytes = defaultSealBytes
	}
	if c.SealAge == 0 {
		c.SealAge = defaultSealAge
	}
	if c.SyncEvery == 0 {
		c.SyncEvery = defaultSyncEvery
	}
	if c.MaxDiskBytes == 0 {
		c.MaxDiskBytes = max(defaultDisk, leastSegments*c.SealBytes)
	}
	if c.lockWait == 0 {
		c.lockWait = defaultLockWait
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	return c
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	full := c.withDefaults()
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("usage: folder %q: want an absolute path", c.Dir)
	case c.Logger == nil || c.Metrics == nil:
		return fmt.Errorf("usage: want a logger and a registry of metrics")
	case full.SealBytes < leastSegment || full.SealBytes > mostSegment:
		return fmt.Errorf("usage: segments of %d bytes: want %d to %d", full.SealBytes, leastSegment, mostSegment)
	case full.SealAge < 10*time.Millisecond || full.SealAge > time.Hour:
		return fmt.Errorf("usage: sealing after %v: want 10ms to 1h", full.SealAge)
	case full.SyncEvery < time.Millisecond || full.SyncEvery > time.Minute:
		return fmt.Errorf("usage: syncing every %v: want 1ms to 1m", full.SyncEvery)
	case full.MaxDiskBytes < leastSegments*full.SealBytes:
		return fmt.Errorf("usage: at most %d bytes on the disk: want at least %d segments of %d", full.MaxDiskBytes, leastSegments, full.SealBytes)
	}
	if err := ValidateNode(c.Node); err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	return nil
}
