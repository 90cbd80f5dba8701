package wire

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		os.Exit(m.Run()) // the reference leaves fasthttp's own goroutines behind
	}
	goleak.VerifyTestMain(m)
}

const testKey = "fleet-key"

// runner is a Runner made of functions.
type runner struct {
	run   func(*functions.Call, *functions.Answer) error
	ready func() error // nil = it is

	mu     sync.Mutex
	offers []functions.Offer
}

func (r *runner) Run(call *functions.Call, answer *functions.Answer) error {
	return r.run(call, answer)
}
func (r *runner) Functions() []functions.Offer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.offers)
}

// limit sets the longest body that the only function takes.
func (r *runner) limit(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offers[0].Spec.MaxBodyBytes = bytes
}
func (r *runner) Ready() error {
	if r.ready == nil {
		return nil
	}
	return r.ready()
}

func offer(name lightcone.FunctionName, slots int) functions.Offer {
	return functions.Offer{Slots: slots, Spec: functions.Spec{
		Name: name, DefaultTimeout: 5 * time.Second, MaxTimeout: 20 * time.Second, MaxBodyBytes: 8 << 20,
	}}
}

// echo answers with the call's body.
func echo(call *functions.Call, answer *functions.Answer) error {
	answer.Status, answer.ContentType = 200, string(call.ContentType)
	answer.Body = append(answer.Body[:0], call.Body...)
	return nil
}

func newRunner(run func(*functions.Call, *functions.Answer) error) *runner {
	return &runner{run: run, offers: []functions.Offer{offer("echo", 8)}}
}

// serve starts a server that the test's end stops.
func serve(t testing.TB, config ServerConfig) (*Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.DrainNotice == 0 {
		config.DrainNotice = time.Millisecond
	}
	server := NewServer(config)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return server, listener.Addr().String()
}

// dialReady dials and waits until the worker has been heard of.
func dialReady(t testing.TB, config ClientConfig) *Client {
	t.Helper()
	if config.LostAfter == 0 {
		config.LostAfter = 20 * time.Second // a test machine may be too busy for the default
	}
	client := Dial(config)
	t.Cleanup(client.Close)
	eventually(t, "the client is ready", func() bool { return client.Ready() == nil })
	return client
}

// eventually waits for a condition, for ten seconds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within ten seconds", what)
		}
	}
}

type randomness struct{}

func (randomness) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return len(p), nil
}

func newCall(body []byte) *functions.Call {
	id, err := lightcone.NewCallID(time.Now(), randomness{})
	if err != nil {
		panic(err)
	}
	return &functions.Call{ID: id, Function: "echo", Tenant: "acme", Deadline: time.Now().Add(10 * time.Second), Body: body}
}

// wantKind fails the test unless err is a problem of the kind.
func wantKind(t testing.TB, err error, kind problem.Kind) *problem.Error {
	t.Helper()
	var found *problem.Error
	if !errors.As(err, &found) || found.Kind != kind {
		t.Fatalf("error %v, want the kind %s", err, kind)
	}
	return found
}

// blocking is a runner's function that runs until released.
type blocking struct {
	started chan *functions.Call
	release chan struct{}
}

func newBlocking() *blocking {
	return &blocking{started: make(chan *functions.Call, 1000), release: make(chan struct{})}
}

func (b *blocking) run(call *functions.Call, answer *functions.Answer) error {
	b.started <- call
	<-b.release
	return echo(call, answer)
}
