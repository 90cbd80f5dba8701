package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/queue"
)

// crashes is how many processes of shout calls have killed, as a management listener says.
func crashes(t *testing.T, manage string) int64 {
	t.Helper()
	for _, status := range slotsAt(t, manage) {
		if status.Function == "shout" {
			return status.Crashes
		}
	}
	t.Fatal("there is no shout")
	return 0
}

// acceptDeadly queues a call that kills its slot.
func acceptDeadly(t *testing.T, client *queue.Client, tenant lightcone.TenantID, number int) lightcone.CallID {
	t.Helper()
	id, err := lightcone.NewCallID(time.Now(), numbered(number))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Accept(t.Context(), &functions.Queued{
		Call: functions.Call{ID: id, Function: "shout", Tenant: tenant, Body: []byte("die")}, Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// quarantinedAfter waits until the call has failed for its input, and checks how often it ran.
func quarantinedAfter(t *testing.T, client *queue.Client, tenant lightcone.TenantID, id lightcone.CallID, runs int) {
	t.Helper()
	var found lightcone.Invocation
	within(t, "the call has ended", func() bool {
		var err error
		found, err = client.Find(t.Context(), tenant, id)
		return err == nil && found.Status.Final()
	})
	if found.Status != lightcone.InvocationFailed || found.Attempts != runs || !strings.Contains(found.Error, "has killed 2 processes") {
		t.Errorf("%s's call: %+v, want it failed after %d runs", tenant, found, runs)
	}
	if result, err := client.Result(t.Context(), tenant, id); err != nil || result.Problem != problem.Quarantined {
		t.Errorf("%s's call came to %+v, %v", tenant, result, err)
	}
}

// TestWorkersKeepQueuedPoisonFromTheSlots: an input that has killed two slots is not run
// again, whichever worker or gateway its call comes to; another tenant's is.
func TestWorkersKeepQueuedPoisonFromTheSlots(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	node := r.queueNode()
	ofQueue := []string{"--queue-service=queue", "--queue-password-file=" + r.key("queue.password"), "--queue-ca-file=" + r.key("queue-ca.pem")}
	shout := "shout=" + compiled(t, ownFunctionSource)
	first := r.workers(1, shout, append(ofQueue, "--function-on-port")...)[0]
	r.enlist("shout", first)
	door := r.gateway("shout", ofQueue...)
	door.knows(1)
	flags := queueFlags{servers: node.listen, passwordFile: r.key("queue.password"), caFile: r.key("queue-ca.pem"), keep: 24 * time.Hour}
	client, closeClient, err := flags.connect(nil, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeClient(context.Background()) }()
	within(t, "the queue is ready", func() bool { return client.Ready() == nil })

	poison := acceptDeadly(t, client, "demo", 1)
	quarantinedAfter(t, client, "demo", poison, 2)

	// A gateway hears of it, runs it for nobody who waits, and accepts no more of it.
	within(t, "the gateway knows", func() bool { return door.metric("lightcone_quarantine_inputs") == 1 })
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+door.listen+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, r.key("demo.key"))))
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
	for _, path := range []string{"/function/shout", "/async-function/shout"} {
		if status, text := ask(http.MethodPost, path, "die"); status != 422 || !strings.Contains(text, ":quarantined") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := ask(http.MethodGet, "/v1/invocations/"+poison.String(), ""); status != 200 || !strings.Contains(text, `"failed"`) {
		t.Errorf("its status: %d %s", status, text)
	}
	if status, text := ask(http.MethodGet, "/v1/invocations/"+poison.String()+"/result", ""); status != 422 || !strings.Contains(text, ":quarantined") {
		t.Errorf("its result: %d %s", status, text)
	}
	if died := crashes(t, first.manage); died != 2 {
		t.Errorf("%d processes died of it, want 2", died)
	}

	// Nor does a worker that has only read of it; and it finds out about others' inputs itself.
	first.stop()
	r.deregister(first)
	second := r.workers(1, shout, append(ofQueue, "--function-on-port")...)[0]
	quarantinedAfter(t, client, "demo", acceptDeadly(t, client, "demo", 2), 0)
	if died := crashes(t, second.manage); died != 0 {
		t.Errorf("%d more processes died of it", died)
	}
	quarantinedAfter(t, client, "other", acceptDeadly(t, client, "other", 3), 2)
	if died := crashes(t, second.manage); died != 2 {
		t.Errorf("%d processes died of another tenant's, want 2", died)
	}

	// Without Consul, it goes on, and refuses what it has seen.
	r.consul.Kill()
	quarantinedAfter(t, client, "demo", acceptDeadly(t, client, "demo", 4), 0)
	quarantinedAfter(t, client, "third", acceptDeadly(t, client, "third", 5), 2)
}

// TestDevKeepsQueuedPoisonFromTheSlots: there, too.
func TestDevKeepsQueuedPoisonFromTheSlots(t *testing.T) {
	t.Parallel()
	d := startDev(t, filepath.Join(t.TempDir(), "data"), "--port-function", "shout="+compiled(t, ownFunctionSource))
	queued := func(key string) (status int, text, id string) {
		t.Helper()
		response, text := d.request(t, http.MethodPost, "/async-function/shout", strings.NewReader("die"), "Prefer", "wait=30", "Authorization", "Bearer "+key)
		return response.StatusCode, text, response.Header.Get("X-Call-Id")
	}
	demo := strings.TrimSpace(read(t, filepath.Join(d.data, "demo.key")))
	status, text, id := queued(demo)
	if status != 422 || !strings.Contains(text, ":quarantined") {
		t.Fatalf("%d %s", status, text)
	}
	if found := d.invocation(t, id); found.Status != lightcone.InvocationFailed || found.Attempts != 2 {
		t.Errorf("%+v", found)
	}
	if status, kind := d.refusal(t, demo, "shout", "die"); status != 422 || kind != "quarantined" {
		t.Errorf("a call that waits: %d %s", status, kind)
	}
	if died := crashes(t, d.manage); died != 2 {
		t.Errorf("%d processes died of it, want 2", died)
	}
	var other string
	for _, args := range [][]string{{"tenant", "create", "other"}, {"key", "create", "other", "--scope", "shout"}} {
		code, stdout, stderr := runCommand(t, "", append(args, "--manage-url", "http://"+d.manage, "--operator-key-file", filepath.Join(d.data, "operator.key"))...)
		if code != commandline.OK {
			t.Fatalf("%v: %d %s", args, code, stderr)
		}
		other = strings.TrimSpace(stdout)
	}
	if status, text, _ := queued(other); status != 422 || !strings.Contains(text, ":quarantined") {
		t.Errorf("another tenant's: %d %s", status, text)
	}
	if died := crashes(t, d.manage); died != 4 {
		t.Errorf("%d processes died of both tenants' calls, want 4", died)
	}
}
