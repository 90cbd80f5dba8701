package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lightcone/identity"
	"lightcone/identity/management"
)

// managementListener is a service's listener for its operator: health and readiness for
// everybody, the rest for the operator's key. It belongs on its own port, away
// from the public load balancer.
type managementListener struct {
	operator identity.Key
	metrics  prometheus.Gatherer
	ready    func() (details any, err error)      // for /readyz
	operate  map[string]func(http.ResponseWriter) // further pages, for the operator; by pattern
	api      map[string]http.Handler              // what changes things, for the operator; by pattern
}

func (m managementListener) server() *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		details, err := m.ready()
		status := http.StatusOK
		if err != nil {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, details)
	})
	routes.Handle("GET /metrics", operatorsOnly(m.operator, promhttp.HandlerFor(m.metrics, promhttp.HandlerOpts{})))
	for pattern, page := range m.operate {
		routes.Handle(pattern, operatorsOnly(m.operator, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { page(w) })))
	}
	for pattern, handler := range m.api {
		routes.Handle(pattern, operatorsOnly(m.operator, asActor(m.operator.ID(), handler)))
	}
	return &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// asActor has the audit trail name the operator's key for what handler changes.
func asActor(operator identity.KeyID, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(management.WithActor(r.Context(), string(operator))))
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // a reader that left needs no answer
}

// operatorsOnly asks for the operator's key: as a bearer token, or as the password
// of a browser that has followed a link.
func operatorsOnly(operator identity.Key, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		presented, shown := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !shown {
			_, presented, shown = r.BasicAuth()
		}
		if !shown || !operator.Opens([]byte(presented)) {
			w.Header().Add("WWW-Authenticate", `Bearer realm="lightcone management"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="lightcone management: the operator's key is the password"`)
			http.Error(w, "The management listener wants the operator's key: Authorization: Bearer <what operator.key holds>.", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
