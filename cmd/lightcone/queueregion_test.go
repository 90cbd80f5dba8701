package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions"
	"lightcone/queue"
	"lightcone/scheduler"
)

// queueNode starts a queue of one node, which Consul lists.
func (r *region) queueNode() *service {
	r.t.Helper()
	node := r.start("queue", []string{
		"LIGHTCONE_DATA=" + r.t.TempDir(), "LIGHTCONE_STORE_MIB=512",
		"LIGHTCONE_QUEUE_PASSWORD_FILE=" + r.key("queue.password"), "LIGHTCONE_QUEUE_CA_FILE=" + r.key("queue-ca.pem"),
		"LIGHTCONE_CERTIFICATE_FILE=" + r.key("queue.pem"), "LIGHTCONE_KEY_FILE=" + r.key("queue.key"),
	})
	within(r.t, "the queue is ready", func() bool { return node.running() && status(node.manage, "/readyz") == 200 })
	r.register("queue", node.id, node.listen)
	r.register(queueManagement, int(started.Add(1)), node.manage)
	return node
}

// A worker finds the queue by Consul and runs what is in it; the scheduler sees what no
// worker has run yet.
func TestWorkersRunWhatIsQueued(t *testing.T) {
	r := newRegion(t)
	node := r.queueNode()
	ofQueue := []string{"--queue-service=queue", "--queue-password-file=" + r.key("queue.password"), "--queue-ca-file=" + r.key("queue-ca.pem")}
	first := r.workers(1, "echo", ofQueue...)[0]
	r.enlist("echo", first)
	r.register(gatewayManagement, int(started.Add(1)), demandingNothing(t, r))

	logger := slog.New(slog.DiscardHandler)
	flags := queueFlags{servers: node.listen, passwordFile: r.key("queue.password"), caFile: r.key("queue-ca.pem"), keep: 24 * time.Hour}
	client, closeClient, err := flags.connect(nil, "test", logger)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeClient(context.Background()) }()
	within(t, "the queue is ready", func() bool { return client.Ready() == nil })

	id := acceptEcho(t, client, 1)
	ends(t, client, id)

	catalogue, err := consul.Connect(consul.Config{Address: r.consul.Address, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	policies, err := parsePolicies(`[{"function":"echo"}]`)
	if err != nil {
		t.Fatal(err)
	}
	o := newObserver(catalogue, strings.TrimSpace(read(t, r.key("fleet.key"))), strings.TrimSpace(read(t, r.key("operator.key"))), policies)
	stop := o.start(logger)
	defer func() { _ = stop(context.Background()) }()
	observes(t, o, scheduler.Observation{
		GatewaysKnown: 1, GatewaysAnswered: 1, QueueKnown: 1, QueueAnswered: 1,
		Fleets: map[lightcone.FunctionName]scheduler.FleetLoad{"echo": {WorkersKnown: 1, WorkersAnswered: 1, Slots: 4, Reserved: 1}},
	})

	first.stop()
	r.deregister(first)
	id = acceptEcho(t, client, 2)
	within(t, "the scheduler sees a queued call that gets older", func() bool {
		seen, err := o.Observe(t.Context())
		fleet := seen.Fleets["echo"]
		return err == nil && fleet.WorkersKnown == 0 && fleet.Queued == 1 && fleet.OldestQueued > 0
	})
	r.workers(1, "echo", ofQueue...)
	ends(t, client, id)
}

// demandingNothing is a gateway's management page on which no call waits.
func demandingNothing(t *testing.T, r *region) (address string) {
	t.Helper()
	return managingFor(t, strings.TrimSpace(read(t, r.key("operator.key"))), demandPath, 200, "[]")
}

// acceptEcho queues a call of echo.
func acceptEcho(t *testing.T, client *queue.Client, number int) lightcone.CallID {
	t.Helper()
	id, err := lightcone.NewCallID(time.Now(), numbered(number))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Accept(t.Context(), &functions.Queued{
		Call: functions.Call{ID: id, Function: "echo", Tenant: "demo", Body: []byte("input")}, Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// ends waits for a call's good end.
func ends(t *testing.T, client *queue.Client, id lightcone.CallID) {
	t.Helper()
	within(t, "the queued call has been run", func() bool {
		result, err := client.Result(t.Context(), "demo", id)
		return err == nil && string(result.Body) == "input"
	})
}
