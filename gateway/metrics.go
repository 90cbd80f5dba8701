package gateway

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/gateway/admission"
	"lightcone/internal/problem"
)

// Outcomes that are no problem kind, as label values.
const (
	outcomeOK            = "ok"
	outcomeFunctionError = "function-error" // the function's own plain 4xx or 5xx
	outcomeAccepted      = "accepted"       // the queue has the call; its outcome is not known here
	outcomeAwaited       = "awaited"        // as accepted, and its result came while its client waited
)

// noFunction labels what was refused before a function was known. Names that
// callers make up never become labels, and neither do tenants.
const noFunction = ""

// metrics are the gateway's. Labels are bounded: functions by what the worker
// offers, outcomes by the kinds.
type metrics struct {
	calls    *prometheus.CounterVec
	shed     *prometheus.CounterVec
	confined *prometheus.CounterVec
	queued   *prometheus.HistogramVec
	exec     *prometheus.HistogramVec
	none     *laneMetrics // for noFunction

	accept      prometheus.Histogram
	invocations *prometheus.CounterVec

	handshakes *prometheus.CounterVec
	unrecorded prometheus.Counter
	limited    map[admission.Limit]prometheus.Counter // looked up once
}

// laneMetrics are one function's, looked up once.
type laneMetrics struct {
	outcomes map[string]prometheus.Counter
	shed     prometheus.Counter
	confined prometheus.Counter
	queued   prometheus.Observer
	exec     prometheus.Observer
}

func newMetrics(registerer prometheus.Registerer, g *Gateway) (*metrics, error) {
	label := []string{"function"}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_gateway_calls_total",
			Help: "Calls answered, by function and outcome: ok, function-error, or a problem's kind; accepted, or awaited, when the queue took the call.",
		}, []string{"function", "outcome"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_gateway_shed_total",
			Help: "Calls refused because their turn would not have come in time.",
		}, label),
		confined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_gateway_confined_total",
			Help: "Calls of confined tenants that were refused because the function had no free slot for them: none in their shard, or none at all.",
		}, label),
		queued: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lightcone_gateway_queue_seconds",
			Help:    "Time from a call's body being in to its start.",
			Buckets: []float64{.0001, .001, .005, .01, .025, .05, .1, .25, .5, 1},
		}, label),
		exec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lightcone_gateway_exec_seconds",
			Help:    "Time a call was with its function.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, label),
		accept: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lightcone_gateway_accept_seconds",
			Help:    "Time that the queue took to accept a call, or to refuse it.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_gateway_invocation_requests_total",
			Help: "Requests about accepted calls, by what was asked (status, result, cancel) and outcome: ok, function-error, or a problem's kind.",
		}, []string{"asked", "outcome"}),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightcone_gateway_handshakes_total",
			Help: "TLS handshakes by outcome: done, failed, timeout, or http when the client did not speak TLS.",
		}, []string{"outcome"}),
	}
	m.unrecorded = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lightcone_gateway_unrecorded_total",
		Help: "Calls answered whose usage record could not be kept.",
	})
	limited := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lightcone_gateway_limited_total",
		Help: "Calls refused by a limit of their tenant, by the limit's name.",
	}, []string{"quota"})
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	for _, collector := range []prometheus.Collector{
		m.calls, m.shed, m.confined, m.queued, m.exec, m.accept, m.invocations, m.handshakes, m.unrecorded, limited,
		gauge("lightcone_gateway_calls_in_flight", "Calls between the end of their headers and their outcome.",
			func() float64 { return float64(g.inFlight.Load()) }),
		gauge("lightcone_gateway_tenants", "Tenants that are remembered.",
			func() float64 { return float64(g.config.Tenants.Len()) }),
		gauge("lightcone_gateway_tenants_forgotten", "Tenants dropped for want of room before the region had heard what they used.",
			func() float64 { return float64(g.config.Tenants.Forgotten()) }),
		gauge("lightcone_gateway_bytes_in_flight", "Bytes of bodies and answers in memory.",
			func() float64 { return float64(g.budget.used.Load()) }),
		gauge("lightcone_gateway_connections", "Connections open.",
			func() float64 { return float64(g.openConnections()) }),
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("gateway: register metrics: %w", err)
		}
	}
	m.none = m.forFunction(noFunction)
	m.limited = make(map[admission.Limit]prometheus.Counter)
	for _, limit := range admission.Limits() {
		m.limited[limit] = limited.WithLabelValues(string(limit))
	}
	return m, nil
}

// forFunction looks up a function's metrics, so that no call has to.
func (m *metrics) forFunction(name lightcone.FunctionName) *laneMetrics {
	found := &laneMetrics{
		outcomes: make(map[string]prometheus.Counter, len(rows)+4),
		shed:     m.shed.WithLabelValues(string(name)),
		confined: m.confined.WithLabelValues(string(name)),
		queued:   m.queued.WithLabelValues(string(name)),
		exec:     m.exec.WithLabelValues(string(name)),
	}
	for kind := range rows {
		found.outcomes[string(kind)] = m.calls.WithLabelValues(string(name), string(kind))
	}
	for _, outcome := range []string{outcomeOK, outcomeFunctionError, outcomeAccepted, outcomeAwaited} {
		found.outcomes[outcome] = m.calls.WithLabelValues(string(name), outcome)
	}
	return found
}

// count counts one call's outcome. A kind without a row is counted as what it is
// answered as: internal.
func (m *laneMetrics) count(outcome string) {
	counter, known := m.outcomes[outcome]
	if !known {
		counter = m.outcomes[string(problem.Internal)]
	}
	counter.Inc()
}

// invocation counts a request about an accepted call.
func (m *metrics) invocation(asked string, outcome string) {
	if _, known := m.none.outcomes[outcome]; !known {
		outcome = string(problem.Internal)
	}
	m.invocations.WithLabelValues(asked, outcome).Inc()
}
