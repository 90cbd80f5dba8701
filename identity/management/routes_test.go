package management

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lightcone/internal/testbed"
)

// listen serves a Manager's routes to the operator, as cmd does.
func listen(t testing.TB, m *Manager) *httptest.Server {
	t.Helper()
	routes := Routes(m)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		routes.ServeHTTP(w, r.WithContext(WithActor(r.Context(), operator)))
	}))
	t.Cleanup(server.Close)
	return server
}

type answered struct {
	status int
	header http.Header
	body   string
}

func ask(t testing.TB, server *httptest.Server, method, path, body string, header ...string) answered {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{response.StatusCode, response.Header, string(text)}
}

// TestARequestThatCannotBeServed looks at statuses, sentences and their form.
func TestARequestThatCannotBeServed(t *testing.T) {
	m := newManager(t, Config{Store: newStore(t)})
	mustCreate(t, m, "acme")
	server := listen(t, m)
	const tenants, acme, quota, keys = "/v1/tenants", "/v1/tenants/acme", "/v1/tenants/acme/quota", "/v1/tenants/acme/keys"
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		kind, says               string
	}{
		{"no body", "POST", tenants, "", 400, "bad-parameter", "fields id, name"},
		{"no object", "POST", tenants, "[]", 400, "bad-parameter", "no JSON object"},
		{"cut short", "POST", tenants, `{"id":"a"`, 400, "bad-parameter", "cut short"},
		{"no JSON", "POST", tenants, `{"id":'a'}`, 400, "bad-parameter", "no JSON"},
		{"an unknown field", "POST", tenants, `{"id":"a","quota":{}}`, 400, "bad-parameter", `"quota"`},
		{"a field in another case", "POST", tenants, `{"ID":"a"}`, 400, "bad-parameter", `"ID"`},
		{"a field twice", "POST", tenants, `{"id":"a","id":"b"}`, 400, "bad-parameter", `"id" twice`},
		{"another kind of field", "POST", tenants, `{"id":7}`, 400, "bad-parameter", "id is not a string"},
		{"something behind", "POST", tenants, `{"id":"a"}{}`, 400, "bad-parameter", "goes on"},
		{"an id that is none", "POST", tenants, `{"id":"A b"}`, 400, "bad-parameter", "id:"},
		{"an id that is left out", "POST", tenants, `{}`, 400, "bad-parameter", "id:"},
		{"a name of two lines", "POST", tenants, `{"id":"a","name":"x\ny"}`, 400, "bad-parameter", "name:"},
		{"a taken id", "POST", tenants, `{"id":"acme"}`, 409, "conflict", "acme"},
		{"too large", "POST", tenants, `{"id":"a","name":"` + strings.Repeat("x", mostBody) + `"}`, 413, "too-large", "65536"},
		{"no such tenant", "GET", "/v1/tenants/nobody", "", 404, "not-found", "nobody"},
		{"no such tenant's quota", "PUT", "/v1/tenants/nobody/quota", "{}", 404, "not-found", "nobody"},
		{"no such tenant's keys", "GET", "/v1/tenants/nobody/keys", "", 404, "not-found", "nobody"},
		{"no such tenant for a key", "POST", "/v1/tenants/nobody/keys", `{"scopes":["*"]}`, 404, "not-found", "nobody"},
		{"no key for callbacks", "GET", acme + "/callback-secret", "", 404, "not-found", "no key that callbacks are signed with"},
		{"no such tenant's callbacks", "GET", "/v1/tenants/nobody/callback-secret", "", 404, "not-found", "nobody"},
		{"a tenant that cannot be", "GET", "/v1/tenants/..%2Faudit", "", 404, "not-found", "a tenant's id has"},
		{"disabled as a word", "PATCH", acme, `{"disabled":"yes"}`, 400, "bad-parameter", "disabled is not true or false"},
		{"an id that changes", "PATCH", acme, `{"id":"b"}`, 400, "bad-parameter", `"id"`},
		{"a negative quota", "PUT", quota, `{"burst":-1}`, 400, "bad-parameter", "burst"},
		{"half a call", "PUT", quota, `{"concurrent_calls":0.5}`, 400, "bad-parameter", "concurrent_calls is not a whole number"},
		{"more than a number holds", "PUT", quota, `{"calls_per_second":1e999}`, 400, "bad-parameter", "calls_per_second is not a number"},
		{"an If-Match without quotes", "PUT", quota, `{}`, 400, "bad-parameter", "If-Match"},
		{"no scopes", "POST", keys, `{}`, 400, "bad-parameter", "scopes"},
		{"all scopes and one", "POST", keys, `{"scopes":["*","echo"]}`, 400, "bad-parameter", "scopes"},
		{"a scope that is none", "POST", keys, `{"scopes":["Echo"]}`, 400, "bad-parameter", "scopes"},
		{"a date without a time", "POST", keys, `{"scopes":["echo"],"expires_at":"2030-01-31"}`, 400, "bad-parameter", "expires_at"},
		{"an end in the past", "POST", keys, `{"scopes":["echo"],"expires_at":"2001-01-31T00:00:00Z"}`, 400, "bad-parameter", "expires_at"},
		{"an end before all time", "POST", keys, `{"scopes":["echo"],"expires_at":"0001-01-01T00:00:00Z"}`, 400, "bad-parameter", "expires_at"},
		{"no such key", "GET", "/v1/keys/aaaaaaaaaaaaaaaa", "", 404, "not-found", "aaaaaaaaaaaaaaaa"},
		{"no such key to revoke", "DELETE", "/v1/keys/aaaaaaaaaaaaaaaa", "", 404, "not-found", "aaaaaaaaaaaaaaaa"},
		{"a whole key as an id", "DELETE", "/v1/keys/lc_aaaaaaaaaaaaaaaa_" + strings.Repeat("S", 43), "", 404, "not-found", "a key's id is"},
		{"a page of none", "GET", tenants + "?limit=0", "", 400, "bad-parameter", "limit"},
		{"a page of too many", "GET", keys + "?limit=1001", "", 400, "bad-parameter", "limit"},
		{"an unknown parameter", "GET", "/v1/audit?before=3", "", 400, "bad-parameter", `"before"`},
		{"a parameter twice", "GET", "/v1/audit?after=1&after=2", "", 400, "bad-parameter", `"after" twice`},
		{"no number", "GET", "/v1/audit?after=-1", "", 400, "bad-parameter", "after"},
		{"no query", "GET", "/v1/audit?%zz", "", 400, "bad-parameter", "query"},
		{"a limit to verify", "GET", "/v1/audit/verify?limit=3", "", 400, "bad-parameter", `"limit"`},
		{"past the trail's end", "GET", "/v1/audit/verify?after=2", "", 400, "bad-parameter", "1 entries"},
		{"no such route", "GET", "/v1/customers", "", 404, "not-found", "has /v1/tenants, /v1/keys and /v1/audit."},
		{"another method", "DELETE", acme, "", 405, "method-not-allowed", "PATCH"},
	} {
		var header []string
		if strings.HasPrefix(test.name, "an If-Match") {
			header = []string{"If-Match", "7"}
		}
		got := ask(t, server, test.method, test.path, test.body, header...)
		var document problemDocument
		err := json.Unmarshal([]byte(got.body), &document)
		if err != nil || got.status != test.status || document.Status != test.status || document.Type != problemPrefix+test.kind || !strings.Contains(document.Detail, test.says) {
			t.Errorf("%s: %d %s; want %d, %s, %q", test.name, got.status, got.body, test.status, test.kind, test.says)
		}
		if kind := got.header.Get("Content-Type"); kind != "application/problem+json" || document.Title == "" || !strings.HasSuffix(document.Detail, ".") || got.header.Get("X-Lightcone-Error") != "platform" {
			t.Errorf("%s: no problem document: %s %s", test.name, kind, got.body)
		}
		if strings.Contains(got.body, "SSSS") {
			t.Errorf("%s: the answer repeats a key: %s", test.name, got.body)
		}
	}
	if got := ask(t, server, "DELETE", acme, ""); got.header.Get("Allow") != "GET, HEAD, PATCH" {
		t.Errorf("Allow is %q", got.header.Get("Allow"))
	}
	wantTrail(t, m, 1)
}

