package gateway

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// fleetMetrics are a fleet's.
type fleetMetrics struct {
	tries     [3]prometheus.Counter // by outcome
	retries   prometheus.Counter
	exhausted prometheus.Counter
	setAside  [asideSlow + 1]prometheus.Counter // by reason
}

func newFleetMetrics(registerer prometheus.Registerer, f *Fleet) (*fleetMetrics, error) {
	tries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lightcone_gateway_fleet_tries_total",
		Help: "Calls handed to a worker, by what became of them there: taken, refused (it had no room; another was tried), or lost (with the worker).",
	}, []string{"outcome"})
	m := &fleetMetrics{
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightcone_gateway_fleet_retries_total",
			Help: "Calls lost with their worker that were sent to another.",
		}),
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lightcone_gateway_fleet_retries_denied_total",
			Help: "Calls lost with their worker that were not sent again, because the retry budget was used up.",
		}),
	}
	aside := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lightcone_gateway_fleet_ejections_total",
		Help: "Workers set aside for a while, by why: lost (calls in a row), crashes (of several tenants' calls), or slow (beside the others).",
	}, []string{"reason"})
	for why := asideLosing; why <= asideSlow; why++ {
		m.setAside[why] = aside.WithLabelValues(why.String())
	}
	for how, name := range map[outcome]string{taken: "taken", refused: "refused", gone: "lost"} {
		m.tries[how] = tries.WithLabelValues(name)
	}
	members := func(state string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "lightcone_gateway_fleet_members",
			Help:        "Workers that the gateway knows, those of them that are ready, and those that it has set aside.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(value()) })
	}
	for _, collector := range []prometheus.Collector{
		tries, m.retries, m.exhausted, aside,
		members("known", func() int { known, _ := f.count(); return known }),
		members("ready", func() int { _, ready := f.count(); return ready }),
		members("ejected", f.countAside),
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("fleet: register metrics: %w", err)
		}
	}
	return m, nil
}

const (
	defaultRetryBudget = 0.10 // of all calls
	firstRetries       = 10   // tokens: what a gateway may retry before it has seen many calls
	mostRetries        = 100  // tokens: what an hour of calm saves up for the next storm
)
