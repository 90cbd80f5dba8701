package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions"
)

// queueNodes starts the nodes of a queue, which find each other in Consul, and waits
// until they are ready.
func (r *region) queueNodes(count int) (all []*service) {
	r.t.Helper()
	for i := range count {
		route := freeAddress(r.t)
		all = append(all, r.start("queue", append(r.queueKeys(),
			"LIGHTCONE_ROUTE_LISTEN="+route, "LIGHTCONE_PEERS_SERVICE=queue-route", "LIGHTCONE_SEAT="+string(rune('0'+i)),
			"LIGHTCONE_DATA="+filepath.Join(r.t.TempDir(), "queue"), "LIGHTCONE_STORE_MIB=512",
			"LIGHTCONE_ROUTE_PASSWORD_FILE="+r.key("queue-route.password"),
			"LIGHTCONE_CERTIFICATE_FILE="+r.key("queue.pem"), "LIGHTCONE_KEY_FILE="+r.key("queue.key"))))
		r.register("queue-route", 1000+i, route)
		r.register("queue", 2000+i, all[i].listen)
	}
	for _, node := range all {
		within(r.t, "the queue's node is ready", func() bool { return node.running() && status(node.manage, "/readyz") == 200 })
	}
	return all
}

// queueKeys are what every part that knows the queue is told.
func (r *region) queueKeys() []string {
	return []string{"LIGHTCONE_QUEUE_PASSWORD_FILE=" + r.key("queue.password"), "LIGHTCONE_QUEUE_CA_FILE=" + r.key("queue-ca.pem")}
}

func TestQueueNodesFindEachOtherAndAreFound(t *testing.T) {
	r := newRegion(t)
	nodes := r.queueNodes(3)

	catalogue, err := consul.Connect(consul.Config{Address: r.consul.Address, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	flags := queueFlags{service: "queue", passwordFile: r.key("queue.password"), caFile: r.key("queue-ca.pem"), keep: time.Hour}
	client, stop, err := flags.connect(catalogue, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	within(t, "the queue is found", func() bool { return client.Ready() == nil })
	accept := func() lightcone.Invocation {
		t.Helper()
		id, err := lightcone.NewCallID(time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		call := functions.Call{ID: id, Tenant: "demo", Function: "echo", Body: []byte("hello")}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		invocation, err := client.Accept(ctx, &functions.Queued{Call: call, Timeout: time.Second})
		if err != nil {
			t.Fatalf("accept a call: %v", err)
		}
		return invocation
	}
	first := accept()
	for _, node := range nodes {
		within(t, "the backlog is told", func() bool {
			return strings.Contains(r.page(node, backlogPath), `"waiting": 1`)
		})
	}
	// The client's own node among them, now or in a moment.
	nodes[0].signal(syscall.SIGKILL)
	<-nodes[0].ended
	nodes = slices.Delete(nodes, 0, 1)
	accept()
	if _, err := client.Find(t.Context(), "demo", first.ID); err != nil {
		t.Errorf("with one of three nodes killed: %v", err)
	}
	within(t, "both calls are told", func() bool {
		return strings.Contains(r.page(nodes[0], backlogPath), `"waiting": 2`)
	})
}

// page is what the operator sees on a page of a service's management listener.
func (r *region) page(s *service, path string) string {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+s.manage+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(r.t, r.key("operator.key"))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(response.Body)
	return string(said)
}
