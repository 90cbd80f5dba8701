package wire

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// blackHole forwards connections to target until swallow is called: then bytes
// disappear on the way, and nothing is ever closed. Without a target it starts
// that way.
func blackHole(t *testing.T, target string) (address string, swallow func(bool)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var gone atomic.Bool
	gone.Store(target == "")
	var mu sync.Mutex
	open := []io.Closer{listener}
	var all sync.WaitGroup
	forward := func(from, to net.Conn) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil && !gone.Load() && to != nil {
				_ = to.Close() // the test's end closes it otherwise
			}
			if err != nil {
				return
			}
			if !gone.Load() && to != nil {
				_, _ = to.Write(buffer[:n]) // the next read says so
			}
		}
	}
	all.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			var out net.Conn
			if target != "" {
				if out, err = net.Dial("tcp", target); err != nil {
					t.Error(err)
					return
				}
			}
			mu.Lock()
			open = append(open, in)
			if out != nil {
				open = append(open, out)
				all.Go(func() { forward(out, in) })
			}
			mu.Unlock()
			all.Go(func() { forward(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return listener.Addr().String(), gone.Store
}

func TestABlackHoleCostsASecondAndNotADeadline(t *testing.T) {
	slow := newBlocking()
	_, worker := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	address, swallow := blackHole(t, worker)
	const lostAfter = 400 * time.Millisecond
	client := dialReady(t, ClientConfig{Address: address, PollEvery: 50 * time.Millisecond, PollTimeout: 100 * time.Millisecond, LostAfter: lostAfter})
	bodies := [][]byte{bytes.Repeat([]byte("a"), 256<<10), bytes.Repeat([]byte("b"), 10), nil}
	results := make(chan error)
	for _, body := range bodies {
		go func() {
			err := client.Run(newCall(body), new(functions.Answer))
			for i := range body { // the race detector sees whoever still reads it
				body[i] = 0
			}
			results <- err
		}()
	}
	for range bodies {
		<-slow.started
	}
	swallow(true)
	began := time.Now()
	for range bodies {
		wantKind(t, <-results, problem.WorkerLost)
	}
	if took := time.Since(began); took > lostAfter+3*time.Second || took < lostAfter/4 {
		t.Errorf("it took %v, want about %v", took, lostAfter)
	}
	if client.Ready() == nil || client.Functions()[0].Slots != 0 {
		t.Errorf("a lost worker: ready %v, offers %v", client.Ready(), client.Functions())
	}
	began = time.Now()
	wantKind(t, client.Run(newCall(nil), new(functions.Answer)), problem.Overloaded)
	if took := time.Since(began); took > time.Second {
		t.Errorf("a call to a lost worker took %v, want an answer at once", took)
	}
	close(slow.release)
	swallow(false)
	eventually(t, "the worker is found again", func() bool { return client.Ready() == nil })
	if err := client.Run(newCall(nil), new(functions.Answer)); err != nil {
		t.Errorf("after the loss: %v", err)
	}
}

// TestAWorkerThatAnswersIsNotLost though its load does not come.
func TestAWorkerThatAnswersIsNotLost(t *testing.T) {
	worker := newRunner(echo)
	hold := make(chan struct{})
	var held atomic.Bool
	worker.ready = func() error {
		if held.Load() {
			<-hold
		}
		return nil
	}
	_, address := serve(t, ServerConfig{Runner: worker})
	defer close(hold)
	const lostAfter = time.Second
	client := dialReady(t, ClientConfig{Address: address, PollEvery: 10 * time.Millisecond, PollTimeout: 2 * lostAfter, LostAfter: lostAfter})
	held.Store(true)
	for end := time.Now().Add(2 * lostAfter); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := client.Run(newCall(nil), new(functions.Answer)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it is lost without calls", func() bool { return client.Ready() != nil })
}

// TestABodyStuckOnItsWayWasNotRun: what the kernel still holds, the worker
// cannot have started.
func TestABodyStuckOnItsWayWasNotRun(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client := newUnpolled(t, listener.Addr().String())
	began := make(chan net.Conn, 1)
	go func() {
		conn, _ := listener.Accept()
		_, _ = conn.Read(make([]byte, 1)) // the call has begun to arrive, and nobody reads on
		began <- conn
	}()
	result := make(chan error, 1)
	go func() { result <- client.Run(newCall(make([]byte, 64<<20)), new(functions.Answer)) }()
	conn := <-began
	defer conn.Close()
	client.sawNothing(io.EOF, true)
	wantKind(t, <-result, problem.Overloaded)
}

// newUnpolled is a client whose worker's load the test decides.
func newUnpolled(t *testing.T, address string) *Client {
	client := Dial(ClientConfig{Address: "127.0.0.1:1", PollEvery: time.Hour})
	eventually(t, "the only look has failed", func() bool {
		client.mu.Lock()
		defer client.mu.Unlock()
		return client.missed != nil
	})
	client.config.Address = address
	client.saw(Load{Functions: []FunctionLoad{{Name: "echo", Slots: 1}}}, time.Now())
	t.Cleanup(client.Close)
	return client
}

func TestAKilledWorker(t *testing.T) {
	slow := newBlocking()
	server, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	client := dialReady(t, ClientConfig{Address: address})
	result := make(chan error, 1)
	go func() { result <- client.Run(newCall([]byte("x")), new(functions.Answer)) }()
	<-slow.started
	server.mu.Lock()
	for listener := range server.listeners {
		finishAccepting(listener) // as the kernel does with a dead process's
	}
	server.closing = true
	for conn := range server.connections {
		_ = conn.Conn.Close()
	}
	server.mu.Unlock()
	wantKind(t, <-result, problem.WorkerLost)
	server.accepting.Wait()
	wantKind(t, client.Run(newCall(nil), new(functions.Answer)), problem.Overloaded) // refused by the kernel
	close(slow.release)
}

func TestAnIdleConnectionThatTheWorkerClosed(t *testing.T) {
	_, address := serve(t, ServerConfig{IdleTimeout: 5 * time.Millisecond, Runner: newRunner(echo)})
	client := newUnpolled(t, address)
	for range 30 {
		if err := client.Run(newCall([]byte("x")), new(functions.Answer)); err != nil {
			t.Fatal(err)
		}
		client.mu.Lock()
		conn := client.idle[0].Conn
		client.mu.Unlock()
		eventually(t, "the worker has closed the connection", func() bool { return !isQuiet(conn) })
	}
}

func TestCloseCutsWhatIsInFlight(t *testing.T) {
	slow := newBlocking()
	_, address := serve(t, ServerConfig{Runner: newRunner(slow.run)})
	defer close(slow.release)
	client := dialReady(t, ClientConfig{Address: address})
	results := make(chan error, 5)
	for range 5 {
		go func() { results <- client.Run(newCall(nil), new(functions.Answer)) }()
	}
	for range 5 {
		<-slow.started
	}
	client.Close()
	for range 5 {
		select {
		case err := <-results:
			wantKind(t, err, problem.WorkerLost)
		case <-time.After(5 * time.Second):
			t.Fatal("Close returned before its calls")
		}
	}
	wantKind(t, client.Run(newCall(nil), new(functions.Answer)), problem.Overloaded)
	client.Close()
}
