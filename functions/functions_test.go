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
			server := &http.Server{Handler: &adapter{}}
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
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
