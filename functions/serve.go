package functions

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"lightcone/internal/problem"
)

// Handler answers one call: body is its whole input, valid until Handler
// returns. Returning a *problem.Error of a kind that FunctionMay blame tells the
// caller why; any other error is the function's own failure.
type Handler func(ctx context.Context, r *http.Request, body []byte) (Reply, error)

// Reply is a function's good answer. Its Status is 200.
type Reply struct {
	ContentType string
	Vary        string
	Body        []byte
}

// Serve runs a function: it listens where Lightcone says and answers calls with
// handle until the process is killed. It returns only on a failure to listen.
func Serve(handle Handler) error {
	listener, err := listen()
	if err != nil {
		return err
	}
	return fmt.Errorf("function: serve: %w", newServer(handle).Serve(wholeAnswers{listener}))
}

// newServer has no timeouts: the supervisor is its only client, and holds the
// process's life.
func newServer(handle Handler) *http.Server {
	return &http.Server{
		Handler: &adapter{handle: handle},
		ConnState: func(conn net.Conn, state http.ConnState) {
			if state == http.StateIdle { // the answer is complete
				conn.(*wholeAnswer).flush()
			}
		},
	}
}

func listen() (net.Listener, error) {
	if path := os.Getenv(EnvSocket); path != "" {
		listener, err := net.Listen("unix", path)
		if err != nil {
			return nil, fmt.Errorf("function: listen on %s=%s: %w", EnvSocket, path, err)
		}
		return listener, nil
	}
	if port := os.Getenv(EnvPort); port != "" {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return nil, fmt.Errorf("function: listen on %s=%s: %w", EnvPort, port, err)
		}
		return listener, nil
	}
	return nil, fmt.Errorf("function: neither %s nor %s is set: this program is started by `lightcone`, or set one to try it by hand", EnvSocket, EnvPort)
}

// adapter speaks the contract's HTTP around a Handler. One call at a time is
// the contract, so one buffer serves all calls.
type adapter struct {
	handle Handler
	input  []byte
}

func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == HealthPath {
		w.WriteHeader(http.StatusOK)
		return
	}
	ctx := r.Context()
	if text := r.Header.Get(HeaderDeadline); text != "" {
		deadline, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			refuse(w, problem.New(problem.FunctionFailed, "The deadline header %q is not a time.", text))
			return
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	var err error
	if a.input, err = readAll(a.input[:0], r); err != nil {
		refuse(w, problem.New(problem.FunctionFailed, "The call's input could not be read.").Because(err))
		return
	}
	reply, err := a.handle(ctx, r, a.input)
	if err != nil {
		refuse(w, err)
		return
	}
	if reply.ContentType != "" {
		w.Header().Set("Content-Type", reply.ContentType)
	}
	if reply.Vary != "" {
		w.Header().Set("Vary", reply.Vary)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(reply.Body)))
	_, _ = w.Write(reply.Body) // a supervisor that is gone has killed this process too
}

// readAll reads the body into buffer, growing it to the announced length at once.
func readAll(buffer []byte, r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 {
		if int64(cap(buffer)) < n {
			buffer = make([]byte, 0, n)
		}
		buffer = buffer[:n]
		_, err := io.ReadFull(r.Body, buffer)
		return buffer, err
	}
	return io.ReadAll(r.Body)
}

func refuse(w http.ResponseWriter, err error) {
	found := problem.Of(err)
	if !FunctionMay(found.Kind) {
		slog.Error("call failed", "error", err)
		found = problem.New(problem.FunctionFailed, "The function failed inside.")
	}
	w.Header().Set(HeaderProblem, string(found.Kind))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError) // the kind is what counts: the gateway picks the status
	_, _ = io.WriteString(w, found.Detail)
}
