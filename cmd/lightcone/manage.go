package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	supervisor "lightcone/functions/runtime"
	"lightcone/identity"
)

// newManagement is the operator's listener: health and readiness for everybody,
// the rest for the operator's key. It belongs on its own port, away from the
// public load balancer.
func newManagement(operator identity.Key, metrics prometheus.Gatherer, worker *supervisor.Supervisor) (*http.Server, error) {
	operators, err := identity.NewKeyring([]identity.Record{{ID: operator.ID(), Digest: operator.Digest(), Tenant: "operator", Scopes: identity.Scopes{All: true}}})
	if err != nil {
		return nil, err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if worker.Ready() != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(worker.Status()) // a reader that left needs no answer
	})
	routes.Handle("GET /metrics", operatorsOnly(operators, promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})))
	return &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}, nil
}

func operatorsOnly(operators *identity.Keyring, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		presented, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := operators.Authenticate([]byte(presented)); !bearer || err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="lightcone management"`)
			http.Error(w, "The management listener wants the operator's key: Authorization: Bearer <what operator.key holds>.", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
