package quarantine

import (
	"encoding/json"
	"errors"
	"net/http"

	"lightcone"
)

// Handler serves the quarantine's routes for a management listener, which asks for the
// operator's key in front of it: GET /v1/quarantine lists what this gateway knows to
// be in quarantine; DELETE /v1/quarantine/{digest} lifts one input's for all gateways.
func (b *Book) Handler() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /v1/quarantine", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, "application/json", map[string][]Entry{"quarantined": b.List()})
	})
	routes.HandleFunc("DELETE /v1/quarantine/{digest}", b.serveLift)
	return routes
}

func (b *Book) serveLift(w http.ResponseWriter, r *http.Request) {
	var digest lightcone.Digest
	if err := digest.UnmarshalText([]byte(r.PathValue("digest"))); err != nil {
		writeProblem(w, http.StatusBadRequest, "bad-parameter", "Bad parameter", "An input is named by its digest, 64 hexadecimal digits, as GET /v1/quarantine lists it.")
		return
	}
	switch err := b.Lift(r.Context(), digest); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrNotQuarantined):
		writeProblem(w, http.StatusNotFound, "not-found", "Not found", "This input is not in quarantine; GET /v1/quarantine lists what is.")
	default:
		b.logger.Error("lifting a quarantine failed", "digest", digest, "error", err)
		w.Header().Set("Retry-After", "1")
		writeProblem(w, http.StatusServiceUnavailable, "overloaded", "Store away", "The store that all gateways share did not answer, so nobody knows whether the quarantine is lifted; try again.")
	}
}

// writeProblem answers with an RFC 9457 document.
func writeProblem(w http.ResponseWriter, status int, kind, title, detail string) {
	writeJSON(w, status, "application/problem+json", map[string]any{
		"type": "urn:lightcone:problem:" + kind, "title": title, "status": status, "detail": detail,
	})
}

func writeJSON(w http.ResponseWriter, status int, contentType string, value any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a reader that left needs no answer
}
