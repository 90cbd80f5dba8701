package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lightcone/client"
	"lightcone/cmd/internal/commandline"
)

// request sends a request about queued calls with the demo key, and answers the body.
func (d *devTree) request(t *testing.T, method, path string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+d.api+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, filepath.Join(d.data, "demo.key"))))
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// invocation is what the front door says of a call.
func (d *devTree) invocation(t *testing.T, id string) client.Invocation {
	t.Helper()
	response, text := d.request(t, "GET", "/v1/invocations/"+id, nil)
	var found client.Invocation
	if err := json.Unmarshal([]byte(text), &found); err != nil || response.StatusCode != 200 {
		t.Fatalf("%s: %s %s, %v", id, response.Status, text, err)
	}
	return found
}

// TestAcceptedCallsOutliveTheTree: what was accepted finishes although all is killed.
func TestAcceptedCallsOutliveTheTree(t *testing.T) {
	data := t.TempDir()
	d := startDev(t, data, "--slots", "1")
	photograph := readBytes(t, photo)
	var ids []string
	for range 30 {
		response, text := d.request(t, "POST", "/async-function/resize?width=301", strings.NewReader(string(photograph)))
		if response.StatusCode != 202 || response.Header.Get("Location") != "/v1/invocations/"+response.Header.Get("X-Call-Id") {
			t.Fatalf("%s %v %s", response.Status, response.Header, text)
		}
		ids = append(ids, response.Header.Get("X-Call-Id"))
	}
	if err := d.command.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-d.ended
	d = startDev(t, data, "--slots", "1")
	for _, id := range ids {
		// Whoever ran when the tree died is given out again once its heartbeat has been missed.
		for end := time.Now().Add(time.Minute); d.invocation(t, id).Status != "succeeded"; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is %+v a minute later\n%s", id, d.invocation(t, id), d.said)
			}
		}
		response, text := d.request(t, "GET", "/v1/invocations/"+id+"/result", nil)
		if response.StatusCode != 200 || response.Header.Get("Content-Type") != "image/jpeg" || imageSize(t, []byte(text)).X != 301 {
			t.Errorf("the result of %s: %s %v", id, response.Status, response.Header)
		}
	}
}

// TestQueuedCallsOverHTTP goes through a queued call's life, its bad ends included.
func TestQueuedCallsOverHTTP(t *testing.T) {
	var heard sync.Map
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		heard.Store(r.URL.Path, r.Header.Get("Webhook-Signature")+" "+string(body))
	}))
	defer receiver.Close()
	d := startDev(t, t.TempDir(), "--callback-allow", "127.0.0.0/8")

	// Waited for, it is as a call.
	response, text := d.request(t, "POST", "/function/echo", strings.NewReader("hello"), "Prefer", "respond-async, wait=20", "X-Callback-Url", receiver.URL+"/done", "Content-Type", "text/x")
	if response.StatusCode != 200 || text != "hello" || response.Header.Get("Content-Type") != "text/x" || response.Header.Get("Preference-Applied") != "respond-async, wait=20" || response.Header.Get("Server-Timing") == "" {
		t.Errorf("%s %v %q", response.Status, response.Header, text)
	}
	within(t, "it was called back", func() bool {
		said, done := heard.Load("/done")
		return done && strings.HasPrefix(said.(string), "v1,") && strings.HasSuffix(said.(string), " hello")
	})

	// With its key again, it is the same call; with another body, it is refused.
	key := []string{"Idempotency-Key", "one", "Prefer", "wait=20"}
	first, _ := d.request(t, "POST", "/async-function/echo", strings.NewReader("a"), key...)
	again, text := d.request(t, "POST", "/async-function/echo", strings.NewReader("a"), key...)
	if again.StatusCode != 200 || text != "a" || again.Header.Get("X-Call-Id") != first.Header.Get("X-Call-Id") {
		t.Errorf("again: %s %v %q, first %v", again.Status, again.Header, text, first.Header)
	}
	if other, text := d.request(t, "POST", "/async-function/echo", strings.NewReader("b"), key...); other.StatusCode != 422 || !strings.Contains(text, "key-reused") {
		t.Errorf("the key with another body: %s %s", other.Status, text)
	}

	// The function's no is the result.
	bad, text := d.request(t, "POST", "/async-function/resize", strings.NewReader("no image"), "Prefer", "wait=20")
	if bad.StatusCode != 415 || bad.Header.Get("X-Lightcone-Error") != "function" || !strings.Contains(text, "unsupported-media") {
		t.Errorf("no image: %s %s", bad.Status, text)
	}
	if found := d.invocation(t, bad.Header.Get("X-Call-Id")); found.Status != "failed" || found.FinishedAt == nil {
		t.Errorf("no image: %+v", found)
	}

	// More than fits a message goes by the object store.
	large := strings.Repeat("0123456789abcdef", 3<<16)
	if response, text := d.request(t, "POST", "/async-function/echo", strings.NewReader(large), "Prefer", "wait=30"); response.StatusCode != 200 || text != large {
		t.Errorf("3 MiB: %s, and %d bytes", response.Status, len(text))
	}
	for url, status := range map[string]int{receiver.URL: 202, "http://10.0.0.1/": 400, "http://[::ffff:10.0.0.1]/": 400, "http://169.254.169.254/": 400, "http://localhost.:22/": 400} {
		if response, text := d.request(t, "POST", "/async-function/echo", nil, "X-Callback-Url", url); response.StatusCode != status {
			t.Errorf("callback to %s: %s %s", url, response.Status, text)
		}
	}
	if secret := read(t, filepath.Join(d.data, "callback.key")); strings.Contains(d.said.String(), strings.TrimSpace(secret)) {
		t.Error("the key of callbacks was printed")
	}
	if info, err := os.Stat(filepath.Join(d.data, "callback.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("callback.key: %v, %v", info, err)
	}
}

