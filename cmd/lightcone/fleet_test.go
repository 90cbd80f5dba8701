package main

import (
	"context"
	"image"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"lightcone"
	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/scheduler"
)

// The life of a region: without a worker, with the first, with strangers, and
// without a worker again.
func TestCallsReachTheWorkersThereAre(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	g := r.gateway("echo,resize:cold=20s")
	turnedAway := func(when string) {
		t.Helper()
		response, answer, err := g.call(http.DefaultClient, "echo", []byte("input"))
		if err != nil || response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v, %v, %s; want a 503 with Retry-After", when, response, err, answer)
		}
	}
	ready := func(want int, when string) {
		t.Helper()
		if public, own := status(g.listen, "/readyz"), status(g.manage, "/readyz"); public != want || own != want {
			t.Errorf("%s: /readyz is %d, and %d for the operator; want %d", when, public, own, want)
		}
	}
	turnedAway("without any worker")
	ready(503, "without any worker")

	// A function that may be scaled to zero waits for its first worker.
	cold := make(chan image.Point, 1)
	go func() {
		response, answer, err := g.call(http.DefaultClient, "resize?width=300&format=jpeg", readBytes(t, photo))
		if err != nil || response.StatusCode != 200 {
			t.Errorf("a cold start: %v, %v, %.300s", response, err, answer)
			cold <- image.Point{}
			return
		}
		cold <- imageSize(t, answer)
	}()
	within(t, "the call waits", func() bool { return strings.Contains(g.page("/demand"), `"waiting": 1`) })
	photographer := r.workers(1, "resize")[0]
	r.enlist("resize", photographer)
	if size := <-cold; size != image.Pt(300, 188) {
		t.Errorf("after a cold start, the photograph is %v", size)
	}
	ready(503, "with a worker for resize alone")

	other := write(t, r.key("other.key"), "another fleet's key")
	echoes := r.workers(2, "echo")
	stranger := r.workers(1, "echo", "--fleet-key-file", other)[0]
	r.enlist("echo", append(echoes, stranger)...)
	g.knows(3)
	within(t, "the gateway knows the stranger", func() bool { return g.metric(`lightcone_gateway_fleet_members{state="known"}`) == 4 })
	ready(200, "with workers for all")
	calls := g.load(2, "delay=2ms")
	within(t, "both workers have worked", func() bool { return echoes[0].worked("echo") > 0 && echoes[1].worked("echo") > 0 })
	calls.more(20)
	if yield := calls.end(); yield < 1 {
		t.Errorf("with a stranger among the workers, the yield is %v", yield)
	}
	if known := g.metric(`lightcone_gateway_fleet_members{state="known"}`); known != 4 || stranger.worked("echo") != 0 {
		t.Errorf("the gateway knows %v workers, and the stranger worked for %v s", known, stranger.worked("echo"))
	}
	keyless(t, echoes[0])
	observed(t, r, g, echoes)

	for _, w := range append(echoes, stranger) {
		r.deregister(w)
		w.stop()
	}
	within(t, "calls are turned away", func() bool {
		response, _, err := g.call(http.DefaultClient, "echo", nil)
		return err == nil && response.StatusCode == 503
	})
	turnedAway("after the last worker")
	ready(200, "after the last worker")
}