func TestTheQuotaAndItsVersion(t *testing.T) {
	m := newManager(t, Config{Store: newStore(t)})
	mustCreate(t, m, "acme")
	server := listen(t, m)
	const quota = "/v1/tenants/acme/quota"
	read := ask(t, server, "GET", quota, "")
	etag := read.header.Get("ETag")
	unlimited := `{"calls_per_second":null,"burst":null,"concurrent_calls":null,"cpu_seconds_per_month":null,"bytes_per_month":null}`
	if read.status != 200 || strings.TrimSpace(read.body) != unlimited || read.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%+v", read)
	}
	for _, test := range []struct {
		body, match string
		status      int
	}{
		{`{"calls_per_second":5}`, `"99", W/` + etag, 412},
		{`{"calls_per_second":5}`, `"other"`, 412},
		{`{"calls_per_second":5}`, `"0"`, 412},
		{`{"calls_per_second":5}`, `"99",` + etag, 200},
		{`{"calls_per_second":6}`, etag, 412},
		{`{"calls_per_second":6}`, "*", 200},
	} {
		got := ask(t, server, "PUT", quota, test.body, "If-Match", test.match)
		if got.status != test.status || (got.header.Get("ETag") == "") != (test.status != 200) {
			t.Errorf("If-Match: %s: %+v; want %d", test.match, got, test.status)
		}
	}
	got := ask(t, server, "PUT", quota, ` {"bytes_per_month":0,"burst":null} `, "Content-Type", "text/plain")
	want := strings.Replace(unlimited, `"bytes_per_month":null`, `"bytes_per_month":0`, 1)
	if got.status != 200 || strings.TrimSpace(got.body) != want {
		t.Errorf("a PUT replaces all of it: %+v", got)
	}
	if again := ask(t, server, "GET", "/v1/tenants/acme", ""); again.header.Get("ETag") != got.header.Get("ETag") || !strings.Contains(again.body, want) {
		t.Errorf("%+v after %+v", again, got)
	}
	wantTrail(t, m, 4)
}

