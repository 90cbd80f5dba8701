package edge

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a Directory's. No label names a tenant or a key.
type metrics struct {
	hits, stale, misses, unknown, filtered, refused prometheus.Counter
	reads                                           *prometheus.CounterVec
	skipped                                         prometheus.Counter
	gaps, uncorrected                               prometheus.Counter
	heard                                           *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer, d *Directory) (*metrics, error) {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lightcone_edge_lookups_total",
		Help: "Keys and tenants looked up, by result: hit, stale (served, and refreshed), miss (waited for), unknown (held as not there), filtered (unknown without a read), overloaded (nobody could tell).",
	}, []string{"result"})
	m := &metrics{
		hits: lookups.WithLabelValues("hit"), stale: lookups.WithLabelValues("stale"), misses: lookups.WithLabelValues("miss"),
		unknown: lookups.WithLabelValues("unknown"), filtered: lookups.WithLabelValues("filtered"), refused: lookups.WithLabelValues("overloaded"),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_edge_reads_total",
			Help: "Documents read, by source (redis, origin) and outcome: found, absent, failed, withheld (not asked: it keeps failing, or the rate is used up).",
		}, []string{"source", "outcome"}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightcone_edge_refreshes_skipped_total",
			Help: "Refreshes put off because too many were waiting.",
		}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightcone_edge_gaps_total",
			Help: "Times that changes may have been missed, so that everything held was doubted.",
		}),
		uncorrected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightcone_edge_corrections_dropped_total",
			Help: "Changed documents that Redis may keep in an older version, because too many were waiting to be corrected there, or the origin never had the change.",
		}),
		heard: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_edge_changes_total",
			Help: "Changed documents heard of, by way: redis (published), audit (the trail at the origin).",
		}, []string{"way"}),
	}
	held := func(what string, size func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lightcone_edge_held", Help: "Documents held in memory, by what they are.", ConstLabels: prometheus.Labels{"what": what},
		}, func() float64 { return float64(size()) })
	}
	vouched := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lightcone_edge_audit_trail_age_seconds", Help: "Time since the audit trail was last read to its end.",
	}, d.trail.age)
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lightcone_edge_corrections_waiting", Help: "Changed documents that Redis may have in an older version until it is corrected.",
	}, func() float64 { return float64(d.corrections.count()) })
	for _, collector := range []prometheus.Collector{
		lookups, m.reads, m.skipped, m.gaps, m.heard, m.uncorrected, vouched, waiting,
		held("keys", d.keys.held.EstimatedSize), held("tenants", d.tenants.held.EstimatedSize),
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("edge: register metrics: %w", err)
		}
	}
	return m, nil
}

// read counts a read.
func (m *metrics) read(source string, r reply) {
	outcome := map[reply]string{notAsked: "withheld", failed: "failed", absent: "absent", deleted: "absent", found: "found"}[r]
	m.reads.WithLabelValues(source, outcome).Inc()
}
