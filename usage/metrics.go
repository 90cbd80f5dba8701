package usage

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a Ledger's. No label names a tenant.
type metrics struct {
	shippedRows, shipFailures, diskFailures prometheus.Counter
	all                                     []prometheus.Collector
}

func newMetrics(registerer prometheus.Registerer, l *Ledger) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return value()
		})
	}
	m := &metrics{
		shippedRows:  counter("lightcone_usage_shipped_records_total", "Usage records that the bucket has."),
		shipFailures: counter("lightcone_usage_ship_failures_total", "Times that the bucket did not take usage records or counts."),
		diskFailures: counter("lightcone_usage_disk_failures_total", "Times that usage records could not be brought to the disk or sealed."),
	}
	m.all = []prometheus.Collector{
		m.shippedRows, m.shipFailures, m.diskFailures,
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "lightcone_usage_records_total", Help: "Usage records appended."}, func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return float64(l.appended)
		}),
		gauge("lightcone_usage_segments_waiting", "Sealed segments that the bucket does not have.", func() float64 { return float64(len(l.sealed)) }),
		gauge("lightcone_usage_segments_aside", "Segments whose name the bucket has with other records: somebody must look.", func() float64 { return float64(len(l.aside)) }),
		gauge("lightcone_usage_torn", "Records found damaged when the ledger was opened.", func() float64 { return float64(l.torn) }),
		gauge("lightcone_usage_disk_bytes", "Bytes of segments on this machine's disk.", func() float64 { return float64(l.disk) }),
		gauge("lightcone_usage_disk_limit_bytes", "How many they may be.", func() float64 { return float64(l.config.MaxDiskBytes) }),
		gauge("lightcone_usage_full", "1 while no more calls should be admitted, because they could not be recorded.", func() float64 {
			if l.full() != nil {
				return 1
			}
			return 0
		}),
		gauge("lightcone_usage_oldest_waiting_seconds", "Time since the oldest segment that the bucket does not have was sealed.", func() float64 {
			if len(l.sealed) == 0 {
				return 0
			}
			return time.Since(l.sealed[0].sealed).Seconds()
		}),
	}
	for i, collector := range m.all {
		if err := registerer.Register(collector); err != nil {
			m.all = m.all[:i]
			m.unregister(registerer)
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// unregister takes the metrics back, so that a ledger can be opened again.
func (m *metrics) unregister(registerer prometheus.Registerer) {
	for _, collector := range m.all {
		registerer.Unregister(collector)
	}
}
