package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestMain(m *testing.M) {
	becomeMortalIfAsked()
	// fasthttp keeps one clock for all servers of a process, for ever.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

const patience = 10 * time.Second // how long a test waits for what must happen

const testKey = "a-good-key"

// keys is a test's Callers: one key that opens everything but the function "forbidden".
type keys struct{}

func (keys) Authorize(presented []byte, function lightcone.FunctionName) (lightcone.TenantID, lightcone.Quota, error) {
	switch {
	case string(presented) != testKey:
		return "", lightcone.Quota{}, problem.New(problem.Unauthenticated, "No key.")
	case function == "forbidden":
		return "", lightcone.Quota{}, problem.New(problem.Forbidden, "Not the function %q.", function)
	}
	return "demo", lightcone.Unlimited, nil
}

func (k keys) Identify(presented []byte) (lightcone.TenantID, error) {
	tenant, _, err := k.Authorize(presented, "")
	return tenant, err
}

// worker is a test's Worker: run answers the calls.
type worker struct {
	run    func(call *functions.Call, answer *functions.Answer) error
	offers atomic.Pointer[[]functions.Offer]
	ready  atomic.Pointer[error]
}

func (w *worker) Run(call *functions.Call, answer *functions.Answer) error {
	return w.run(call, answer)
}
func (w *worker) Functions() []functions.Offer { return *w.offers.Load() }
func (w *worker) Ready() error {
	if err := w.ready.Load(); err != nil {
		return *err
	}
	return nil
}

// offer says what the worker offers from now on.
func (w *worker) offer(offers ...functions.Offer) { w.offers.Store(&offers) }

func echoOffer(slots int) functions.Offer {
	return functions.Offer{Slots: slots, Spec: functions.Spec{
		Name:           "echo",
		DefaultTimeout: 5 * time.Second,
		MaxTimeout:     20 * time.Second,
		MaxBodyBytes:   20 << 20,
	}}
}

// echo answers with the call's body.
func echo(call *functions.Call, answer *functions.Answer) error {
	answer.Status = http.StatusOK
	answer.ContentType = string(call.ContentType)
	answer.Body = append(answer.Body[:0], call.Body...)
	answer.CPU, answer.Exec = 1500*time.Microsecond, 2*time.Millisecond
	return nil
}

// served is a gateway on a loopback listener.
type served struct {
	*Gateway
	address  string
	worker   *worker
	registry *prometheus.Registry
	client   *http.Client
	ended    chan error // Serve's result
	once     sync.Once
}

// serve starts a gateway in front of run, with as many slots, and stops it at
// the test's end. change may be nil.
func serve(t testing.TB, slots int, run func(*functions.Call, *functions.Answer) error, change func(*Config)) *served {
	t.Helper()
	w := &worker{run: run}
	w.offer(echoOffer(slots))
	s := serveWorker(t, w, prometheus.NewRegistry(), change)
	s.worker = w
	return s
}

// serveWorker is serve in front of any Worker; the result's own is nil.
func serveWorker(t testing.TB, w Worker, registry *prometheus.Registry, change func(*Config)) *served {
	t.Helper()
	return serveCallers(t, w, keys{}, registry, change)
}

// serveCallers is serveWorker for callers of the test's own.
func serveCallers(t testing.TB, w Worker, callers Callers, registry *prometheus.Registry, change func(*Config)) *served {
	t.Helper()
	config := DefaultConfig()
	if change != nil {
		change(&config)
	}
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	g, err := New(config, w, callers, registry, logger)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{
		Gateway:  g,
		address:  listener.Addr().String(),
		registry: registry,
		client:   &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
		ended:    make(chan error, 1),
	}
	go func() { s.ended <- g.Serve(listener) }()
	t.Cleanup(func() { s.stop(t) })
	return s
}

// stop shuts the gateway down and checks that nothing is left in it.
func (s *served) stop(t testing.TB) {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-s.ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		s.client.CloseIdleConnections()
		if used := s.budget.used.Load(); used != 0 {
			t.Errorf("%d bytes are still held after the last call", used)
		}
		if calls := s.inFlight.Load(); calls != 0 {
			t.Errorf("%d calls are still in flight after the last one", calls)
		}
		for _, lane := range *s.lanes.Load() {
			if now := lane.report(); now.Running != 0 || now.Waiting != 0 {
				t.Errorf("function %s: %d running and %d waiting after the last call", now.Name, now.Running, now.Waiting)
			}
		}
	})
}

// post calls the function echo. Header fields come in pairs.
func (s *served) post(t testing.TB, body io.Reader, header ...string) *reply {
	t.Helper()
	got, err := s.send("POST", "/function/echo", body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	closes bool
}

func (s *served) send(method, path string, body io.Reader, header ...string) (*reply, error) {
	request, err := http.NewRequest(method, "http://"+s.address+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+testKey)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	return readReply(response)
}

func readReply(response *http.Response) (*reply, error) {
	text, err := io.ReadAll(response.Body)
	return &reply{response.StatusCode, response.Header, string(text), response.Close}, errors.Join(err, response.Body.Close())
}

// raw is a connection on which a test says exactly what it wants.
type raw struct {
	net.Conn
	t      testing.TB
	reader *bufio.Reader
}

func (s *served) dial(t testing.TB) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &raw{conn, t, bufio.NewReader(conn)}
}

// say sends lines of text with CRLF for every newline, and KEY for the right
// Authorization header.
func (r *raw) say(text string) {
	r.t.Helper()
	text = strings.ReplaceAll(text, "KEY", "Host: test\nAuthorization: Bearer "+testKey)
	if _, err := io.WriteString(r, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

// hear reads one answer.
func (r *raw) hear() *reply {
	r.t.Helper()
	response, err := http.ReadResponse(r.reader, nil)
	if err != nil {
		r.t.Fatalf("read the answer: %v", err)
	}
	got, err := readReply(response)
	if err != nil {
		r.t.Fatalf("read the answer's body: %v", err)
	}
	return got
}

// hearEnd checks that the gateway closes the connection and sends nothing more.
func (r *raw) hearEnd() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.reader); err != nil || len(rest) > 0 {
		r.t.Errorf("before the connection's end: %q, %v", rest, err)
	}
}

// eventually waits until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so after %v: %s", patience, what)
		}
	}
}
