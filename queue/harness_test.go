package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// bed is a queue for tests: one node in this process, or three in processes of their own.
type bed struct {
	t       *testing.T
	node    *Node
	cluster *testCluster
	log     testbed.Log
}

// testLimits let tests see in seconds what takes hours.
var testLimits = Limits{MaxBytes: 96 << 20, BackOffBase: 50 * time.Millisecond, BackOffMost: 200 * time.Millisecond}

const aloneUser, alonePassword = "lightcone", "a password"

func oneNode(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t}
	logger := slog.New(slog.NewTextHandler(&b.log, nil))
	node, err := StartNode(NodeConfig{
		Seat: "0", Dir: filepath.Join(t.TempDir(), "node"), MaxStoreBytes: 1 << 30, Logger: logger,
		User: aloneUser, Password: alonePassword,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.node = node
	t.Cleanup(func() {
		if err := node.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		b.tell()
	})
	return b
}

func threeNodes(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t}
	t.Cleanup(b.tell)
	b.cluster = startCluster(t, 3)
	return b
}

func (b *bed) tell() {
	if b.t.Failed() {
		b.t.Logf("clients:\n%s", b.log.String())
	}
}

// onEach runs a test on one node and on three.
func onEach(t *testing.T, limits Limits, test func(*testing.T, *bed, *Client)) {
	t.Run("one node", func(t *testing.T) {
		b := oneNode(t)
		test(t, b, b.connect(limits))
	})
	t.Run("three nodes", func(t *testing.T) {
		b := threeNodes(t)
		test(t, b, b.connect(limits))
	})
}

// dial is a client that nobody has waited for, of those nodes or of all.
func (b *bed) dial(limits Limits, nodes ...int) *Client {
	b.t.Helper()
	conf := Config{Name: "test", Limits: limits, Logger: slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if b.node != nil {
		conf.InProcess, conf.User, conf.Password = b.node, aloneUser, alonePassword
	} else {
		first := b.cluster.nodes[0].config
		secured, err := ClientTLS(first.CA)
		if err != nil {
			b.t.Fatal(err)
		}
		conf.Servers, conf.User, conf.Password, conf.TLS, conf.Replicas = strings.Split(b.cluster.servers(nodes...), ","), first.User, first.Password, secured, 3
	}
	c, err := Connect(conf)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

// connect is a client that is ready.
func (b *bed) connect(limits Limits, nodes ...int) *Client {
	b.t.Helper()
	c := b.dial(limits, nodes...)
	eventually(b.t, "a ready client", func(context.Context) error { return c.Ready() })
	return c
}

// queued is a call of acme's to echo.
func queued(t *testing.T, body string) *functions.Queued {
	t.Helper()
	id, err := lightcone.NewCallID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &functions.Queued{
		Call:    functions.Call{ID: id, Function: "echo", Tenant: "acme", Query: []byte("a=b"), ContentType: []byte("text/plain"), Body: []byte(body)},
		Timeout: 20 * time.Second,
	}
}

func (b *bed) accept(c *Client, q *functions.Queued) lightcone.Invocation {
	b.t.Helper()
	got, err := c.Accept(b.t.Context(), q)
	if err != nil {
		b.t.Fatalf("accept: %v", err)
	}
	return got
}

// function is what a test's workers run.
type function func(ctx context.Context, call *functions.Call, answer *functions.Answer) error

func echo(_ context.Context, call *functions.Call, answer *functions.Answer) error {
	answer.Status, answer.ContentType, answer.Body = 200, string(call.ContentType), append([]byte(nil), call.Body...)
	return nil
}

// work lets c work until stop is called, or the test ends.
func (b *bed) work(c *Client, run function) (stop func()) {
	b.t.Helper()
	return b.workAs(c, WorkConfig{Function: "echo", AtOnce: 4, Room: func() bool { return true }, Run: run})
}

func (b *bed) workAs(c *Client, w WorkConfig) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Work(ctx, w) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("work: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// until awaits a status of the call.
func (b *bed) until(c *Client, id lightcone.CallID, want lightcone.InvocationStatus) lightcone.Invocation {
	b.t.Helper()
	var got lightcone.Invocation
	eventually(b.t, fmt.Sprintf("call %s %s", id, want), func(ctx context.Context) (err error) {
		if want.Final() {
			got, err = c.Await(ctx, "acme", id)
		} else {
			got, err = c.Find(ctx, "acme", id)
		}
		if err == nil && got.Status != want {
			err = fmt.Errorf("it is %s (%s)", got.Status, got.Error)
		}
		return err
	})
	return got
}

// wantKind checks an error's kind.
func wantKind(t *testing.T, err error, want problem.Kind) *problem.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", want)
	}
	found := problem.Of(err)
	if found.Kind != want {
		t.Fatalf("%v; want %s", err, want)
	}
	return found
}
