package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/identity"
	"lightcone/identity/edge"
	"lightcone/identity/management"
	"lightcone/internal/testbed"
)

// certified makes a certificate for 127.0.0.1, and a client that believes it.
func certified(t *testing.T) (certificateFile, keyFile string, client *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	folder, roots := t.TempDir(), x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	return write(t, filepath.Join(folder, "certificate.pem"), string(chain)),
		write(t, filepath.Join(folder, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))), client
}

// redis starts Redis and its Sentinels, which Consul lists, and gives what services are
// told of them.
func (r *region) redis() (redis *testbed.Redis, settings []string) {
	r.t.Helper()
	redis = testbed.StartRedis(r.t, strings.Fields(edge.ACLRules)...)
	for i, sentinel := range redis.Sentinels() {
		r.register("redis-sentinel", 1_000_000+i, sentinel)
	}
	secrets := r.t.TempDir()
	return redis, []string{
		"LIGHTCONE_REDIS_SERVICE=redis-sentinel", "LIGHTCONE_REDIS_MASTER=" + testbed.RedisMaster, "LIGHTCONE_REDIS_USER=" + testbed.RedisUser,
		"LIGHTCONE_REDIS_PASSWORD_FILE=" + write(r.t, filepath.Join(secrets, "redis"), testbed.RedisPassword),
		"LIGHTCONE_SENTINEL_PASSWORD_FILE=" + write(r.t, filepath.Join(secrets, "sentinel"), testbed.SentinelPassword),
	}
}

// TestTheManagementPlaneReachesTheFrontDoor: processes of both planes, with Redis,
// its Sentinels and Consul between them. A tenant is made, its key is used over TLS,
// what it uses up at one gateway is used up at another, and the key is used no more
// once it is revoked, though Redis is gone by then.
func TestTheManagementPlaneReachesTheFrontDoor(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	redis, settings := r.redis()
	plane := r.start("identity", settings)
	certificate, key, client := certified(t)
	door := r.gateway("echo", append(flagsOf(settings), "--tls-certificate-file", certificate, "--tls-key-file", key)...)
	r.enlist("echo", r.workers(1, "echo")...)
	door.knows(1)

	operator, err := identity.ParseKey([]byte(strings.TrimSpace(read(t, r.key("operator.key")))))
	if err != nil {
		t.Fatal(err)
	}
	operate, err := management.NewClient("http://"+plane.manage, operator)
	if err != nil {
		t.Fatal(err)
	}
	defer operate.Close()
	within(t, "the management plane answers", func() bool {
		_, err := operate.CreateTenant(t.Context(), "acme", "Acme")
		return err == nil
	})
	issued, _, err := operate.IssueKey(t.Context(), "acme", identity.Scopes{Functions: []lightcone.FunctionName{"echo"}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	call := func(path string) int {
		status, _ := send(t, client, "https://"+door.listen+"/function/"+path, issued, "input")
		return status
	}
	if got := call("echo"); got != http.StatusOK {
		t.Errorf("a key that was just issued: %d", got)
	}
	if got := call("resize"); got != http.StatusForbidden {
		t.Errorf("beyond its scopes: %d", got)
	}
	within(t, "Redis has told of it", func() bool {
		return door.metric(`lightcone_edge_changes_total{way="redis"}`) > 0
	})
	other := r.gateway("echo", flagsOf(settings)...)
	other.knows(1)
	quota := lightcone.Unlimited
	quota.BytesPerMonth = 2000
	if err := operate.EditTenant(t.Context(), "acme", management.Edit{Quota: &quota}, 0); err != nil {
		t.Fatal(err)
	}
	if got, said := send(t, client, "https://"+door.listen+"/function/echo", issued, strings.Repeat("a", 1000)); got != http.StatusOK {
		t.Errorf("within the quota: %d %s", got, said)
	}
	within(t, "the other gateway knows that the month's bytes are used up", func() bool {
		got, said := send(t, http.DefaultClient, "http://"+other.listen+"/function/echo", issued, "")
		return got == http.StatusTooManyRequests && strings.Contains(said, `"quota":"bytes_per_month"`)
	})
	redis.KillAll()
	if err := operate.RevokeKey(t.Context(), issued.ID()); err != nil {
		t.Fatal(err)
	}
	within(t, "the revoked key is refused", func() bool { return call("echo") == http.StatusUnauthorized })
	r.consul.Kill()
	if got := call("echo"); got != http.StatusUnauthorized {
		t.Errorf("the revoked key without Consul: %d", got)
	}
	if err := operate.RevokeKey(t.Context(), issued.ID()); err == nil || !strings.Contains(err.Error(), "overloaded") {
		t.Errorf("revoking without Consul: %v", err)
	}
	if got := status(plane.manage, "/v1/tenants"); got != http.StatusUnauthorized {
		t.Errorf("without the operator's key: %d", got)
	}
}

// send calls a function, and returns the answer.
func send(t *testing.T, client *http.Client, url string, key identity.Key, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key.Text())
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestAGatewayThatCanKnowNobodyIsNotReady: a wrong policy or password would else
// replace all gateways that know their callers. One that was ready stays so.
func TestAGatewayThatCanKnowNobodyIsNotReady(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	r.consul.Kill()
	g := r.gateway("echo:cold=10s")
	if got := status(g.listen, "/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz without any store of keys: %d", got)
	}
	r.consul.Restart()
	within(t, "the gateway is ready", func() bool { return status(g.listen, "/readyz") == http.StatusOK })
	r.consul.Kill()
	if got := status(g.listen, "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz after Consul has gone: %d", got)
	}
}

// flagsOf are settings as flags.
func flagsOf(settings []string) (flags []string) {
	for _, setting := range settings {
		name, value, _ := strings.Cut(strings.TrimPrefix(setting, settingPrefix), "=")
		flags = append(flags, "--"+strings.ToLower(strings.ReplaceAll(name, "_", "-")), value)
	}
	return flags
}

// TestFlagsOf keeps flagsOf and settingOf each other's inverse.
func TestFlagsOf(t *testing.T) {
	for i := range 3 {
		name := "flag" + strings.Repeat("-x", i)
		if got := flagsOf([]string{settingOf(name) + "=" + strconv.Itoa(i)}); len(got) != 2 || got[0] != "--"+name || got[1] != strconv.Itoa(i) {
			t.Errorf("%q", got)
		}
	}
}
