package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// get asks the worker for a page, on a connection of its own.
func get(t *testing.T, address, path, key string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Close = true
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestPages(t *testing.T) {
	worker := newRunner(echo)
	var broken atomic.Bool
	worker.ready = func() error {
		if broken.Load() {
			return errors.New("no process of any function is ready")
		}
		return nil
	}
	_, address := serve(t, ServerConfig{Key: testKey, Runner: worker})
	check := func(path, key string, want int) {
		t.Helper()
		if got := get(t, address, path, key); got != want {
			t.Errorf("GET %s with key %q: %d, want %d", path, key, got, want)
		}
	}
	check("/healthz", "", 200)
	check("/readyz", "", 200)
	check("/load", "", 401)
	check("/load", testKey+"x", 401)
	check("/load", testKey, 200)
	check("/", testKey, 404)
	check("/call/echo", testKey, 405)
	broken.Store(true)
	check("/readyz", "", 503)
	check("/healthz", "", 200)
	load, err := FetchLoad(t.Context(), address, testKey)
	if err != nil || load.Functions[0].Slots != 0 {
		t.Errorf("load of a worker that is not ready: %+v, %v", load, err)
	}
}

func TestLoadSaysWhatRuns(t *testing.T) {
	slow := newBlocking()
	_, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	client := dialReady(t, ClientConfig{Address: address, PollEvery: 5 * time.Millisecond})
	results := make(chan error, 3)
	for range 3 {
		go func() { results <- client.Run(newCall(nil), new(functions.Answer)) }()
		<-slow.started
	}
	load, err := FetchLoad(t.Context(), address, "")
	want := Load{Functions: []FunctionLoad{{
		Name: "echo", Slots: 8, Busy: 3, DefaultTimeout: 5 * time.Second, MaxTimeout: 20 * time.Second, MaxBodyBytes: 8 << 20,
	}}}
	if diff := cmp.Diff(want, load); err != nil || diff != "" {
		t.Error(err, diff)
	}
	eventually(t, "the client knows", func() bool { return client.Busy("echo") == 3 })
	close(slow.release)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the client knows the end", func() bool { return client.Busy("echo") == 0 })
	if diff := cmp.Diff([]functions.Offer{offer("echo", 8)}, client.Functions()); diff != "" {
		t.Error(diff)
	}
}

// TestAFullWorkerRefusesUnread: the refusal comes although the runner would
// take the call, and the connection is good for the next one.
func TestAFullWorkerRefusesUnread(t *testing.T) {
	slow := newBlocking()
	worker := newRunner(slow.run)
	worker.offers[0].Slots = 2
	_, address := serve(t, ServerConfig{Runner: worker})
	client := dialReady(t, ClientConfig{Address: address})
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- client.Run(newCall(nil), new(functions.Answer)) }()
		<-slow.started
	}
	for _, size := range []int{0, 1, 256 << 10, 7 << 20} { // the last is too long to be read to its end
		var answer functions.Answer
		found := wantKind(t, client.Run(newCall(make([]byte, size)), &answer), problem.Overloaded)
		if found.Detail != "Every slot of the function echo is taken; the call was not run." {
			t.Errorf("%d bytes: %v", size, found)
		}
	}
	close(slow.release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(slow.started) != 0 {
		t.Error("the runner saw a call that had been refused")
	}
}

