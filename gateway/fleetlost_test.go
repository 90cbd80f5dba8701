package gateway

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// mortal is a script that knows when it last gave a sign of life.
type mortal struct {
	*script
	heard time.Time
}

func (m *mortal) Heard() time.Time { return m.heard }

// TestLostCallGoesToWhoIsHeardOf: a rack takes two workers at once. The call that
// was lost with the first must not be sent to the second, whose loss does not show
// yet.
func TestLostCallGoesToWhoIsHeardOf(t *testing.T) {
	for seed := range uint64(50) {
		first, neighbour, alive := newScript(4, errGone), newScript(4, errGone), newScript(4, nil)
		now := time.Now()
		random := rand.New(rand.NewPCG(seed, seed))
		f, err := NewFleet(FleetConfig{Registerer: prometheus.NewRegistry(), Random: random.Uint64, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		f.Follow([]Member{
			{ID: "first", Worker: &mortal{first, now.Add(-time.Second)}},
			{ID: "neighbour", Worker: &mortal{neighbour, now.Add(-time.Second)}},
			{ID: "alive", Worker: &mortal{alive, now.Add(time.Millisecond)}},
		})
		var answer functions.Answer
		call := newCall(time.Minute)
		call.Deadline = now.Add(time.Minute)
		if err := f.Run(call, &answer); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if alive.calls.Load() != 1 || first.calls.Load()+neighbour.calls.Load() > 1 {
			t.Fatalf("seed %d: %d, %d and %d calls", seed, first.calls.Load(), neighbour.calls.Load(), alive.calls.Load())
		}
	}
}

// TestLostCallWaitsForRoom: the workers that are left are busy for a moment with
// the calls of those that are gone.
func TestLostCallWaitsForRoom(t *testing.T) {
	for _, test := range []struct {
		busyFor time.Duration
		want    problem.Kind
	}{{300 * time.Millisecond, ""}, {2 * time.Second, problem.WorkerLost}} {
		synctest.Test(t, func(t *testing.T) {
			dead, alive := newScript(1, errGone), newScript(1, nil)
			alive.run = func(*functions.Call, *functions.Answer) error {
				time.Sleep(test.busyFor)
				return nil
			}
			f, err := NewFleet(FleetConfig{Registerer: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			f.Follow([]Member{{ID: "alive", Worker: alive}})
			var busy sync.WaitGroup
			busy.Go(func() { _ = f.Run(newCall(time.Minute), &functions.Answer{}) })
			synctest.Wait() // its only slot is taken
			f.Follow([]Member{{ID: "alive", Worker: alive}, {ID: "dead", Worker: dead}})
			err = f.Run(newCall(time.Minute), &functions.Answer{})
			if test.want == "" && err != nil || test.want != "" && problem.Of(err).Kind != test.want {
				t.Errorf("busy for %v: %v", test.busyFor, err)
			}
			busy.Wait()
		})
	}
}

// TestLostCallIsRetriedThoughNobodyWasHeardOf: a connection that breaks at once
// says nothing of the others.
func TestLostCallIsRetriedThoughNobodyWasHeardOf(t *testing.T) {
	for seed := range uint64(50) {
		lost, gone, alive := newScript(4, errGone), newScript(4, errGone), newScript(4, nil)
		gone.unready("It is cut off.")
		past := time.Now().Add(-time.Second)
		f, err := NewFleet(FleetConfig{Registerer: prometheus.NewRegistry(), Random: rand.New(rand.NewPCG(seed, seed)).Uint64})
		if err != nil {
			t.Fatal(err)
		}
		f.Follow([]Member{{ID: "lost", Worker: &mortal{lost, past}}, {ID: "gone", Worker: &mortal{gone, past}}, {ID: "alive", Worker: &mortal{alive, past}}})
		var answer functions.Answer
		if err := f.Run(newCall(time.Minute), &answer); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if gone.calls.Load() > 0 {
			t.Fatalf("seed %d: a worker that is not ready was called", seed)
		}
	}
}

// TestTimeWithTheLostTeachesNothing: a second until a worker's loss shows is no
// second of work. If it counted as such, a few lost calls would have the queue
// expect that all calls take long, and refuse those that would have been quick.
func TestTimeWithTheLostTeachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dying, alive := newScript(8, nil), newScript(8, nil)
		dying.run = func(*functions.Call, *functions.Answer) error {
			time.Sleep(time.Second)
			return errGone
		}
		lostCalls, registry := 0, prometheus.NewRegistry()
		f := newTestFleet(t, registry, membersOf(dying, alive))
		g := newTestGateway(t, f, registry)
		l := (*g.lanes.Load())["echo"]
		for range 10 {
			c := callPool.Get().(*call)
			c.request, c.ticket.deadline = *newCall(time.Minute), time.Now().Add(time.Minute)
			if _, err := g.run(c, l); err != nil {
				t.Fatal(err)
			}
			if c.answer.Lost != 0 {
				lostCalls++
				if c.answer.Lost != time.Second {
					t.Errorf("%v were lost, want 1s", c.answer.Lost)
				}
			}
			c.finish()
		}
		dying.err, alive.run = errGone, dying.run // and once for good
		c := callPool.Get().(*call)
		c.request, c.ticket.deadline = *newCall(time.Minute), time.Now().Add(time.Minute)
		if _, err := g.run(c, l); problem.Of(err).Kind != problem.WorkerLost {
			t.Fatal(err)
		}
		if lostCalls == 0 || l.queue.service > g.config.InitialService {
			t.Errorf("after %d calls that a worker was lost with, calls are expected to take %v", lostCalls, l.queue.service)
		}
	})
}
