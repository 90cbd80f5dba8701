package main

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/identity"
	"lightcone/identity/management"
	"lightcone/internal/document/embedded"
	"lightcone/queue/callback"
)

// operated is a management plane of the test's own. Its function runs a command
// against it.
func operated(t *testing.T) func(args ...string) (code int, stdout, stderr string) {
	t.Helper()
	store, err := embedded.Open(filepath.Join(t.TempDir(), "documents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	manager, err := management.New(management.Config{Store: store, CallbackSecret: func(tenant lightcone.TenantID) string {
		return callback.SecretOf(callback.RegionKey("a region's key of 32 random bytes."), tenant).Text()
	}})
	if err != nil {
		t.Fatal(err)
	}
	operator := newKey(t)
	file := write(t, filepath.Join(t.TempDir(), "operator.key"), operator.Text()+"\n")
	server := httptest.NewServer(operatorsOnly(operator, asActor(operator.ID(), management.Routes(manager))))
	t.Cleanup(server.Close)
	return func(args ...string) (int, string, string) {
		return runCommand(t, "", append(args, "--manage-url", server.URL, "--operator-key-file", file)...)
	}
}

func TestTenantCommands(t *testing.T) {
	command := operated(t)
	for _, step := range []struct {
		args string
		code int
		want string
	}{
		{"tenant create acme --name Acme", commandline.OK, "made tenant acme"},
		{"tenant create acme", commandline.Failed, "There is a tenant acme already"},
		{"tenant create Acme!", commandline.Failed, "Acme!"},
		{"tenant show nobody", commandline.Failed, "nobody"},
		{"tenant quota acme --calls-per-second 0", commandline.OK, "limits: 0 calls/s\n"},
		{"tenant quota acme --calls-per-second 50", commandline.OK, "limits: 50 calls/s\n"},
		{"tenant quota acme --burst 7 --concurrent-calls 3", commandline.OK, "limits: 50 calls/s (burst 7), 3 at once\n"},
		{"tenant quota acme --calls-per-second none", commandline.OK, "limits: 3 at once\n"},
		{"tenant quota acme --concurrent-calls none --cpu-seconds-per-month 0.5 --bytes-per-month 9007199254740993", commandline.OK, "limits: 0.5 CPU s/month, 9007199254740993 bytes/month\n"},
		{"tenant list", commandline.OK, "9007199254740993 bytes/month"},
		{"tenant quota acme", commandline.NotUnderstood, "no limit is named"},
		{"tenant quota acme --burst 2.7", commandline.NotUnderstood, "--burst 2.7"},
		{"tenant quota acme --concurrent-calls 0.9", commandline.NotUnderstood, "--concurrent-calls 0.9"},
		{"tenant quota acme --calls-per-second NaN", commandline.NotUnderstood, "--calls-per-second NaN"},
		{"tenant quota acme --calls-per-second Inf", commandline.NotUnderstood, "--calls-per-second Inf"},
		{"tenant quota acme --calls-per-second null", commandline.NotUnderstood, "--calls-per-second null"},
		{"tenant quota acme --calls-per-second -1", commandline.NotUnderstood, "calls_per_second is -1"},
		{"tenant quota acme --bytes-per-month 1e30", commandline.NotUnderstood, "--bytes-per-month 1e30"},
		{"tenant disable acme", commandline.OK, "tenant acme is disabled"},
		{"tenant show acme", commandline.OK, `"disabled": true`},
		{"tenant enable acme", commandline.OK, "tenant acme is enabled"},
		{"tenant callback-secret acme", commandline.OK, "whsec_1i7UuONhwgB1bbgbDnZsYBZfLsfYZVjwpZJz4ZCI87U=\n"},
		{"tenant callback-secret nobody", commandline.Failed, "nobody"},
		{"tenant callback-secret", commandline.NotUnderstood, "TENANT"},
		{"key create acme", commandline.NotUnderstood, "--scope is missing"},
		{"key create acme --scope *,resize", commandline.NotUnderstood, "choose one"},
		{"key create acme --scope Resize", commandline.NotUnderstood, "--scope"},
		{"key create acme --scope resize --expires -1h", commandline.NotUnderstood, "--expires"},
		{"key create nobody --scope resize", commandline.Failed, "nobody"},
		{"key revoke aaaaaaaaaaaaaaaa", commandline.Failed, "aaaaaaaaaaaaaaaa"},
		{"audit verify", commandline.OK, "the audit trail is whole: 8 entries"},
	} {
		code, stdout, stderr := command(strings.Fields(step.args)...)
		if code != step.code || !strings.Contains(stdout+stderr, step.want) {
			t.Errorf("%s: exit code %d, want %d; %q in %s%s", step.args, code, step.code, step.want, stdout, stderr)
		}
	}
}

// TestAKeyIsShownOnce: on standard output when it is made, and nowhere else, also
// when its holder mistakes it for its id.
func TestAKeyIsShownOnce(t *testing.T) {
	command := operated(t)
	command("tenant", "create", "acme")
	code, stdout, stderr := command("key", "create", "acme", "--scope", "resize,echo", "--expires", "1h")
	key, err := identity.ParseKey([]byte(strings.TrimSpace(stdout)))
	if code != commandline.OK || err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	said := stderr
	for _, args := range []string{"key revoke " + key.Text(), "key list acme", "key revoke " + string(key.ID()), "key revoke " + string(key.ID()), "key list acme", "audit list", "tenant show " + key.Text()} {
		_, stdout, stderr := command(strings.Fields(args)...)
		said += stdout + stderr
	}
	for _, want := range []string{"that is no key's id", "valid ", "revoked ", "resize,echo", "key.issue", "key.revoke"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q: %s", want, said)
		}
	}
	if secret := key.Text()[20:]; strings.Contains(said, secret) {
		t.Errorf("the secret was shown again: %s", said)
	}
}
