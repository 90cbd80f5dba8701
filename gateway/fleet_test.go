package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// remote is a fleet test's worker: it stands for one on another machine, which
// takes as many calls at once as it has slots and refuses the rest, whoever sends
// them, and which says how busy it is only when it is polled.
type remote struct {
	worker
	slots    int64
	trip     time.Duration // of a call to it, and of an answer back
	running  atomic.Int64
	tries    atomic.Int64
	most     atomic.Int64 // calls at once
	reported atomic.Int64
}

// newRemote offers echo with as many slots; run answers the calls it takes.
func newRemote(slots int, trip time.Duration, run func(*functions.Call, *functions.Answer) error) *remote {
	r := &remote{slots: int64(slots), trip: trip}
	r.offer(echoOffer(slots))
	r.run = func(call *functions.Call, answer *functions.Answer) error {
		r.tries.Add(1)
		time.Sleep(r.trip)
		defer time.Sleep(r.trip)
		defer r.running.Add(-1)
		now := r.running.Add(1)
		if now > r.slots {
			return problem.New(problem.Overloaded, "All slots are taken.")
		}
		r.most.Store(max(r.most.Load(), now))
		return run(call, answer)
	}
	return r
}

// Busy is what the worker last reported.
func (r *remote) Busy(lightcone.FunctionName) int { return int(r.reported.Load()) }

func (r *remote) poll() { r.reported.Store(min(r.running.Load(), r.slots)) }

func newTestFleet(t testing.TB, registry *prometheus.Registry, members []Member, declared ...Declared) *Fleet {
	t.Helper()
	f, err := NewFleet(FleetConfig{Declared: declared, Registerer: registry, Random: rand.New(rand.NewPCG(1, 2)).Uint64, RoomWait: -1})
	if err != nil {
		t.Fatal(err)
	}
	f.Follow(members)
	return f
}

func newTestGateway(t testing.TB, w Worker, registry *prometheus.Registry) *Gateway {
	t.Helper()
	g, err := New(DefaultConfig(), w, keys{}, registry, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// script is a fleet test's worker that answers as it is told, and remembers who called.
type script struct {
	worker
	err   error // nil = echo
	calls atomic.Int64
}

func newScript(slots int, err error) *script {
	s := &script{err: err}
	s.offer(echoOffer(slots))
	s.run = func(call *functions.Call, answer *functions.Answer) error {
		s.calls.Add(1)
		if s.err != nil {
			answer.Body = append(answer.Body, "half an answer"...)
			answer.CPU, answer.Exec = time.Second, time.Second
			return s.err
		}
		answer.Body = append(answer.Body, call.Body...)
		answer.Status = http.StatusOK
		return nil
	}
	return s
}

// unready makes the worker not ready, or ready again.
func (s *script) unready(sentence string) {
	err := errors.New(sentence)
	if sentence == "" {
		s.ready.Store(nil)
	} else {
		s.ready.Store(&err)
	}
}

func membersOf(scripts ...*script) []Member {
	members := make([]Member, len(scripts))
	for i, s := range scripts {
		members[i] = Member{ID: fmt.Sprint("w", i), Worker: s}
	}
	return members
}

func newCall(left time.Duration) *functions.Call {
	return &functions.Call{Function: "echo", Body: []byte("input"), Deadline: time.Now().Add(left)}
}

var (
	errFull    = problem.New(problem.Overloaded, "All slots are taken.")
	errUnknown = problem.New(problem.NotFound, "There is no such function here any more.")
	errGone    = problem.New(problem.WorkerLost, "The connection broke.")
	errCrash   = problem.New(problem.FunctionCrashed, "It crashed.")
)

// TestFleetTriesOthers has one to three workers in a row fail a call.
func TestFleetTriesOthers(t *testing.T) {
	for _, test := range []struct {
		name    string
		workers []error
		left    time.Duration
		want    problem.Kind // "" = an answer
		tries   int64        // -1 = any number
	}{
		{"one answers", []error{nil}, time.Second, "", 1},
		{"no worker at all", nil, time.Second, problem.Overloaded, 0},
		{"two are full", []error{errFull, nil, errFull}, time.Second, "", -1},
		{"one has stopped offering the function", []error{errUnknown, nil}, time.Second, "", -1},
		{"all are full", []error{errFull, errFull, errFull}, time.Second, problem.Overloaded, 3},
		{"all are full and the deadline is near", []error{errFull, errFull, errFull}, time.Millisecond, problem.Overloaded, 1},
		{"one is lost", []error{errGone, nil}, time.Second, "", -1},
		{"the only one is lost", []error{errGone}, time.Second, problem.WorkerLost, 1},
		{"all are lost", []error{errGone, errGone, errGone}, time.Second, problem.WorkerLost, 2},
		{"lost near the deadline", []error{errGone, errGone}, time.Millisecond, problem.WorkerLost, 1},
		{"some lost, the others full", []error{errGone, errFull, errGone}, time.Second, problem.WorkerLost, -1},
		{"the function's own failure", []error{errCrash, errCrash}, time.Second, problem.FunctionCrashed, 1},
		{"an error without a kind", []error{io.EOF, io.EOF}, time.Second, problem.Internal, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(20) { // in another order each time
				var scripts []*script
				for _, err := range test.workers {
					scripts = append(scripts, newScript(2, err))
				}
				f, err := NewFleet(FleetConfig{Registerer: prometheus.NewRegistry(), Random: rand.New(rand.NewPCG(seed, 0)).Uint64, RoomWait: -1})
				if err != nil {
					t.Fatal(err)
				}
				f.Follow(membersOf(scripts...))
				answer := functions.Answer{Body: make([]byte, 0, 100)}
				err = f.Run(newCall(test.left), &answer)
				tries := int64(0)
				for i, s := range scripts {
					tries += s.calls.Load()
					if s.calls.Load() > 1 {
						t.Errorf("worker %d was asked %d times for one call", i, s.calls.Load())
					}
				}
				if test.tries >= 0 && tries != test.tries {
					t.Errorf("%d tries, want %d", tries, test.tries)
				}
				switch {
				case test.want == "" && (err != nil || answer.Status != 200 || string(answer.Body) != "input" || answer.CPU != 0 || answer.Exec != 0):
					t.Errorf("got %+v, %v", answer, err)
				case test.want != "" && (err == nil || problem.Of(err).Kind != test.want):
					t.Errorf("got %v, want %s", err, test.want)
				}
				checkSettled(t, f)
			}
		})
	}
}

// checkSettled checks that the fleet counts no call in flight any more.
func checkSettled(t testing.TB, f *Fleet) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		for name, l := range m.loads {
			if l.own != 0 {
				t.Errorf("member %s: %d calls of %s are still counted", m.id, l.own, name)
			}
		}
	}
}

