package management

import (
	"net/http"
	"strings"
	"time"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/problem"
)

// routes answers HTTP for a Manager.
type routes struct {
	manager *Manager
}

// Routes are the HTTP routes of the management plane, all of them below /v1/
// (DESIGN, section 8). Whoever mounts them lets in only the operator, and says who
// that is with WithActor. Errors are RFC 9457 problem documents. A browser's request
// from another site is refused: it may carry a password that the browser remembers.
// beside are the paths that are mounted next to these, for who asks at one where nothing is.
func Routes(manager *Manager, beside ...string) http.Handler {
	r, mux := routes{manager}, http.NewServeMux()
	mux.HandleFunc("POST /v1/tenants", r.createTenant)
	mux.HandleFunc("GET /v1/tenants", r.tenants)
	mux.HandleFunc("GET /v1/tenants/{id}", r.tenant)
	mux.HandleFunc("PATCH /v1/tenants/{id}", r.editTenant)
	mux.HandleFunc("GET /v1/tenants/{id}/quota", r.quota)
	mux.HandleFunc("PUT /v1/tenants/{id}/quota", r.setQuota)
	mux.HandleFunc("POST /v1/tenants/{id}/keys", r.issueKey)
	mux.HandleFunc("GET /v1/tenants/{id}/keys", r.keys)
	mux.HandleFunc("GET /v1/tenants/{id}/callback-secret", r.callbackSecret)
	mux.HandleFunc("GET /v1/keys/{id}", r.key)
	mux.HandleFunc("DELETE /v1/keys/{id}", r.revokeKey)
	mux.HandleFunc("GET /v1/audit", r.audit)
	mux.HandleFunc("GET /v1/audit/verify", r.verifyAudit)
	sameSite := http.NewCrossOriginProtection()
	sameSite.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 0, nil, problem.New(problem.Forbidden, "A page of another site sent this; the management plane takes changes from its own and from programs."))
	}))
	return sameSite.Handler(withProblems(mux, append([]string{"/v1/tenants", "/v1/keys", "/v1/audit"}, beside...)))
}

// withProblems answers what mux has no route for as a problem, which names the paths that
// there are.
func withProblems(mux *http.ServeMux, paths []string) http.Handler {
	last := len(paths) - 1
	served := strings.Join(paths[:last], ", ") + " and " + paths[last]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refusal := refusal{header: make(http.Header)}
		handler.ServeHTTP(&refusal, r)
		if refusal.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", refusal.header.Get("Allow"))
			answer(w, 0, nil, problem.New(problem.MethodNotAllowed, "This route takes %s, not %s.", refusal.header.Get("Allow"), quoted(r.Method)))
			return
		}
		answer(w, 0, nil, problem.New(problem.NotFound, "There is no such route; the management plane has %s.", served))
	})
}

// refusal is a ResponseWriter that hears what ServeMux says of a request without a
// route.
type refusal struct {
	header http.Header
	status int
}

func (r *refusal) Header() http.Header            { return r.header }
func (r *refusal) WriteHeader(status int)         { r.status = status }
func (r *refusal) Write(text []byte) (int, error) { return len(text), nil }

func (rs routes) createTenant(w http.ResponseWriter, r *http.Request) {
	var id lightcone.TenantID
	var name string
	if err := readBody(w, r, field{"id", "a string", &id}, field{"name", "a string", &name}); err != nil {
		answer(w, 0, nil, err)
		return
	}
	tenant, version, err := rs.manager.CreateTenant(r.Context(), id, name)
	w.Header().Set("Location", "/v1/tenants/"+string(tenant.ID))
	w.Header().Set("ETag", etagOf(version))
	answer(w, http.StatusCreated, tenant, err)
}

func (rs routes) tenants(w http.ResponseWriter, r *http.Request) {
	asked, err := pageOfQuery(r.URL.RawQuery, "after", "limit")
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	list, more, err := rs.manager.Tenants(r.Context(), lightcone.TenantID(asked.after), asked.limit)
	page := tenantsPage{Tenants: list}
	if more {
		page.Next = list[len(list)-1].ID
	}
	answer(w, http.StatusOK, page, err)
}

func (rs routes) tenant(w http.ResponseWriter, r *http.Request) {
	tenant, version, err := rs.manager.Tenant(r.Context(), tenantOf(r))
	w.Header().Set("ETag", etagOf(version))
	answer(w, http.StatusOK, tenant, err)
}

func (rs routes) editTenant(w http.ResponseWriter, r *http.Request) {
	var edit Edit
	if err := readBody(w, r, field{"name", "a string", &edit.Name}, field{"disabled", "true or false", &edit.Disabled}); err != nil {
		answer(w, 0, nil, err)
		return
	}
	tenant, err := rs.edit(w, r, edit)
	answer(w, http.StatusOK, tenant, err)
}