// TestAnUnknownRouteIsToldOfThose that there are, also beside these.
func TestAnUnknownRouteIsToldOfThose(t *testing.T) {
	routes := Routes(newManager(t, Config{Store: newStore(t)}), "/v1/deadletters", "/v1/quarantine")
	answer := httptest.NewRecorder()
	routes.ServeHTTP(answer, httptest.NewRequest("GET", "/v1/customers", nil))
	if answer.Code != 404 || !strings.Contains(answer.Body.String(), "has /v1/tenants, /v1/keys, /v1/audit, /v1/deadletters and /v1/quarantine.") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

func TestAnotherSitesPageMayNotChange(t *testing.T) {
	m := newManager(t, Config{Store: newStore(t)})
	server := listen(t, m)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://elsewhere.example"}} {
		if got := ask(t, server, "POST", "/v1/tenants", `{"id":"acme"}`, header...); got.status != 403 || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: %+v", header, got)
		}
	}
	if got := ask(t, server, "POST", "/v1/tenants", `{"id":"acme"}`, "Origin", server.URL); got.status != 201 || got.header.Get("Location") != "/v1/tenants/acme" {
		t.Errorf("from its own: %+v", got)
	}
}

// TestTheStoresErrorsAreNotTold closes the store.
func TestTheStoresErrorsAreNotTold(t *testing.T) {
	var log testbed.Log
	store := newStore(t)
	m := newManager(t, Config{Store: store, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	server := listen(t, m)
	if err := store.(interface{ Close() error }).Close(); err != nil {
		t.Fatal(err)
	}
	for _, request := range [][3]string{
		{"POST", "/v1/tenants", `{"id":"acme"}`}, {"GET", "/v1/tenants", ""}, {"GET", "/v1/tenants/acme", ""}, {"PATCH", "/v1/tenants/acme", `{"disabled":true}`},
		{"POST", "/v1/tenants/acme/keys", `{"scopes":["*"]}`}, {"DELETE", "/v1/keys/aaaaaaaaaaaaaaaa", ""}, {"GET", "/v1/audit", ""}, {"GET", "/v1/audit/verify", ""},
	} {
		got := ask(t, server, request[0], request[1], request[2])
		if got.status != 503 || got.header.Get("Retry-After") != "2" || strings.Contains(got.body, "closed") {
			t.Errorf("%v: %+v", request, got)
		}
	}
	if !strings.Contains(log.String(), "the store of documents is closed") {
		t.Errorf("the log does not say why: %s", &log)
	}
}
