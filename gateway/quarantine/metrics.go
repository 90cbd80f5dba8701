package quarantine

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the book's. None has a label: inputs and tenants are without number.
type metrics struct {
	strikes, unshared, refused, unreadable prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, b *Book) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		strikes:    counter("lightcone_quarantine_strikes_total", "Slots killed by a call's input, seen by this process."),
		unshared:   counter("lightcone_quarantine_strikes_unshared_total", "Strikes that count in this process only: too many came at once."),
		refused:    counter("lightcone_quarantine_refused_total", "Calls refused because their input is in quarantine."),
		unreadable: counter("lightcone_quarantine_unreadable_documents_total", "Documents of the quarantine that could not be read and were passed over."),
	}
	for _, collector := range []prometheus.Collector{
		m.strikes, m.unshared, m.refused, m.unreadable,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lightcone_quarantine_inputs", Help: "Inputs in quarantine now."},
			func() float64 { return float64(b.size()) }),
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("quarantine: register metrics: %w", err)
		}
	}
	return m, nil
}