func (rs routes) quota(w http.ResponseWriter, r *http.Request) {
	tenant, version, err := rs.manager.Tenant(r.Context(), tenantOf(r))
	w.Header().Set("ETag", etagOf(version))
	answer(w, http.StatusOK, identity.DocumentOf(tenant.Quota), err)
}

func (rs routes) setQuota(w http.ResponseWriter, r *http.Request) {
	var document identity.QuotaDocument
	err := readBody(w, r,
		field{"calls_per_second", "a number", &document.CallsPerSecond},
		field{"burst", "a whole number", &document.Burst},
		field{"concurrent_calls", "a whole number", &document.ConcurrentCalls},
		field{"cpu_seconds_per_month", "a number", &document.CPUSecondsPerMonth},
		field{"bytes_per_month", "a whole number", &document.BytesPerMonth})
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	quota, err := document.Quota()
	if err != nil {
		answer(w, 0, nil, bad("%v", err)) // it names the field
		return
	}
	tenant, err := rs.edit(w, r, Edit{Quota: &quota})
	answer(w, http.StatusOK, identity.DocumentOf(tenant.Quota), err)
}

// edit edits the tenant of the path under the request's If-Match.
func (rs routes) edit(w http.ResponseWriter, r *http.Request, edit Edit) (identity.Tenant, error) {
	versions, err := versionsOf(r.Header.Values("If-Match"))
	if err != nil {
		return identity.Tenant{}, err
	}
	tenant, version, err := rs.manager.EditTenant(r.Context(), tenantOf(r), edit, versions...)
	w.Header().Set("ETag", etagOf(version))
	return tenant, err
}

func (rs routes) issueKey(w http.ResponseWriter, r *http.Request) {
	var scopes identity.Scopes
	var expires *time.Time
	err := readBody(w, r,
		field{"scopes", "a list of function names, or of * alone", &scopes},
		field{"expires_at", "a time such as 2030-01-31T12:00:00Z", &expires})
	if err == nil && expires != nil && expires.IsZero() {
		err = bad("expires_at: leave it out for a key that never expires") // for zero means that inside
	}
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	var until time.Time
	if expires != nil {
		until = expires.UTC()
	}
	key, record, err := rs.manager.IssueKey(r.Context(), tenantOf(r), scopes, until)
	w.Header().Set("Location", "/v1/keys/"+string(record.ID))
	answer(w, http.StatusCreated, issuedDocument{Key: key.Text(), KeyDocument: keyDocumentOf(record)}, err)
}

func (rs routes) keys(w http.ResponseWriter, r *http.Request) {
	asked, err := pageOfQuery(r.URL.RawQuery, "after", "limit")
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	records, more, err := rs.manager.Keys(r.Context(), tenantOf(r), identity.KeyID(asked.after), asked.limit)
	page := keysPage{Keys: make([]KeyDocument, 0, len(records))}
	for _, record := range records {
		page.Keys = append(page.Keys, keyDocumentOf(record))
	}
	if more {
		page.Next = records[len(records)-1].ID
	}
	answer(w, http.StatusOK, page, err)
}

func (rs routes) callbackSecret(w http.ResponseWriter, r *http.Request) {
	secret, err := rs.manager.CallbackSecret(r.Context(), tenantOf(r))
	answer(w, http.StatusOK, callbackSecretDocument{secret}, err)
}

func (rs routes) key(w http.ResponseWriter, r *http.Request) {
	record, err := rs.manager.Key(r.Context(), identity.KeyID(r.PathValue("id")))
	answer(w, http.StatusOK, keyDocumentOf(record), err)
}

func (rs routes) revokeKey(w http.ResponseWriter, r *http.Request) {
	err := rs.manager.RevokeKey(r.Context(), identity.KeyID(r.PathValue("id")))
	answer(w, http.StatusNoContent, nil, err)
}

func (rs routes) audit(w http.ResponseWriter, r *http.Request) {
	asked, err := pageOfQuery(r.URL.RawQuery, "after", "limit")
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	after, err := asked.number()
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	entries, last, err := rs.manager.Audit(r.Context(), after, asked.limit)
	page := auditPage{Entries: entries}
	if read := after + uint64(len(entries)); read < last {
		page.Next = read
	}
	answer(w, http.StatusOK, page, err)
}

func (rs routes) verifyAudit(w http.ResponseWriter, r *http.Request) {
	asked, err := pageOfQuery(r.URL.RawQuery, "after")
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	after, err := asked.number()
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	found, err := rs.manager.VerifyAudit(r.Context(), after)
	answer(w, http.StatusOK, found, err)
}

func tenantOf(r *http.Request) lightcone.TenantID { return lightcone.TenantID(r.PathValue("id")) }
