package main

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/internal/run"
	"lightcone/queue"
	"lightcone/usage"
	"lightcone/usage/billing"
)

// ledgerFlags say where a service writes down what calls use.
type ledgerFlags struct {
	dir, bucket, node, adopt string
}

const bucketUsage = "`URL` of the bucket that usage records are brought to: file:///folder, or s3://bucket?region=…&endpoint=…"

func (l *ledgerFlags) register(f *pflag.FlagSet) {
	f.StringVar(&l.dir, "usage-dir", "", "`folder` of this process's own for what calls used, until the bucket has it; without it, nothing is written down")
	f.StringVar(&l.bucket, "usage-bucket", "", bucketUsage+"; needed with --usage-dir")
	f.StringVar(&l.node, "usage-node", "", "`NAME` of this process among all that write to the bucket, and of whoever takes over its folder; needed with --usage-dir")
	f.StringVar(&l.adopt, "usage-adopt", "", "`folder` whose folders are those of processes of this machine; what one that is gone for a minute has not brought to the bucket is brought there; for --usage-dir")
}

func (l *ledgerFlags) enabled() bool { return l.dir != "" }

// check says what is missing.
func (l *ledgerFlags) check() error {
	switch {
	case l.dir == "" && (l.bucket != "" || l.node != "" || l.adopt != ""):
		return commandline.Usagef("--usage-dir (or %s) is missing: --usage-bucket, --usage-node and --usage-adopt are for it", settingOf("usage-dir"))
	case l.dir != "" && (l.bucket == "" || l.node == ""):
		return commandline.Usagef("--usage-bucket or --usage-node (or %s, %s) is missing: --usage-dir needs both", settingOf("usage-bucket"), settingOf("usage-node"))
	case l.dir != "" && usage.ValidateNode(l.node) != nil:
		return commandline.Usagef("--usage-node: %w", usage.ValidateNode(l.node))
	}
	return nil
}

// ledgerStopBound is how long a service that stops goes on bringing records to the
// bucket. What it does not bring is there for the next start.
const ledgerStopBound = 10 * time.Second

// startLedger starts a ledger as a part of the group. It goes before all that write to
// it, so that it is stopped after them.
func startLedger(ctx context.Context, group *run.Group, config usage.Config) (ledger *usage.Ledger, err error) {
	err = group.Start(ctx, "usage ledger", func(ctx context.Context) (run.Stop, error) {
		if config.Dir, err = filepath.Abs(config.Dir); err != nil {
			return nil, err
		}
		if ledger, err = usage.Open(ctx, config); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, ledgerStopBound)
			defer cancel()
			if err := ledger.Stop(ctx); err != nil {
				config.Logger.Warn("not all usage records are in the bucket", "error", err)
			}
			return nil
		}, nil
	})
	return ledger, err
}

// start starts the ledger that the flags name; nil when they name none.
func (l *ledgerFlags) start(ctx context.Context, group *run.Group, registry *prometheus.Registry, logger *slog.Logger) (*usage.Ledger, error) {
	if !l.enabled() {
		return nil, nil
	}
	logger = logger.With("component", "usage")
	ledger, err := startLedger(ctx, group, usage.Config{Dir: l.dir, Bucket: l.bucket, Node: l.node, Logger: logger, Metrics: registry})
	if err != nil || l.adopt == "" {
		return ledger, err
	}
	return ledger, group.Start(ctx, "usage of the gone", func(context.Context) (run.Stop, error) {
		adopter, err := usage.StartAdopter(usage.AdoptConfig{Folder: l.adopt, Bucket: l.bucket, Logger: logger, Metrics: registry})
		if err != nil {
			return nil, err
		}
		return adopter.Stop, nil
	})
}

// devSealAge is how soon `lightcone dev` brings records to its bucket: whoever tries it
// out looks at once.
const devSealAge = 2 * time.Second

// startDevLedger starts the ledger of `lightcone dev`, and what adds it up, as parts of
// the group: an error has ended it.
func startDevLedger(ctx context.Context, group *run.Group, flags devFlags, registry *prometheus.Registry, logger *slog.Logger) (*usage.Ledger, *usageTotal, error) {
	dir, bucket := filepath.Join(flags.data, "usage"), flags.usageBucket
	logger = logger.With("component", "usage")
	var reader *usage.Reader
	err := group.Start(ctx, "usage reader", func(ctx context.Context) (_ run.Stop, err error) {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		if bucket == "" {
			bucket = "file://" + filepath.ToSlash(filepath.Join(dir, "store"))
		}
		if reader, err = usage.OpenReader(ctx, bucket, billing.OfBucket); err != nil {
			return nil, err
		}
		return func(context.Context) error { return reader.Close() }, nil
	})
	if err != nil {
		return nil, nil, err
	}
	ledger, err := startLedger(ctx, group, usage.Config{Dir: dir, Bucket: bucket, Node: "dev", SealAge: devSealAge, Logger: logger, Metrics: registry})
	return ledger, newUsageTotal(reader, ledger, nil, logger), err
}

// withLedger has a worker write down what queued calls spent, and take none while it
// could not. ledger may be nil.
func withLedger(work queue.WorkConfig, ledger *usage.Ledger) queue.WorkConfig {
	if ledger == nil {
		return work
	}
	room := work.Room
	work.Room = func() bool { return ledger.Full() == nil && room() }
	work.Ended = func(used *lightcone.UsageRecord) error {
		if err := ledger.Append(used); err != nil {
			return err
		}
		_ = ledger.Answered(used.Start) // it is counted all the same; reconciliation finds one that is lost after this
		return nil
	}
	return work
}

// unshippedPath is where a process with a ledger tells gateways what its bucket may not
// have yet: /usage/unshipped?tenant=…&from=…&to=…, times as in RFC 3339.
const unshippedPath = "/usage/unshipped"

// unshippedPage serves it, by pattern. ledger may be nil: then there is no such page.
func unshippedPage(ledger *usage.Ledger) map[string]http.Handler {
	if ledger == nil {
		return nil
	}
	return map[string]http.Handler{"GET " + unshippedPath: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		tenant := lightcone.TenantID(asked.Get("tenant"))
		from, fromErr := time.Parse(time.RFC3339, asked.Get("from"))
		to, toErr := time.Parse(time.RFC3339, asked.Get("to"))
		if tenant.Validate() != nil || fromErr != nil || toErr != nil {
			http.Error(w, "want ?tenant=NAME&from=TIME&to=TIME, with times such as 2026-11-28T09:00:00Z", http.StatusBadRequest)
			return
		}
		answer, err := ledger.Totals(r.Context(), tenant, usage.HoursOf(from, to))
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	})}
}

// withPages adds further pages to some, by pattern.
func withPages(pages, more map[string]http.Handler) map[string]http.Handler {
	all := maps.Clone(pages)
	maps.Copy(all, more)
	return all
}
