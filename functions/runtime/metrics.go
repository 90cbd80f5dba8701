package runtime

import "github.com/prometheus/client_golang/prometheus"

// metrics are the supervisor's counters. Functions are few, so their name may
// be a label; tenants are many and never are.
type metrics struct {
	cpu          *prometheus.CounterVec
	lost         *prometheus.CounterVec
	recycled     *prometheus.CounterVec
	failedStarts *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registerer.MustRegister(c)
		return c
	}
	return &metrics{
		cpu:          counter("lightcone_function_cpu_seconds_total", "CPU time that calls used, from the kernel's clock of their process.", "function"),
		lost:         counter("lightcone_function_processes_lost_total", "Processes that a call cost, by what happened.", "function", "kind"),
		recycled:     counter("lightcone_function_processes_recycled_total", "Processes replaced after their number of calls or at their memory mark.", "function"),
		failedStarts: counter("lightcone_function_failed_starts_total", "Processes that did not become healthy.", "function"),
	}
}
