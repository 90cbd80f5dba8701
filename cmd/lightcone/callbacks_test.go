package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/functions"
	"lightcone/queue"
	"lightcone/queue/callback"
)

// listener is a tenant's server, which remembers the callbacks that it was sent.
type listener struct {
	*httptest.Server
	mu    sync.Mutex
	heard []heard
}

type heard struct {
	header http.Header
	body   []byte
}

// listenAt starts a server at an address of this machine, which answers the nth request
// with answer(n).
func listenAt(t *testing.T, address string, answer func(n int, w http.ResponseWriter)) *listener {
	t.Helper()
	l := &listener{}
	l.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("a callback's body: %v", err)
		}
		l.mu.Lock()
		l.heard = append(l.heard, heard{r.Header, body})
		n := len(l.heard)
		l.mu.Unlock()
		answer(n, w)
	}))
	socket, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Listener.Close()
	l.Listener = socket
	l.Start()
	t.Cleanup(l.Close)
	return l
}

// all is what was heard by now.
func (l *listener) all() []heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// first waits for the first callback.
func (l *listener) first(t *testing.T) heard {
	t.Helper()
	within(t, "there is a callback", func() bool { return len(l.all()) > 0 })
	return l.all()[0]
}

func welcomes(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }

// signedBy says whether a callback is signed with a secret, as a tenant would find out.
func (h heard) signedBy(t *testing.T, secret string) bool {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) != 32 {
		t.Fatalf("the secret is of %d bytes, %v", len(key), err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", h.header.Get("Webhook-Id"), h.header.Get("Webhook-Timestamp"), h.body)
	seconds, err := strconv.ParseInt(h.header.Get("Webhook-Timestamp"), 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); err != nil || age.Abs() > 5*time.Minute {
		t.Errorf("the callback's time is %q", h.header.Get("Webhook-Timestamp"))
	}
	return slices.Contains(strings.Fields(h.header.Get("Webhook-Signature")), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// secretOf is what `lightcone tenant callback-secret` prints.
func secretOf(t *testing.T, tenant, manage, operatorKeyFile string) string {
	t.Helper()
	code, stdout, stderr := runCommand(t, "", "tenant", "callback-secret", tenant, "--manage-url", "http://"+manage, "--operator-key-file", operatorKeyFile)
	if code != commandline.OK || !strings.HasPrefix(stdout, "whsec_") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// TestDevCallsBack: with its result, signed, and only where the operator allows it.
func TestDevCallsBack(t *testing.T) {
	t.Parallel()
	d := startDev(t, filepath.Join(t.TempDir(), "data"), "--callback-allow", "127.0.0.1/32", "--callback-allow", "127.0.0.3/32", "--callback-forbid", "127.0.0.3/32")
	operatorKey := filepath.Join(d.data, "operator.key")
	manager := &service{t: t, region: &region{keys: d.data}, manage: d.manage}
	attempts := func(outcome string) float64 {
		return manager.metric(fmt.Sprintf("lightcone_callback_attempts_total{outcome=%q}", outcome))
	}

	tenant := listenAt(t, "127.0.0.1:0", welcomes)
	accepted, text := d.request(t, "POST", "/async-function/resize?width=303", bytes.NewReader(readBytes(t, photo)), "X-Callback-Url", tenant.URL+"/done?of=photo")
	if accepted.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", accepted.Status, text)
	}
	got, id := tenant.first(t), accepted.Header.Get("X-Call-Id")
	if got.header.Get("X-Call-Id") != id || got.header.Get("X-Call-Status") != "succeeded" || got.header.Get("X-Retry") != "0" ||
		got.header.Get("Content-Type") != "image/jpeg" || imageSize(t, got.body).X != 303 || !strings.HasPrefix(got.header.Get("Webhook-Id"), id+":resize:succeeded:200:") {
		t.Errorf("the callback of %s: %v, %d bytes", id, got.header, len(got.body))
	}
	if !got.signedBy(t, secretOf(t, "demo", d.manage, operatorKey)) {
		t.Errorf("the callback is not signed with the tenant's secret: %v", got.header)
	}
	got.body = append(got.body, 'x')
	if got.signedBy(t, secretOf(t, "demo", d.manage, operatorKey)) {
		t.Error("the signature does not cover the body")
	}
	within(t, "it counts as delivered", func() bool { return attempts("delivered") == 1 })

	// Of a call that its function refused it says what the result's route says.
	failing := listenAt(t, "127.0.0.1:0", welcomes)
	if accepted, text = d.request(t, "POST", "/async-function/resize?width=none", bytes.NewReader(readBytes(t, photo)), "X-Callback-Url", failing.URL); accepted.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", accepted.Status, text)
	}
	got, id = failing.first(t), accepted.Header.Get("X-Call-Id")
	result, text := d.request(t, "GET", "/v1/invocations/"+id+"/result", nil)
	if result.StatusCode != http.StatusBadRequest || got.header.Get("X-Function-Status") != "400" || got.header.Get("X-Call-Status") != "failed" ||
		string(got.body) != text || got.header.Get("Content-Type") != result.Header.Get("Content-Type") {
		t.Errorf("the callback: %v %s, the result: %s %v %s", got.header, got.body, result.Status, result.Header, text)
	}
	within(t, "it counts as delivered, too", func() bool { return attempts("delivered") == 2 })

	// A redirect to where a callback may not go is not followed, and ends it.
	inside := listenAt(t, "127.0.0.2:0", welcomes)
	redirecting := listenAt(t, "127.0.0.1:0", func(_ int, w http.ResponseWriter) {
		w.Header().Set("Location", inside.URL+"/admin")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	if accepted, text := d.request(t, "POST", "/async-function/echo", nil, "X-Callback-Url", redirecting.URL); accepted.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", accepted.Status, text)
	}
	within(t, "it is given up", func() bool { return attempts("given-up") == 1 })
	if len(redirecting.all()) != 1 || len(inside.all()) != 0 {
		t.Errorf("the redirect was asked %d times, and what it leads to %d times", len(redirecting.all()), len(inside.all()))
	}

	for _, url := range []string{inside.URL, "http://127.0.0.3/", "http://2130706434/", "http://0x7f.2/", "http://[::1]/", "http://[::ffff:127.0.0.2]/", "http://169.254.169.254/latest"} {
		refused, text := d.request(t, "POST", "/async-function/echo", nil, "X-Callback-Url", url)
		if refused.StatusCode != http.StatusBadRequest || !strings.Contains(text, "X-Callback-Url") {
			t.Errorf("a callback to %s: %s %s", url, refused.Status, text)
		}
	}
	if info, err := os.Stat(filepath.Join(d.data, "callback.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("callback.key: %v, %v", info, err)
	}
	if key := strings.TrimSpace(read(t, filepath.Join(d.data, "callback.key"))); strings.Contains(d.said.String(), key[10:]) {
		t.Errorf("the key of callbacks was printed: %s", d.said)
	}
}

// TestARegionCallsBack: gateway, queue node, worker and management plane are processes of
// their own, and the key is only with two of them.
func TestARegionCallsBack(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	signing := "LIGHTCONE_CALLBACK_KEY_FILE=" + r.key("callback.key")
	node := r.start("queue", append(r.queueKeys(), signing, "LIGHTCONE_CALLBACK_ALLOW=127.0.0.1/32,127.0.0.9/32",
		"LIGHTCONE_DATA="+t.TempDir(), "LIGHTCONE_STORE_MIB=512", "LIGHTCONE_CERTIFICATE_FILE="+r.key("queue.pem"), "LIGHTCONE_KEY_FILE="+r.key("queue.key")))
	plane := r.start("identity", []string{signing})
	ofQueue := []string{"--queue-servers", node.listen, "--queue-password-file", r.key("queue.password"), "--queue-ca-file", r.key("queue-ca.pem")}
	r.enlist("echo", r.workers(1, "echo", ofQueue...)...)
	without, strict := r.gateway("echo", ofQueue...), r.gateway("echo", append(ofQueue, "--callbacks")...)
	door := r.gateway("echo", append(ofQueue, "--callbacks", "--callback-allow", "127.0.0.1/32")...)
	within(t, "the queue and the management plane are ready", func() bool { return status(node.manage, "/readyz") == 200 && status(plane.manage, "/readyz") == 200 })
	door.knows(1)

	tenant := listenAt(t, "127.0.0.1:0", welcomes)
	queued := func(gateway *service, url string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gateway.listen+"/async-function/echo", strings.NewReader("input"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, r.key("demo.key"))))
		request.Header.Set("X-Callback-Url", url)
		response, err := http.DefaultClient.Do(request)
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
	within(t, "a call is accepted", func() bool {
		code, _ := queued(door, tenant.URL)
		return code == http.StatusAccepted
	})
	if got := tenant.first(t); string(got.body) != "input" || !got.signedBy(t, secretOf(t, "demo", plane.manage, r.key("operator.key"))) {
		t.Errorf("the callback: %v %q", got.header, got.body)
	}
	if code, text := queued(door, "http://127.0.0.9/"); code != http.StatusBadRequest || !strings.Contains(text, "X-Callback-Url") {
		t.Errorf("what this gateway does not allow: %d %s", code, text)
	}
	if code, text := queued(strict, tenant.URL); code != http.StatusBadRequest || !strings.Contains(text, "X-Callback-Url") {
		t.Errorf("a gateway that allows no network: %d %s", code, text)
	}
	if code, text := queued(without, tenant.URL); code != http.StatusBadRequest || !strings.Contains(text, "calls nobody back") {
		t.Errorf("a gateway without callbacks: %d %s", code, text)
	}
	key := strings.TrimSpace(read(t, r.key("callback.key")))
	if strings.Contains(node.said.String()+plane.said.String(), key[10:]) {
		t.Error("the key of callbacks is in a log")
	}
}

// TestACallbackThatFailsIsTriedAgain has what decides wait no longer than a moment.
func TestACallbackThatFailsIsTriedAgain(t *testing.T) {
	logger, ctx := slog.New(slog.DiscardHandler), t.Context()
	node, err := queue.StartNode(queue.NodeConfig{Seat: "0", Dir: t.TempDir(), User: "client", Password: "secret", MaxStoreBytes: 1 << 30, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Stop(context.Background()) }()
	client, err := queue.Connect(queue.Config{InProcess: node, User: "client", Password: "secret", Name: "test", Limits: queue.Limits{MaxBytes: 64 << 20}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	within(t, "the queue is ready", func() bool { return client.Ready() == nil })

	keys := []callback.RegionKey{callback.RegionKey("a region's key of 32 random bytes."), callback.RegionKey("the region's key that was before it")}
	rules, err := (&callbackFlags{allowed: []string{"127.0.0.1/32"}}).rules()
	if err != nil {
		t.Fatal(err)
	}
	registry := newRegistry()
	messenger, err := newMessenger(rules, keys, registry, logger)
	if err != nil {
		t.Fatal(err)
	}
	stop := inBackground(func(ctx context.Context) {
		err := client.Deliver(ctx, 1, func(ctx context.Context, due *queue.Callback) queue.Verdict {
			verdict := messenger.deliver(ctx, due)
			if !verdict.Done && verdict.After < time.Second {
				t.Errorf("after attempt %d it waits %v", due.Attempt, verdict.After)
			}
			verdict.After = min(verdict.After, 10*time.Millisecond)
			return verdict
		})
		if err != nil {
			t.Error(err)
		}
	})
	defer func() { _ = stop(ctx) }()
	working := inBackground(func(ctx context.Context) {
		err := client.Work(ctx, queue.WorkConfig{
			Function: "echo", AtOnce: 1, Room: func() bool { return true },
			Run: func(_ context.Context, call *functions.Call, answer *functions.Answer) error {
				answer.Status, answer.ContentType, answer.Body = 200, "text/plain", slices.Clone(call.Body)
				return nil
			},
		})
		if err != nil {
			t.Error(err)
		}
	})
	defer func() { _ = working(ctx) }()

	tenant := listenAt(t, "127.0.0.1:0", func(n int, w http.ResponseWriter) {
		w.WriteHeader([]int{http.StatusServiceUnavailable, http.StatusNotFound, http.StatusOK}[min(n, 3)-1])
	})
	call := &functions.Queued{Call: functions.Call{Function: "echo", Tenant: "acme", Body: []byte("input")}, Timeout: time.Minute, Callback: tenant.URL}
	if call.Call.ID, err = lightcone.NewCallID(time.Now(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Accept(ctx, call); err != nil {
		t.Fatal(err)
	}
	outcome := func(name string) (attempts float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				if family.GetName() == "lightcone_callback_attempts_total" && metric.GetLabel()[0].GetValue() == name {
					attempts = metric.GetCounter().GetValue()
				}
			}
		}
		return attempts
	}
	within(t, "it is delivered", func() bool { return outcome("delivered") == 1 })
	all := tenant.all()
	if len(all) != 3 || outcome("again") != 2 || outcome("given-up") != 0 {
		t.Fatalf("%d attempts, %v to be tried again", len(all), outcome("again"))
	}
	for i, got := range all {
		if got.header.Get("X-Retry") != strconv.Itoa(i) || got.header.Get("Webhook-Id") != all[0].header.Get("Webhook-Id") || string(got.body) != "input" {
			t.Errorf("attempt %d: %v %q", i+1, got.header, got.body)
		}
		for _, key := range keys { // the key changes: both are good
			if !got.signedBy(t, callback.SecretOf(key, "acme").Text()) {
				t.Errorf("attempt %d is not signed with each of the keys: %v", i+1, got.header)
			}
		}
		if got.signedBy(t, callback.SecretOf(keys[0], "other").Text()) {
			t.Error("another tenant's secret is good, too")
		}
	}
}

func TestKeysAndNetworksOfCallbacks(t *testing.T) {
	file := func(text string) string { return write(t, filepath.Join(t.TempDir(), "callback.key"), text) }
	one, two := strings.Repeat("k", 32), strings.Repeat("l", 43)
	for _, test := range []struct {
		name, file string
		keys       int
		says       string
	}{
		{"no file", "", 0, ""},
		{"one key", file(one + "\n"), 1, ""},
		{"two keys", file(one + "\n" + two + "\n"), 2, ""},
		{"three keys", file(one + "\n" + two + "\n" + one), 0, "there are 3 keys"},
		{"a short key", file("short"), 0, "32"},
		{"an empty file", file("\n"), 0, "is empty"},
		{"a file that is not there", "/nonexistent", 0, "--callback-key-file"},
	} {
		keys, err := callbackKeys(test.file)
		if len(keys) != test.keys || (err == nil) != (test.says == "") || err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), one)) {
			t.Errorf("%s: %d keys, %v", test.name, len(keys), err)
		}
	}
	for _, flags := range []callbackFlags{{allowed: []string{"127.0.0.1"}}, {forbidden: []string{"example.com/8"}}, {allowed: []string{"10.0.0.0/8", ""}}, {forbidden: []string{"::ffff:10.0.0.0/104"}}} {
		if _, err := flags.rules(); err == nil || !strings.Contains(err.Error(), "--callback-") {
			t.Errorf("%+v: %v", flags, err)
		}
	}
}