func TestFleetWithoutAReadyWorkerSaysWhenToComeBack(t *testing.T) {
	f := newTestFleet(t, prometheus.NewRegistry(), nil, Declared{Spec: echoOffer(0).Spec})
	err := problem.Of(f.Run(newCall(time.Second), &functions.Answer{}))
	if err.Kind != problem.Overloaded || err.RetryAfter != time.Second {
		t.Errorf("no worker: %v after %v", err, err.RetryAfter)
	}
	full := newScript(1, errFull)
	f.Follow(membersOf(full))
	if err := problem.Of(f.Run(newCall(time.Second), &functions.Answer{})); err.Kind != problem.Overloaded || err.RetryAfter != 0 {
		t.Errorf("a full worker: %v after %v", err, err.RetryAfter)
	}
}

// TestFleetAsksFewWhenAllAreThoughtFull: a full fleet is not asked through by each call.
func TestFleetAsksFewWhenAllAreThoughtFull(t *testing.T) {
	var members []Member
	var asked atomic.Int64
	for i := range 10 {
		r := newRemote(2, 0, nil)
		r.run = func(*functions.Call, *functions.Answer) error {
			asked.Add(1)
			return errFull
		}
		r.reported.Store(2)
		members = append(members, Member{fmt.Sprint("w", i), r})
	}
	f := newTestFleet(t, prometheus.NewRegistry(), members)
	if err := f.Run(newCall(time.Minute), &functions.Answer{}); problem.Of(err).Kind != problem.Overloaded || asked.Load() != hopefulTries {
		t.Errorf("%d of 10 were asked, and said %v", asked.Load(), err)
	}
}

// TestRetryBudgetBoundsRetries loses every call: ten may be retried, and then one in ten.
func TestRetryBudgetBoundsRetries(t *testing.T) {
	registry := prometheus.NewRegistry()
	a, b := newScript(1, errGone), newScript(1, errGone)
	f := newTestFleet(t, registry, membersOf(a, b))
	const calls = 1000
	for range calls {
		if err := f.Run(newCall(time.Second), &functions.Answer{}); problem.Of(err).Kind != problem.WorkerLost {
			t.Fatal(err)
		}
	}
	retried := a.calls.Load() + b.calls.Load() - calls
	if retried < 105 || retried > 111 {
		t.Errorf("%d of %d lost calls were retried, want 110", retried, calls)
	}
	for name, want := range map[string]int64{
		"lightcone_gateway_fleet_retries_total":        retried,
		"lightcone_gateway_fleet_retries_denied_total": calls - retried,
	} {
		if got := gathered(t, registry, name, nil); got != float64(want) {
			t.Errorf("%s is %v, want %d", name, got, want)
		}
	}
	// What calm saves up is bounded.
	a.err, b.err = nil, nil
	for range 10_000 {
		f.retries.Deposit()
	}
	saved := 0
	for f.retries.Withdraw() {
		saved++
	}
	if saved != mostRetries {
		t.Errorf("%d retries were saved up, want %d", saved, mostRetries)
	}
}

// TestFleetFollows changes the set while a call runs.
func TestFleetFollows(t *testing.T) {
	gate := make(chan struct{})
	held := newScript(2, nil)
	run := held.run
	held.run = func(call *functions.Call, answer *functions.Answer) error {
		<-gate
		return run(call, answer)
	}
	f := newTestFleet(t, prometheus.NewRegistry(), []Member{{"held", held}, {"held", newScript(9, errCrash)}})
	own := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.members[0].loads["echo"].own
	}
	ended := make(chan error)
	go func() { ended <- f.Run(newCall(time.Minute), &functions.Answer{}) }()
	eventually(t, "the call is counted", func() bool { return own() == 1 })
	again := newScript(2, nil)
	f.Follow([]Member{{"held", again}})
	if own() != 1 {
		t.Error("a member that stayed lost count of its call")
	}
	f.Follow(membersOf(newScript(3, nil)))
	if own() != 0 {
		t.Error("a new member starts with a call")
	}
	close(gate)
	if err := <-ended; err != nil {
		t.Errorf("the call on a member that was removed: %v", err)
	}
	if err := f.Run(newCall(time.Second), &functions.Answer{}); err != nil || again.calls.Load() != 0 {
		t.Errorf("after the change: %v, %d calls on a removed member", err, again.calls.Load())
	}
	checkSettled(t, f)
}

func TestFleetCountsACallThatPanicked(t *testing.T) {
	s := newScript(1, nil)
	s.run = func(*functions.Call, *functions.Answer) error { panic("a bug") }
	f := newTestFleet(t, prometheus.NewRegistry(), membersOf(s))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = f.Run(newCall(time.Second), &functions.Answer{})
	}()
	checkSettled(t, f)
}
