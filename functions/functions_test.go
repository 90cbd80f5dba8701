package functions

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

func answer(t *testing.T, handle Handler, request *http.Request) *http.Response {
	t.Helper()
	recorder := httptest.NewRecorder()
	(&adapter{handle: handle}).ServeHTTP(recorder, request)
	return recorder.Result()
}

func TestTheHelperSpeaksTheContract(t *testing.T) {
	deadline := time.Now().Add(time.Hour).UTC()
	handle := func(ctx context.Context, r *http.Request, body []byte) (Reply, error) {
		got, set := ctx.Deadline()
		if !set || !got.Equal(deadline) {
			t.Errorf("the context's deadline is %v (%v), not %v", got, set, deadline)
		}
		return Reply{ContentType: "text/x", Vary: "Accept", Body: fmt.Appendf(nil, "%s?%s", body, r.URL.RawQuery)}, nil
	}
	request := httptest.NewRequest(http.MethodPost, "/?a=b", strings.NewReader("input"))
	request.Header.Set(HeaderDeadline, deadline.Format(time.RFC3339Nano))
	response := answer(t, handle, request)
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 || string(body) != "input?a=b" || response.Header.Get("Content-Type") != "text/x" || response.Header.Get("Vary") != "Accept" || response.ContentLength != int64(len(body)) {
		t.Errorf("got %d %v %q, %v", response.StatusCode, response.Header, body, err)
	}
}

func TestTheHelperNamesProblems(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		kind   problem.Kind
		detail string
	}{
		{"its input's fault", problem.New(problem.CorruptInput, "Cut short."), problem.CorruptInput, "Cut short."},
		{"wrapped", fmt.Errorf("decode: %w", problem.New(problem.TooManyPixels, "Too many.")), problem.TooManyPixels, "Too many."},
		{"its own fault", errors.New("open /secret"), problem.FunctionFailed, "The function failed inside."},
		{"not its to say", problem.New(problem.LimitReached, "Pay first."), problem.FunctionFailed, "The function failed inside."},
	} {
		t.Run(test.name, func(t *testing.T) {
			handle := func(context.Context, *http.Request, []byte) (Reply, error) { return Reply{}, test.err }
			response := answer(t, handle, httptest.NewRequest(http.MethodPost, "/", nil))
			body, err := io.ReadAll(response.Body)
			if got := problem.Kind(response.Header.Get(HeaderProblem)); err != nil || got != test.kind || string(body) != test.detail {
				t.Errorf("got %s %q, %v", got, body, err)
			}
		})
	}
}

func TestTheHelperKeepsNothingOfALongerInput(t *testing.T) {
	a := &adapter{handle: func(_ context.Context, _ *http.Request, body []byte) (Reply, error) { return Reply{Body: body}, nil }}
	for _, input := range []string{strings.Repeat("long ", 100), "short", ""} {
		recorder := httptest.NewRecorder()
		a.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(input)))
		if got := recorder.Body.String(); got != input {
			t.Errorf("%q became %q", input, got)
		}
	}
}

func TestServeListensWhereItIsTold(t *testing.T) {
	for _, test := range []struct{ name, variable, value, network, address string }{
		{"socket", EnvSocket, filepath.Join(t.TempDir(), "s"), "unix", ""},
		{"port", EnvPort, freePort(t), "tcp", "127.0.0.1:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(EnvSocket, "")
			t.Setenv(EnvPort, "")
			t.Setenv(test.variable, test.value)
			listener, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			server := newServer(nil)
			served := make(chan error, 1)
			go func() { served <- server.Serve(wholeAnswers{listener}) }()
			conn, err := net.Dial(test.network, test.address+test.value)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: f\r\n\r\n", HealthPath)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("health: %v, %v", response, err)
			}
			_ = conn.Close()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			<-served
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		t.Setenv(EnvSocket, "")
		t.Setenv(EnvPort, "")
		if err := Serve(nil); err == nil || !strings.Contains(err.Error(), EnvSocket) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Run("a folder that is not there", func(t *testing.T) {
		t.Setenv(EnvSocket, filepath.Join(os.TempDir(), "nowhere", "s"))
		if err := Serve(nil); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("Serve: %v", err)
		}
	})
}

// One connection, many answers, of lengths around every buffer on the way.
func TestAnswersOfAnyLengthArriveWhole(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	counted := &countedListener{Listener: listener}
	server := newServer(func(_ context.Context, _ *http.Request, body []byte) (Reply, error) { return Reply{Body: body}, nil })
	served := make(chan error, 1)
	go func() { served <- server.Serve(wholeAnswers{counted}) }()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	for _, length := range []int{0, 1, 100, 4000, 4096, 8192, 100_000, wholeAnswerLimit, wholeAnswerLimit + 1, 3 * wholeAnswerLimit, 5} {
		before := counted.writes.Load()
		input := strings.Repeat("x", length)
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: f\r\nContent-Length: %d\r\n\r\n%s", length, input)
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		output, err := io.ReadAll(response.Body)
		if err != nil || string(output) != input {
			t.Fatalf("of %d bytes, %d came back: %v", length, len(output), err)
		}
		if writes := counted.writes.Load() - before; length < wholeAnswerLimit/2 && writes != 1 {
			t.Errorf("an answer of %d bytes took %d writes", length, writes)
		}
	}
	_ = conn.Close()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	<-served
}

// countedListener counts the writes on its connections.
type countedListener struct {
	net.Listener
	writes atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countedConn{conn, &l.writes}, err
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestSpecValidate(t *testing.T) {
	good := Spec{
		Name: "resize", Command: []string{"/bin/resize"}, MemoryBytes: 64 << 20,
		DefaultTimeout: time.Second, MaxTimeout: time.Minute, MaxBodyBytes: 1,
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		want  string
		spoil func(*Spec)
	}{
		{"lower-case", func(s *Spec) { s.Name = lightcone.FunctionName("Resize") }},
		{"absolute path", func(s *Spec) { s.Command = nil }},
		{"absolute path", func(s *Spec) { s.Command = []string{"resize"} }},
		{"32 MiB", func(s *Spec) { s.MemoryBytes = 1 << 20 }},
		{"timeouts", func(s *Spec) { s.DefaultTimeout = 0 }},
		{"timeouts", func(s *Spec) { s.MaxTimeout = time.Millisecond }},
		{"input limit", func(s *Spec) { s.MaxBodyBytes = 0 }},
		{"recycling", func(s *Spec) { s.RecycleAfterCalls = -1 }},
	} {
		spoiled := good
		test.spoil(&spoiled)
		if err := spoiled.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want %q, got %v", test.want, err)
		}
	}
}