// TestDeadLettersByCommand: a call that is never done in its time is given up, and an
// operator sees to it.
func TestDeadLettersByCommand(t *testing.T) {
	d := startDev(t, t.TempDir(), "--callback-allow", "127.0.0.1/32")
	tenant := listenAt(t, "127.0.0.1:0", welcomes)
	response, text := d.request(t, "POST", "/async-function/resize?width=4000&height=4000&fit=fill&format=png", strings.NewReader(string(readBytes(t, photo))), "X-Timeout", "1ms", "X-Callback-Url", tenant.URL)
	id := response.Header.Get("X-Call-Id")
	if response.StatusCode != 202 {
		t.Fatalf("%s %s", response.Status, text)
	}
	dies := func(what string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); d.invocation(t, id).Status != "dead"; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: it is %+v", what, d.invocation(t, id))
			}
		}
	}
	dies("after all its attempts")
	if response, text := d.request(t, "GET", "/v1/invocations/"+id+"/result", nil); response.StatusCode != 409 {
		t.Errorf("the result of a dead call: %s %s", response.Status, text)
	}
	if got := tenant.first(t); got.header.Get("X-Call-Status") != "dead" || got.header.Get("X-Function-Status") != "409" || !strings.Contains(string(got.body), "All 4 attempts are used up. The last: ") {
		t.Errorf("the callback of a dead call: %v %s", got.header, got.body)
	}
	command := func(args ...string) (int, string) {
		t.Helper()
		args = append(append([]string{"deadletter"}, args...), "--manage-url", "http://"+d.manage, "--operator-key-file", filepath.Join(d.data, "operator.key"))
		code, stdout, stderr := runCommand(t, "", args...)
		return code, stdout + stderr
	}
	input := filepath.Join(t.TempDir(), "input.jpg")
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"list"}, commandline.OK, id},
		{[]string{"list", "--tenant", "nobody"}, commandline.OK, "ID  TENANT"},
		{[]string{"list", "--tenant", "*"}, commandline.Failed, "tenant"},
		{[]string{"show", id, "--input", input}, commandline.OK, `"attempts": 4`},
		{[]string{"show", "1"}, commandline.NotUnderstood, "want 26"},
		{[]string{"show", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"}, commandline.Failed, "no dead letter"},
		{[]string{"redrive"}, commandline.NotUnderstood, "ID is missing"},
		{[]string{"redrive", id}, commandline.OK, "redriven " + id},
	} {
		if code, said := command(test.args...); code != test.code || !strings.Contains(said, test.says) {
			t.Errorf("deadletter %v: %d %s, want %d and %q", test.args, code, said, test.code, test.says)
		}
	}
	if got := readBytes(t, input); string(got) != string(readBytes(t, photo)) {
		t.Errorf("its input came back with %d bytes", len(got))
	}
	within(t, "it is queued again", func() bool { return d.invocation(t, id).Status != "dead" })
	dies("again")
	if code, said := command("drop", id); code != commandline.OK || !strings.Contains(said, "dropped "+id) {
		t.Errorf("drop: %d %s", code, said)
	}
	if code, said := command("drop", id); code != commandline.Failed || !strings.Contains(said, "no dead letter") {
		t.Errorf("drop again: %d %s", code, said)
	}
}

func TestAsyncFlagsGoTogether(t *testing.T) {
	t.Setenv(envKey, "lc_demo_secret")
	for args, says := range map[string]string{
		"call echo --detach":                         "give --async with it",
		"call echo --callback https://a.example":     "give --async with it",
		"call echo --async --wait=-1s":               "want more than 0",
		"call echo --async --detach --wait 1s":       "leave one out",
		"call echo --async --detach --skip-existing": "leave one out",
		"call echo --async --detach --out z":         "nothing to write: leave one out",
		"call echo --async --in .":                   "name the folder for the outputs with --out",
		"invocation show x":                          "want 26",
		"invocation result":                          "ID is missing",
	} {
		if code, _, stderr := runCommand(t, "", strings.Fields(args)...); code != commandline.NotUnderstood || !strings.Contains(stderr, says) {
			t.Errorf("%s: %d %s, want %q", args, code, stderr, says)
		}
	}
}
