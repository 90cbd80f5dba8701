package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions"
	"lightcone/functions/wire"
	"lightcone/scheduler"
)

// holding is a runner with slots for one function, of which calls hold some until
// they are released.
type holding struct {
	function lightcone.FunctionName
	slots    int
	begun    chan struct{}
	release  chan struct{}
}

func (h *holding) Run(*functions.Call, *functions.Answer) error {
	h.begun <- struct{}{}
	<-h.release
	return nil
}

func (h *holding) Functions() []functions.Offer {
	return []functions.Offer{{Spec: limitsOf(h.function), Slots: h.slots}}
}

func (h *holding) Ready() error { return nil }

// busyWorker serves a worker with calls that run, and tells its address and how to
// begin its drain.
func busyWorker(t *testing.T, function lightcone.FunctionName, slots, busy int) (address string, drain func()) {
	t.Helper()
	h := &holding{function: function, slots: slots, begun: make(chan struct{}), release: make(chan struct{})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	server := wire.NewServer(wire.ServerConfig{Runner: h, Key: "fleet", Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	client := wire.Dial(wire.ClientConfig{Address: address, Key: "fleet"})
	within(t, "the worker is ready", func() bool { return client.Ready() == nil })
	results := make(chan error)
	for range busy {
		go func() {
			call := &functions.Call{Function: function, Tenant: "demo", Deadline: time.Now().Add(time.Minute)}
			results <- client.Run(call, new(functions.Answer))
		}()
		<-h.begun
	}
	stopped := make(chan error, 1)
	shutDown := func() { stopped <- server.Shutdown(context.Background()) }
	draining := false
	t.Cleanup(func() {
		if !draining {
			go shutDown()
		}
		close(h.release)
		for range busy {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		client.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address, func() {
		draining = true
		go shutDown()
		within(t, "it drains", func() bool {
			load, err := wire.FetchLoad(t.Context(), address, "fleet")
			return err == nil && load.Draining
		})
	}
}

// silent takes connections and says nothing.
func silent(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// demanding is a gateway's management page.
func demanding(t *testing.T, status int, page string) (address string) {
	t.Helper()
	return managing(t, demandPath, status, page)
}

// managing is a management listener with one page.
func managing(t *testing.T, path string, status int, page string) (address string) {
	t.Helper()
	return managingFor(t, "operator", path, status, page)
}

// managingFor is managing for the operator who has the key.
func managingFor(t *testing.T, key, path string, status int, page string) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path || r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, page)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// listed is what Consul would have told.
func listed(addresses ...string) []consul.Instance {
	instances := []consul.Instance{}
	for i, address := range addresses {
		instances = append(instances, consul.Instance{ID: fmt.Sprint(i), Address: address})
	}
	return instances
}

func TestObserverCountsPartialAnswers(t *testing.T) {
	busy, _ := busyWorker(t, "echo", 4, 3)
	idle, _ := busyWorker(t, "echo", 2, 0)
	leaving, drain := busyWorker(t, "echo", 8, 1)
	drain()
	other, _ := busyWorker(t, "resize", 1, 1)
	const waiting = `[{"function":"echo","waiting":%d,"running":9,"refused":9},{"function":"unknown","waiting":50}]`
	policies, err := parsePolicies(`[{"function":"echo"},{"function":"resize"},{"function":"shout","floor":0}]`)
	if err != nil {
		t.Fatal(err)
	}
	o := newObserver(nil, "fleet", "operator", policies)
	o.known = map[string][]consul.Instance{
		gatewayManagement: listed(
			demanding(t, 200, fmt.Sprintf(waiting, 2)), demanding(t, 200, fmt.Sprintf(waiting, 5)), demanding(t, 500, fmt.Sprintf(waiting, 100)),
			demanding(t, 200, "no JSON"), demanding(t, 200, "["+strings.Repeat(" ", mebibyte)+"]"), silent(t), "127.0.0.1:1",
		),
		"worker-echo":   listed(busy, idle, leaving, silent(t), "127.0.0.1:1"),
		"worker-resize": listed(other),
		"worker-shout":  listed(),
		queueManagement: listed(),
	}
	want := scheduler.Observation{
		GatewaysKnown: 7, GatewaysAnswered: 2,
		Fleets: map[lightcone.FunctionName]scheduler.FleetLoad{
			"echo":   {WorkersKnown: 4, WorkersAnswered: 2, Slots: 6, Busy: 3, Waiting: 7, Reserved: 2},
			"resize": {WorkersKnown: 1, WorkersAnswered: 1, Slots: 1, Busy: 1},
			"shout":  {},
		},
	}
	observes(t, o, want)
	// With the wrong keys, everybody is known and nobody answers.
	o.fleetKey, o.operatorKey = "other", "other"
	want.GatewaysAnswered = 0
	want.Fleets["echo"] = scheduler.FleetLoad{WorkersKnown: 5}
	want.Fleets["resize"] = scheduler.FleetLoad{WorkersKnown: 1}
	observes(t, o, want)
}

// observes waits until o sees what there is: Consul may not have told it yet, and
// on a busy machine those who would answer may be late. No answer takes much longer
// than is waited for it.
func observes(t *testing.T, o *observer, want scheduler.Observation) {
	t.Helper()
	diff := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		began := time.Now()
		got, err := o.Observe(t.Context())
		if took := time.Since(began); took > answerWithin+3*time.Second {
			t.Errorf("it took %v", took)
		}
		if diff = cmp.Diff(want, got); err == nil && diff == "" {
			return
		}
		if err != nil {
			diff = err.Error()
		}
	}
	t.Fatalf("not within 20 s: %s", diff)
}

// Before Consul has told where everybody is, there is no observation: nobody must
// take a fleet that has not been heard of for an empty one.
func TestObserverSaysNothingBeforeConsulHas(t *testing.T) {
	policies, err := parsePolicies(`[{"function":"echo"}]`)
	if err != nil {
		t.Fatal(err)
	}
	o := newObserver(nil, "", "", policies)
	if _, err := o.Observe(t.Context()); err == nil || !strings.Contains(err.Error(), "where the gateways are") {
		t.Errorf("it said %v", err)
	}
	o.known[gatewayManagement] = listed()
	if _, err := o.Observe(t.Context()); err == nil || !strings.Contains(err.Error(), "where the queue is") {
		t.Errorf("it said %v", err)
	}
	o.known[queueManagement] = listed()
	if _, err := o.Observe(t.Context()); err == nil || !strings.Contains(err.Error(), "where the workers of echo are") {
		t.Errorf("it said %v", err)
	}
	o.known["worker-echo"] = listed()
	if _, err := o.Observe(t.Context()); err != nil {
		t.Error(err)
	}
	o.known["worker-echo"] = listed(silent(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	seen, err := o.Observe(ctx)
	if load := seen.Fleets["echo"]; err != nil || load.WorkersKnown != 1 || load.WorkersAnswered != 0 {
		t.Errorf("in no time at all, %+v was seen (%v): want one worker known, and none that answered", load, err)
	}
}
