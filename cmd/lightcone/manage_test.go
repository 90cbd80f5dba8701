package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"lightcone/gateway/quarantine"
	"lightcone/identity"
	"lightcone/identity/management"
	"lightcone/internal/document/embedded"
)

func newKey(t *testing.T) identity.Key {
	t.Helper()
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestTheManagementPlaneNamesWhatIsThere: the pages that are mounted beside its own, too.
func TestTheManagementPlaneNamesWhatIsThere(t *testing.T) {
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	manager, err := management.New(management.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	book, err := quarantine.New(quarantine.DefaultConfig(), store, newRegistry(), logger)
	if err != nil {
		t.Fatal(err)
	}
	for want, further := range map[string]map[string]http.Handler{
		"has /v1/tenants, /v1/keys, /v1/audit and /v1/quarantine.":                  nil,
		"has /v1/tenants, /v1/keys, /v1/audit, /v1/deadletters and /v1/quarantine.": deadLetterPages(nil, logger),
	} {
		operator := newKey(t)
		server := managementListener{operator: operator, metrics: newRegistry(), api: managed(manager, book, further)}.server()
		request := httptest.NewRequest(http.MethodGet, "/v1/customers", nil)
		request.Header.Set("Authorization", "Bearer "+operator.Text())
		recorded := httptest.NewRecorder()
		server.Handler.ServeHTTP(recorded, request)
		if recorded.Code != http.StatusNotFound || !strings.Contains(recorded.Body.String(), want) {
			t.Errorf("%d %s, want %q", recorded.Code, recorded.Body, want)
		}
	}
}

func TestManagementAsksForTheOperatorsKey(t *testing.T) {
	operator, other := newKey(t), newKey(t)
	var unready error
	server := managementListener{
		operator: operator, metrics: newRegistry(),
		ready: func() (any, error) { return []string{"details"}, unready },
		operate: map[string]func(http.ResponseWriter){
			"GET /page": func(w http.ResponseWriter) { writeJSON(w, http.StatusOK, map[string]int{"calls": 3}) },
		},
	}.server()
	var answered bytes.Buffer
	bearer := func(key string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }
	}
	basic := func(user, key string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, key) }
	}
	ask := func(method, path string, show func(*http.Request)) *http.Response {
		request := httptest.NewRequest(method, path, nil)
		if show != nil {
			show(request)
		}
		recorded := httptest.NewRecorder()
		server.Handler.ServeHTTP(recorded, request)
		answered.Write(recorded.Body.Bytes())
		return recorded.Result()
	}
	wrongSecret := operator.Text()[:len(operator.Text())-1] + "-"
	for _, test := range []struct {
		name, method, path string
		show               func(*http.Request)
		status             int
		body               string
	}{
		{"health is everybody's", "GET", "/healthz", nil, 200, ""},
		{"readiness is everybody's", "GET", "/readyz", nil, 200, `"details"`},
		{"bearer", "GET", "/metrics", bearer(operator.Text()), 200, "go_goroutines"},
		{"basic", "GET", "/metrics", basic("", operator.Text()), 200, "go_goroutines"},
		{"basic with any user", "GET", "/page", basic("me", operator.Text()), 200, `"calls": 3`},
		{"a further page", "GET", "/page", bearer(operator.Text()), 200, `"calls": 3`},
		{"no key", "GET", "/metrics", nil, 401, "operator.key"},
		{"no key for a further page", "GET", "/page", nil, 401, "operator.key"},
		{"an empty key", "GET", "/page", bearer(""), 401, ""},
		{"another's key", "GET", "/page", bearer(other.Text()), 401, ""},
		{"another's key as a password", "GET", "/page", basic("operator", other.Text()), 401, ""},
		{"the key as the user", "GET", "/page", basic(operator.Text(), ""), 401, ""},
		{"a wrong secret", "GET", "/page", bearer(wrongSecret), 401, ""},
		{"the key without its scheme", "GET", "/page", func(r *http.Request) { r.Header.Set("Authorization", operator.Text()) }, 401, ""},
		{"another method", "POST", "/page", bearer(operator.Text()), 405, ""},
		{"no such page", "GET", "/debug/pprof/", bearer(operator.Text()), 404, ""},
	} {
		response := ask(test.method, test.path, test.show)
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != test.status || !strings.Contains(string(body), test.body) {
			t.Errorf("%s: %s with %.200q, %v; want %d with %q in it", test.name, response.Status, body, err, test.status, test.body)
		}
		asks := strings.Join(response.Header.Values("WWW-Authenticate"), "; ")
		if wants := strings.Contains(asks, "Bearer ") && strings.Contains(asks, "Basic "); wants != (test.status == 401) {
			t.Errorf("%s: WWW-Authenticate is %q", test.name, asks)
		}
	}
	unready = errors.New("no process is live")
	if response := ask("GET", "/readyz", nil); response.StatusCode != 503 {
		t.Errorf("not ready: %s", response.Status)
	}
	for _, key := range []identity.Key{operator, other} {
		if strings.Contains(answered.String(), key.Text()[20:]) {
			t.Errorf("an answer repeats a key: %s", &answered)
		}
	}
}
