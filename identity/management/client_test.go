package management

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/identity"
	"lightcone/internal/document"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

func newKey(t testing.TB, fill byte) identity.Key {
	t.Helper()
	key, err := identity.NewKey(bytes.NewReader(bytes.Repeat([]byte{fill}, 42)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newClient(t testing.TB, base string) *Client {
	t.Helper()
	client, err := NewClient(base, newKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestAClientDoesItAll(t *testing.T) {
	m := newManager(t, Config{Store: newStore(t)})
	client, ctx := newClient(t, listen(t, m).URL+"/"), t.Context()
	made, err := client.CreateTenant(ctx, "acme", "Acme")
	if err != nil || made.ID != "acme" || made.Name != "Acme" || made.Quota != lightcone.Unlimited {
		t.Fatalf("%+v, %v", made, err)
	}
	_, err = client.CreateTenant(ctx, "acme", "Acme")
	if wantKind(t, err, Conflict); !strings.Contains(err.Error(), "choose another id") {
		t.Errorf("the sentence is lost: %v", err)
	}
	quota := lightcone.Quota{CallsPerSecond: 0.5, Burst: 2, ConcurrentCalls: 0, CPUPerMonth: time.Minute, BytesPerMonth: lightcone.NoLimit}
	_, version, err := client.Tenant(ctx, "acme")
	if err != nil || version == 0 {
		t.Fatal(version, err)
	}
	disabled := true
	if err := client.EditTenant(ctx, "acme", Edit{Quota: &quota}, version); err != nil {
		t.Fatal(err)
	}
	wantKind(t, client.EditTenant(ctx, "acme", Edit{Disabled: &disabled}, version), Stale)
	if err := client.EditTenant(ctx, "acme", Edit{Disabled: &disabled}, 0); err != nil {
		t.Fatal(err)
	}
	tenant, _, err := client.Tenant(ctx, "acme")
	if err != nil || tenant.Quota != quota || !tenant.Disabled {
		t.Fatalf("%+v, %v", tenant, err)
	}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	key, issued, err := client.IssueKey(ctx, "acme", identity.Scopes{All: true}, expires)
	if err != nil || issued.ID != key.ID() || !issued.Expires.Equal(expires) || !issued.Scopes.All {
		t.Fatalf("%+v, %v", issued, err)
	}
	if record, err := m.Key(ctx, key.ID()); err != nil || record.Digest != key.Digest() {
		t.Fatalf("%+v, %v: want the digest of the key that was shown", record, err)
	}
	if err := client.RevokeKey(ctx, key.ID()); err != nil {
		t.Fatal(err)
	}
	issued.Revoked = true
	one, err := client.Key(ctx, key.ID())
	keys, next, err2 := client.Keys(ctx, "acme", "", 10)
	if diff := cmp.Diff([]KeyDocument{one}, keys) + cmp.Diff(issued, one); diff != "" || next != "" || errors.Join(err, err2) != nil {
		t.Fatalf("%v %v (-want +got):\n%s", err, err2, diff)
	}
	wantActions(t, client, "tenant.create acme", "tenant.quota acme", "tenant.disable acme", "key.issue "+string(key.ID()), "key.revoke "+string(key.ID()))
}

// wantActions reads the trail, and the tenants, in the smallest pages.
func wantActions(t *testing.T, client *Client, want ...string) {
	t.Helper()
	var got []string
	for after, more := uint64(0), true; more; more = after > 0 {
		entries, next, err := client.Audit(t.Context(), after, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Actor != operator {
				t.Errorf("entry %d is by %s", e.Sequence, e.Actor)
			}
			got = append(got, e.Action+" "+e.Subject)
		}
		after = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v, err := client.VerifyAudit(t.Context()); err != nil || !v.Done() || v.Finding != "" || v.Last != uint64(len(want)) {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestACallbackSecretIsComputed: it comes from what the Config says, for tenants that there are.
func TestACallbackSecretIsComputed(t *testing.T) {
	m := newManager(t, Config{Store: newStore(t), CallbackSecret: func(tenant lightcone.TenantID) string { return "secret of " + string(tenant) }})
	mustCreate(t, m, "acme")
	server := listen(t, m)
	client := newClient(t, server.URL)
	if secret, err := client.CallbackSecret(t.Context(), "acme"); err != nil || secret != "secret of acme" {
		t.Errorf("%q, %v", secret, err)
	}
	for _, tenant := range []lightcone.TenantID{"nobody", "../audit"} {
		_, err := client.CallbackSecret(t.Context(), tenant)
		wantKind(t, err, problem.NotFound)
	}
	got := ask(t, server, "GET", "/v1/tenants/acme/callback-secret", "")
	if got.body != `{"callback_secret":"secret of acme"}`+"\n" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v", got)
	}
	wantTrail(t, m, 1) // to read it changes nothing
}

func TestAClientReadsPages(t *testing.T) {
	m := newManager(t, Config{Store: newStore(t)})
	client := newClient(t, listen(t, m).URL)
	if tenants, next, err := client.Tenants(t.Context(), "", 5); err != nil || len(tenants) != 0 || next != "" {
		t.Fatalf("none: %v, %q, %v", tenants, next, err)
	}
	mustCreate(t, m, "a", "b", "c")
	for after, want := range map[lightcone.TenantID]string{"": "[a b] b", "b": "[c] ", "c": "[] "} {
		tenants, next, err := client.Tenants(t.Context(), after, 2)
		ids := make([]lightcone.TenantID, 0)
		for _, tenant := range tenants {
			ids = append(ids, tenant.ID)
		}
		if got := fmt.Sprintf("%v %s", ids, next); got != want || err != nil {
			t.Errorf("after %q: %s, %v; want %s", after, got, err, want)
		}
	}
	for range 3 {
		if _, _, err := client.IssueKey(t.Context(), "a", identity.Scopes{All: true}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	first, next, err := client.Keys(t.Context(), "a", "", 2)
	if err != nil || len(first) != 2 || next != first[1].ID || first[0].Expires != nil {
		t.Fatalf("%+v, %q, %v", first, next, err)
	}
	if rest, end, err := client.Keys(t.Context(), "a", next, 2); err != nil || len(rest) != 1 || end != "" {
		t.Fatalf("%+v, %q, %v", rest, end, err)
	}
}

// TestAClientTellsWhatItGot is about answers of others than the routes.
func TestAClientTellsWhatItGot(t *testing.T) {
	var target string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/tenants/redirect":
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		case "/v1/tenants/html":
			_, _ = io.WriteString(w, "<html>")
		case "/v1/audit/verify":
			_, _ = io.WriteString(w, `{"verified":0,"last":7}`)
		case "/v1/tenants/busy":
			answer(w, 0, nil, busy(errors.New("inside")))
		default:
			http.Error(w, "The management listener wants the operator's key.", http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	target = other.URL
	client, ctx := newClient(t, server.URL), t.Context()
	for id, want := range map[lightcone.TenantID]string{"redirect": "307", "html": "read the answer", "other": "401 Unauthorized: The management listener wants the operator's key."} {
		if _, _, err := client.Tenant(ctx, id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", id, err, want)
		}
	}
	if _, _, err := client.Tenant(ctx, "busy"); problem.Of(err).Kind != problem.Overloaded || problem.Of(err).RetryAfter != time.Second || strings.Contains(err.Error(), "inside") {
		t.Errorf("%v", err)
	}
	if _, err := client.VerifyAudit(ctx); err == nil {
		t.Error("it asks for the same page for ever, or believes it")
	}
	if asked {
		t.Error("it followed a redirect")
	}
	secret := newKey(t, 9).Text()
	for _, err := range []error{client.RevokeKey(ctx, identity.KeyID(secret)), client.EditTenant(ctx, lightcone.TenantID(secret), Edit{}, 0)} {
		if wantKind(t, err, problem.NotFound); strings.Contains(err.Error(), secret[20:]) {
			t.Errorf("the error repeats a key: %v", err)
		}
	}
	for _, base := range []string{"", "127.0.0.1:8081", "ftp://host", "http://", "http://user:word@host", "http://host?x=1", ":"} {
		if _, err := NewClient(base, newKey(t, 1)); err == nil || strings.Contains(err.Error(), "word") {
			t.Errorf("%q: %v", base, err)
		}
	}
}

// TestASecretIsShownOnce searches everything that is stored, logged, announced and
// answered for the secrets of keys.
func TestASecretIsShownOnce(t *testing.T) {
	var log testbed.Log
	store, heard := newStore(t), new(listener)
	m := newManager(t, Config{Store: store, Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Announce: heard})
	server := listen(t, m)
	mustCreate(t, m, "acme")
	var everything strings.Builder
	var secrets []string
	for range 3 {
		got := ask(t, server, "POST", "/v1/tenants/acme/keys", `{"scopes":["echo"]}`)
		var issued issuedDocument
		if err := json.Unmarshal([]byte(got.body), &issued); err != nil || got.status != 201 || got.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%+v, %v", got, err)
		}
		key, err := identity.ParseKey([]byte(issued.Key))
		if err != nil || strings.Count(got.body, issued.Key) != 1 || got.header.Get("Location") != "/v1/keys/"+string(key.ID()) {
			t.Fatalf("%+v, %v", got, err)
		}
		secrets = append(secrets, issued.Key[len(issued.Key)-43:])
		fmt.Fprintln(&everything, got.header)
		// Whole keys where ids belong, and where nothing belongs.
		for _, request := range [][3]string{
			{"GET", "/v1/keys/" + issued.Key, ""}, {"DELETE", "/v1/keys/" + issued.Key, ""}, {"GET", "/v1/tenants/" + issued.Key, ""}, {"DELETE", "/v1/keys/" + string(key.ID()), ""},
			{"GET", "/v1/keys/" + string(key.ID()), ""}, {"GET", "/v1/tenants/acme/keys", ""}, {"GET", "/v1/audit", ""}, {"GET", "/v1/audit/verify", ""}, {"GET", "/" + issued.Key, ""},
		} {
			fmt.Fprintln(&everything, ask(t, server, request[0], request[1], request[2]))
		}
	}
	paths, err := store.Paths(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		d, _, err := store.Get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&everything, "%s %s\n", path, d.Value)
	}
	fmt.Fprintf(&everything, "%s %s\n", &log, heard)
	for _, secret := range secrets {
		if at := strings.Index(everything.String(), secret); at >= 0 {
			t.Errorf("a secret is in …%s…", everything.String()[max(at-200, 0):at])
		}
	}
	for _, want := range []string{"key.issue", "sha256", `"action":"key.revoke"`} {
		if !strings.Contains(everything.String(), want) {
			t.Errorf("the search did not see %q", want)
		}
	}
}

// listener hears announcements.
type listener struct {
	testbed.Log
	fail error
}

func (l *listener) Announce(ctx context.Context, changed []document.Document) error {
	if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
		return errors.New("announced without a deadline, or too late")
	}
	for _, d := range changed {
		fmt.Fprintf(l, "%s %d %s\n", d.Path, d.Version, d.Value)
	}
	return l.fail
}