// keyless calls a worker as its gateways do, with other keys than the fleet's.
func keyless(t *testing.T, worker *service) {
	t.Helper()
	before := worker.worked("echo")
	demo := strings.TrimSpace(read(t, worker.region.key("demo.key")))
	for _, key := range []string{"", "Bearer ", "Bearer other", "Bearer " + demo} {
		request := httptest.NewRequest(http.MethodPost, "http://"+worker.listen+"/call/echo", strings.NewReader("input"))
		request.RequestURI = ""
		request.Header.Set("Authorization", key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _ = response.Body.Close(); response.StatusCode != 401 {
			t.Errorf("Authorization %q: %s, want 401", key, response.Status)
		}
	}
	if after := worker.worked("echo"); after != before {
		t.Errorf("calls without the fleet's key took %v s", after-before)
	}
}

// observed is what a scheduler sees of the region: a stranger among the workers
// is known, and does not answer.
func observed(t *testing.T, r *region, gateway *service, workers []*service) {
	t.Helper()
	r.register(gatewayManagement, gateway.id, gateway.manage)
	policies, err := parsePolicies(`[{"function":"echo"}]`)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := consul.Connect(consul.Config{Address: r.consul.Address, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	o := newObserver(catalogue, strings.TrimSpace(read(t, r.key("fleet.key"))), strings.TrimSpace(read(t, r.key("operator.key"))), policies)
	stop := o.start(slog.New(slog.DiscardHandler))
	defer func() {
		if err := stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	want := scheduler.Observation{
		GatewaysKnown: 1, GatewaysAnswered: 1,
		Fleets: map[lightcone.FunctionName]scheduler.FleetLoad{"echo": {WorkersKnown: 3, WorkersAnswered: 2, Slots: 8, Reserved: 2}},
	}
	observes(t, o, want)
	// A worker that hangs is known, and does not answer.
	workers[0].signal(syscall.SIGSTOP)
	defer workers[0].signal(syscall.SIGCONT)
	want.Fleets["echo"] = scheduler.FleetLoad{WorkersKnown: 3, WorkersAnswered: 1, Slots: 4, Reserved: 1}
	observes(t, o, want)
}

// Workers come and go while calls come in: one is killed, one is stopped before
// Consul knows, one at the moment that Consul forgets it.
func TestWorkersThatLeaveUnderLoadLoseNoCall(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	g := r.gateway("echo", "--max-wait", "5s")
	workers := r.workers(4, "echo")
	r.enlist("echo", workers[:2]...)
	g.knows(2)
	calls := g.load(4, "delay=30ms")
	calls.more(20)

	workers[0].signal(syscall.SIGKILL)
	<-workers[0].ended
	calls.more(20)
	g.knows(1)
	const retries = "lightcone_gateway_fleet_retries_total"
	lost := g.metric(retries)
	if lost == 0 {
		t.Error("the worker that was killed ran no call: the test proves nothing")
	}
	r.deregister(workers[0])
	r.enlist("echo", workers[2])
	g.knows(2)
	calls.more(20)

	workers[1].stop() // Consul lists it until after its end
	calls.more(20)
	r.deregister(workers[1])
	r.enlist("echo", workers[3])
	g.knows(2)
	calls.more(20)

	r.deregister(workers[2])
	workers[2].stop()
	calls.more(20)

	if yield := calls.end(); yield < 1 {
		t.Errorf("the yield is %v, want 1: each call that was lost could be sent again", yield)
	}
	if all := g.metric(retries); all != lost {
		t.Errorf("%v calls had to be sent again, and %v of them after the kill: those who are told to stop should lose none", all, all-lost)
	}
	if workers[3].worked("echo") == 0 {
		t.Error("the last worker had no call")
	}
}

// Nothing on a call's way asks Consul.
func TestCallsGoOnWithoutConsul(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	g := r.gateway("echo")
	workers := r.workers(2, "echo")
	r.enlist("echo", workers[0])
	g.knows(1)
	calls := g.load(2, "delay=5ms")
	calls.more(20)
	r.consul.Kill()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		calls.more(20)
	}
	if status(g.listen, "/readyz") != 200 || workers[1].worked("echo") != 0 {
		t.Errorf("without Consul, /readyz is %d, and a worker that nobody lists worked for %v s", status(g.listen, "/readyz"), workers[1].worked("echo"))
	}
	r.consul.Restart()
	r.enlist("echo", workers...)
	g.knows(2)
	within(t, "the new worker works", func() bool { return workers[1].worked("echo") > 0 })
	if yield := calls.end(); yield < 1 {
		t.Errorf("the yield is %v, want 1", yield)
	}
}

// A gateway that is told to stop says so first, then answers what has arrived,
// however long it takes.
func TestAGatewayThatStopsAnswersWhatHasArrived(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	g := r.gateway("echo")
	r.enlist("echo", r.workers(1, "echo")...)
	g.knows(1)
	const long = 2
	answers := make(chan error, long)
	for range long {
		go func() {
			response, answer, err := g.call(http.DefaultClient, "echo?delay=2s", []byte("input"))
			if err == nil && (response.StatusCode != 200 || string(answer) != "input") {
				t.Errorf("a long call: %s: %s", response.Status, answer)
			}
			answers <- err
		}()
	}
	within(t, "the long calls run", func() bool { return strings.Contains(g.page("/demand"), `"running": 2`) })
	calls := g.load(4, "delay=20ms")
	calls.more(20)
	g.signal(syscall.SIGTERM)
	within(t, "the gateway says that it stops", func() bool { return status(g.listen, "/readyz") == 503 })
	// From here on a load balancer sends it nothing new.
	if yield := calls.end(); yield < 1 {
		t.Errorf("the yield is %v, want 1", yield)
	}
	for range long {
		if err := <-answers; err != nil {
			t.Errorf("a long call: %v", err)
		}
	}
	<-g.ended
	if code := g.command.ProcessState.ExitCode(); code != commandline.OK {
		t.Errorf("exit code %d: %s", code, g.said)
	}
}
