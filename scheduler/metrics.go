package scheduler

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the scheduler's. Labels are bounded: functions by the policies,
// kinds and outcomes by their constants. Fleets are shown by the leader only.
type metrics struct {
	leader    prometheus.Gauge
	decisions *prometheus.CounterVec
	desired   *prometheus.GaugeVec
	current   *prometheus.GaugeVec
	busy      *prometheus.GaugeVec
	slots     *prometheus.GaugeVec
	waiting   *prometheus.GaugeVec
	queued    *prometheus.GaugeVec
	oldest    *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lightcone_scheduler_" + name, Help: help}, []string{"function"})
	}
	m := &metrics{
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lightcone_scheduler_leader",
			Help: "1 while this scheduler leads, else 0.",
		}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_scheduler_decisions_total",
			Help: "Changes of decision, by function, kind (up, down, hold) and outcome (held, scaled, conflict, failed, untrusted).",
		}, []string{"function", "kind", "outcome"}),
		desired: gauge("workers_desired", "Workers that the fleet would have if nothing held it back."),
		current: gauge("workers", "Workers that Nomad has been told to run; absent while unknown."),
		busy:    gauge("slots_busy", "Slots that run a call, over the workers that answered."),
		slots:   gauge("slots", "Slots of the workers that answered."),
		waiting: gauge("calls_waiting", "Calls that wait in gateways."),
		queued:  gauge("calls_queued", "Calls in the queue that no worker runs; absent while no queue tells."),
		oldest:  gauge("oldest_queued_seconds", "How long the oldest of them has been queued; 0 when there is none."),
	}
	for _, collector := range []prometheus.Collector{m.leader, m.decisions, m.desired, m.current, m.busy, m.slots, m.waiting, m.queued, m.oldest} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) fleets() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{m.desired, m.current, m.busy, m.slots, m.waiting, m.queued, m.oldest}
}

func (m *metrics) begin() { m.leader.Set(1) }

// end takes the fleets away: what this scheduler last saw is not true for long.
func (m *metrics) end() {
	m.leader.Set(0)
	for _, gauge := range m.fleets() {
		gauge.Reset()
	}
}

// show sets one fleet's gauges; what is not known is absent, not zero.
func (m *metrics) show(a Action) {
	function := string(a.Function)
	if a.Cause == CauseCountUnknown {
		m.desired.DeleteLabelValues(function)
		m.current.DeleteLabelValues(function)
	} else {
		m.desired.WithLabelValues(function).Set(float64(a.Desired))
		m.current.WithLabelValues(function).Set(float64(a.From))
	}
	if !a.Evidence.Fresh || a.Evidence.QueueAnswered == 0 {
		m.queued.DeleteLabelValues(function)
		m.oldest.DeleteLabelValues(function)
	} else {
		m.queued.WithLabelValues(function).Set(float64(a.Evidence.Queued))
		m.oldest.WithLabelValues(function).Set(a.Evidence.OldestQueued.Seconds())
	}
	if !a.Evidence.Fresh {
		for _, gauge := range []*prometheus.GaugeVec{m.busy, m.slots, m.waiting} {
			gauge.DeleteLabelValues(function)
		}
		return
	}
	m.busy.WithLabelValues(function).Set(float64(a.Evidence.Busy))
	m.slots.WithLabelValues(function).Set(float64(a.Evidence.Slots))
	m.waiting.WithLabelValues(function).Set(float64(a.Evidence.Waiting))
}

func (m *metrics) count(a Action, outcome Outcome) {
	m.decisions.WithLabelValues(string(a.Function), string(a.Kind()), string(outcome)).Inc()
}
