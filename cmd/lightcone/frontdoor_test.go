package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/gateway/quarantine"
	"lightcone/identity"
	"lightcone/identity/management"
)

// TestDevsFrontDoor asks a whole tree for what it should not give.
func TestDevsFrontDoor(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "data"), "--port-function", "shout="+compiled(t, ownFunctionSource))
	t.Run("keys", d.refusesKeys)
	t.Run("a deadly input", d.quarantines)
}

// refusal calls a function with what is presented as a key, and returns the status and
// the kind of problem.
func (d *devTree) refusal(t *testing.T, presented, function, body string) (status int, kind string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.api+"/function/"+function, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+presented)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(presented) > 20 && strings.Contains(string(answer), presented[20:]) {
		t.Errorf("the answer repeats the key: %.300s", answer)
	}
	if retry := response.Header.Get("Retry-After"); (retry != "") != (response.StatusCode == 429 || response.StatusCode == 503) {
		t.Errorf("%s with Retry-After %q", response.Status, retry)
	}
	var document struct{ Type string }
	if response.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(answer, &document); err != nil {
			t.Errorf("%v: %.300s", err, answer)
		}
	}
	return response.StatusCode, strings.TrimPrefix(document.Type, "urn:lightcone:problem:")
}

func (d *devTree) refusesKeys(t *testing.T) {
	operator, err := identity.ParseKey([]byte(strings.TrimSpace(read(t, filepath.Join(d.data, "operator.key")))))
	if err != nil {
		t.Fatal(err)
	}
	operate, err := management.NewClient("http://"+d.manage, operator)
	if err != nil {
		t.Fatal(err)
	}
	defer operate.Close()
	disabled, zero := true, lightcone.Unlimited
	zero.CallsPerSecond = 0
	issue := func(tenant lightcone.TenantID, edit *management.Edit, scope lightcone.FunctionName, expires time.Time) identity.Key {
		if _, _, err := operate.Tenant(t.Context(), tenant); err != nil {
			if _, err := operate.CreateTenant(t.Context(), tenant, ""); err != nil {
				t.Fatal(err)
			}
		}
		key, _, err := operate.IssueKey(t.Context(), tenant, identity.Scopes{Functions: []lightcone.FunctionName{scope}}, expires)
		if err == nil && edit != nil {
			err = operate.EditTenant(t.Context(), tenant, *edit, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	good, revoked, scoped := issue("acme", nil, "shout", time.Time{}), issue("acme", nil, "shout", time.Time{}), issue("acme", nil, "echo", time.Time{})
	expiring := issue("acme", nil, "shout", time.Now().Add(2*time.Second))
	closed := issue("closed", &management.Edit{Disabled: &disabled}, "shout", time.Time{})
	broke := issue("broke", &management.Edit{Quota: &zero}, "shout", time.Time{})
	for name, key := range map[string]identity.Key{"good": good, "revoked later": revoked, "that expires": expiring} {
		if status, kind := d.refusal(t, key.Text(), "shout", "a"); status != http.StatusTeapot {
			t.Errorf("the key %s: %d %s", name, status, kind)
		}
	}
	if err := operate.RevokeKey(t.Context(), revoked.ID()); err != nil {
		t.Fatal(err)
	}
	text := good.Text()
	for _, test := range []struct {
		name, presented string
		status          int
		kind            string
	}{
		{"none", "", 401, "unauthenticated"},
		{"malformed", strings.Replace(text, "_", "-", 1), 401, "unauthenticated"},
		{"truncated", text[:len(text)-1], 401, "unauthenticated"},
		{"a character too long", text + "A", 401, "unauthenticated"},
		{"oversized", text + strings.Repeat("A", 10<<10), 401, "unauthenticated"},
		{"larger than all headers may be", text + strings.Repeat("A", 100<<10), 431, "too-large"},
		{"another's secret", text[:20] + revoked.Text()[20:], 401, "unauthenticated"},
		{"nobody's", newKey(t).Text(), 401, "unauthenticated"},
		{"revoked", revoked.Text(), 401, "unauthenticated"},
		{"expired", expiring.Text(), 401, "unauthenticated"},
		{"of a disabled tenant", closed.Text(), 403, "forbidden"},
		{"out of scope", scoped.Text(), 403, "forbidden"},
		{"with a quota of 0", broke.Text(), 429, "limit-reached"},
		{"good", text, http.StatusTeapot, ""},
	} {
		var status int
		var kind string
		within(t, "the key "+test.name, func() bool { // a revocation is heard of, and the time passes
			status, kind = d.refusal(t, test.presented, "shout", "a")
			return status == test.status
		})
		if kind != test.kind {
			t.Errorf("the key %s: %d %s, want %s", test.name, status, kind, test.kind)
		}
	}
	for _, key := range []identity.Key{good, revoked, scoped, expiring, closed, broke} {
		if strings.Contains(d.said.String(), key.Text()[20:]) {
			t.Errorf("the log has the secret of %s", key)
		}
	}
}

func (d *devTree) quarantines(t *testing.T) {
	demo := strings.TrimSpace(read(t, filepath.Join(d.data, "demo.key")))
	manage := func(method, path string) (status int, listed []quarantine.Entry) {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.manage+"/v1/quarantine"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("operator", strings.TrimSpace(read(t, filepath.Join(d.data, "operator.key"))))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var page struct{ Quarantined []quarantine.Entry }
		if response.StatusCode == http.StatusOK {
			if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
				t.Fatal(err)
			}
		}
		return response.StatusCode, page.Quarantined
	}
	for try, want := range []string{"function-crashed", "function-crashed", "quarantined", "quarantined"} {
		if status, kind := d.refusal(t, demo, "shout", "die"); kind != want {
			t.Errorf("try %d: %d %s, want %s", try+1, status, kind, want)
		}
	}
	if status, kind := d.refusal(t, demo, "shout", "live"); status != http.StatusTeapot {
		t.Errorf("another input: %d %s", status, kind)
	}
	status, listed := manage(http.MethodGet, "")
	if status != http.StatusOK || len(listed) != 1 || listed[0].Tenant != "demo" || listed[0].Function != "shout" {
		t.Fatalf("%d, in quarantine: %+v", status, listed)
	}
	digest, err := listed[0].Digest.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := manage(http.MethodDelete, "/"+string(digest)); status != http.StatusNoContent {
		t.Errorf("lifting it: %d", status)
	}
	if status, listed := manage(http.MethodGet, ""); status != http.StatusOK || len(listed) != 0 {
		t.Errorf("%d, still in quarantine: %+v", status, listed)
	}
	if status, kind := d.refusal(t, demo, "shout", "die"); kind != "function-crashed" {
		t.Errorf("after it was lifted: %d %s", status, kind)
	}
}