func TestCallsInFlightAreBounded(t *testing.T) {
	slow := newBlocking()
	_, address := serve(t, ServerConfig{Runner: newRunner(slow.run), MaxCalls: 1, MaxConnections: 4})
	client := dialReady(t, ClientConfig{Address: address})
	result := make(chan error, 1)
	go func() { result <- client.Run(newCall(nil), new(functions.Answer)) }()
	<-slow.started
	wantKind(t, client.Run(newCall(nil), new(functions.Answer)), problem.Overloaded)
	close(slow.release)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestADrainLosesNoCall stops one of two workers under load, as a deployment
// does: every call is answered by one of them, and run once.
func TestADrainLosesNoCall(t *testing.T) {
	var ran atomic.Int64
	run := func(call *functions.Call, answer *functions.Answer) error {
		ran.Add(1)
		return echo(call, answer)
	}
	going := newRunner(run)
	leaving, leavingAddress := serve(t, ServerConfig{Runner: going, DrainNotice: 200 * time.Millisecond})
	_, stayingAddress := serve(t, ServerConfig{Runner: newRunner(run)})
	first := dialReady(t, ClientConfig{Address: leavingAddress, PollEvery: 50 * time.Millisecond})
	second := dialReady(t, ClientConfig{Address: stayingAddress})
	var callers sync.WaitGroup
	var stop atomic.Bool
	var answers atomic.Int64
	for i := range 8 {
		callers.Go(func() {
			body := make([]byte, 1000*i)
			var answer functions.Answer
			for !stop.Load() {
				err := first.Run(newCall(body), &answer)
				if err != nil && problem.Of(err).Kind == problem.Overloaded {
					err = second.Run(newCall(body), &answer)
				}
				if err != nil {
					t.Errorf("a call was lost: %v", err)
					return
				}
				answers.Add(1)
			}
		})
	}
	eventually(t, "load", func() bool { return answers.Load() > 200 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := leaving.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	after := answers.Load()
	eventually(t, "calls go on elsewhere", func() bool { return answers.Load() > after+100 })
	stop.Store(true)
	callers.Wait()
	if ran.Load() != answers.Load() {
		t.Errorf("%d calls were run, %d answered", ran.Load(), answers.Load())
	}
}

func TestADrainFinishesWhatRunsAndRefusesTheRest(t *testing.T) {
	slow := newBlocking()
	server, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	client := dialReady(t, ClientConfig{Address: address, PollEvery: 5 * time.Millisecond})
	result := make(chan error, 1)
	var answer functions.Answer
	go func() { result <- client.Run(newCall([]byte("last")), &answer) }()
	<-slow.started
	ended := make(chan error, 1)
	go func() { ended <- server.Shutdown(context.Background()) }()
	eventually(t, "the client sees it", func() bool { return client.Ready() != nil })
	for end := time.Now().Add(5 * backlogTime); time.Now().Before(end); { // as long as the call runs
		load, err := FetchLoad(t.Context(), address, "")
		if err != nil || !load.Draining || load.Functions[0].Slots != 0 || load.Functions[0].Busy != 1 {
			t.Fatalf("load %+v, %v", load, err)
		}
	}
	if offers := client.Functions(); len(offers) != 1 || offers[0].Slots != 0 {
		t.Errorf("offers %+v, want no slots", offers)
	}
	if status := get(t, address, "/readyz", ""); status != 503 {
		t.Errorf("readyz: %d", status)
	}
	late := newUnpolled(t, address) // does not know yet
	wantKind(t, late.Run(newCall(make([]byte, 100<<10)), new(functions.Answer)), problem.Overloaded)
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned before the call: %v", err)
	default:
	}
	close(slow.release)
	if err := <-result; err != nil || string(answer.Body) != "last" {
		t.Errorf("the running call: %q, %v", answer.Body, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	slow := newBlocking()
	server, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	client := dialReady(t, ClientConfig{Address: address})
	result := make(chan error, 1)
	go func() { result <- client.Run(newCall(nil), new(functions.Answer)) }()
	<-slow.started
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); err == nil {
		t.Error("Shutdown cut a call and did not say so")
	}
	wantKind(t, <-result, problem.WorkerLost)
	close(slow.release)
}

func TestAConnectionTooManyIsTold(t *testing.T) {
	_, address := serve(t, ServerConfig{Runner: newRunner(echo), MaxConnections: 1})
	first, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_ = second.SetDeadline(time.Now().Add(10 * time.Second))
	said, err := io.ReadAll(second)
	if err != nil || !strings.Contains(string(said), "Lightcone-Outcome: refused\r\n") {
		t.Errorf("it was told %q, %v", said, err)
	}
}
