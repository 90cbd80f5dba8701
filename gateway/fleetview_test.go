package gateway

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestFleetConfigNamesTheBadField(t *testing.T) {
	echo := Declared{Spec: echoOffer(0).Spec}
	for part, change := range map[string]func(*FleetConfig){
		"RetryBudget": func(c *FleetConfig) { c.RetryBudget = 1.5 },
		"Registerer":  func(c *FleetConfig) { c.Registerer = nil },
		"twice":       func(c *FleetConfig) { c.Declared = append(c.Declared, echo) },
		"Bad":         func(c *FleetConfig) { c.Declared[0].Spec.Name = "Bad" },
		"timeouts":    func(c *FleetConfig) { c.Declared[0].Spec.MaxTimeout = 0 },
		"body":        func(c *FleetConfig) { c.Declared[0].Spec.MaxBodyBytes = 0 },
		"cold start":  func(c *FleetConfig) { c.Declared[0].ColdStart = -1 },
	} {
		config := FleetConfig{Declared: []Declared{echo}, Registerer: prometheus.NewRegistry()}
		if err := config.Validate(); err != nil {
			t.Errorf("before the change: %v", err)
		}
		change(&config)
		if _, err := NewFleet(config); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("a bad %s: got %v", part, err)
		}
	}
	registry := prometheus.NewRegistry()
	newTestFleet(t, registry, nil)
	if _, err := NewFleet(FleetConfig{Registerer: registry}); err == nil {
		t.Error("two fleets' metrics on one registry")
	}
}

// offered writes offers as name:slots/longest body, with the cold start.
func offered(offers []functions.Offer) string {
	var text []string
	for _, o := range offers {
		text = append(text, fmt.Sprintf("%s:%d/%d+%v", o.Spec.Name, o.Slots, o.Spec.MaxBodyBytes, o.ColdStart))
	}
	return strings.Join(text, " ")
}

func TestFleetOffersWhatItsMembersDo(t *testing.T) {
	offer := func(name string, slots, body int) functions.Offer {
		o := echoOffer(slots)
		o.Spec.Name, o.Spec.MaxBodyBytes = lightcone.FunctionName(name), int64(body)
		return o
	}
	a, b, c := newScript(0, nil), newScript(0, nil), newScript(0, nil)
	a.offer(offer("resize", 4, 1))
	b.offer(offer("resize", 3, 2), offer("echo", 1, 2))
	c.offer(offer("resize", 2, 3), offer("echo", 5, 3), offer("extra", 6, 3))
	a.unready("Its polls fail.")
	f := newTestFleet(t, prometheus.NewRegistry(), nil,
		Declared{Spec: offer("resize", 0, 9).Spec},
		Declared{Spec: offer("rare", 0, 9).Spec, ColdStart: time.Minute})
	check := func(when, want string) {
		t.Helper()
		if got := offered(f.Functions()); got != want {
			t.Errorf("%s:\n got %s\nwant %s", when, got, want)
		}
	}
	notReady := func(when string) {
		t.Helper()
		if err := f.Ready(); err == nil || !strings.Contains(err.Error(), "resize") {
			t.Errorf("%s: readiness is %v, want a sentence that names resize", when, err)
		}
	}
	check("without members", "rare:0/9+1m0s resize:0/9+0s")
	notReady("without members")
	f.Follow(membersOf(a))
	check("none ready: what they last offered, as declared", "rare:0/9+1m0s resize:4/9+0s")
	notReady("none ready")
	f.Follow(membersOf(a, b, c))
	check("two of three ready", "echo:6/2+0s extra:6/3+0s rare:0/9+1m0s resize:5/2+0s")
	if err := f.Ready(); err != nil {
		t.Errorf("with two of three ready: %v", err)
	}
	a.unready("")
	check("all ready", "echo:6/2+0s extra:6/3+0s rare:0/9+1m0s resize:9/1+0s")
	for _, s := range []*script{a, b, c} {
		s.unready("Its polls fail.")
	}
	check("all unready at once", "echo:6/2+0s extra:6/3+0s rare:0/9+1m0s resize:9/9+0s")
	f.Follow(nil)
	if err := f.Ready(); err != nil {
		t.Errorf("readiness was lost with the workers: %v", err)
	}
}

// TestFleetUsesAllWhenNoneIsReady: a false alarm about all workers costs nothing.
func TestFleetUsesAllWhenNoneIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newScript(2, nil), newScript(2, nil)
		registry := prometheus.NewRegistry()
		f := newTestFleet(t, registry, membersOf(a, b))
		run := func(n int) {
			t.Helper()
			for range n {
				if err := f.Run(newCall(time.Second), &functions.Answer{}); err != nil {
					t.Error(err)
				}
			}
		}
		a.unready("Its polls fail.")
		time.Sleep(lookEvery)
		run(20)
		if a.calls.Load() != 0 || b.calls.Load() != 20 {
			t.Errorf("%d calls on the one that is not ready, %d on the other", a.calls.Load(), b.calls.Load())
		}
		if ready := gathered(t, registry, "lightcone_gateway_fleet_members", map[string]string{"state": "ready"}); ready != 1 {
			t.Errorf("%v members are counted as ready", ready)
		}
		b.unready("Its polls fail.")
		time.Sleep(lookEvery)
		run(200)
		if a.calls.Load() < 50 || b.calls.Load() < 70 {
			t.Errorf("with none ready, %d and %d calls", a.calls.Load(), b.calls.Load())
		}
	})
}

// TestFleetKeepsItsPromises changes workers and the set at random, and looks at
// where each call went.
func TestFleetKeepsItsPromises(t *testing.T) {
	kinds := []error{nil, nil, errFull, errGone, errCrash}
	rapid.Check(t, func(t *rapid.T) {
		now := clock(0)
		seed := rapid.Uint64().Draw(t, "seed")
		f, err := NewFleet(FleetConfig{Registerer: prometheus.NewRegistry(), RoomWait: -1, Random: rand.New(rand.NewPCG(seed, 0)).Uint64, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		all := []*script{newScript(1, nil), newScript(2, nil), newScript(3, nil), newScript(4, nil), newScript(0, nil)}
		members := membersOf(all...)
		in := make([]bool, len(all))
		t.Repeat(map[string]func(*rapid.T){
			"follow": func(t *rapid.T) {
				var set []Member
				for i := range all {
					if in[i] = rapid.Bool().Draw(t, "in"); in[i] {
						set = append(set, members[i])
					}
				}
				f.Follow(set)
			},
			"change": func(t *rapid.T) {
				s := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
				s.unready(rapid.SampledFrom([]string{"", "Not now."}).Draw(t, "ready"))
				s.err = rapid.SampledFrom(kinds).Draw(t, "answers")
				now = now.Add(lookEvery)
			},
			"call": func(t *rapid.T) {
				before := make([]int64, len(all))
				anyReady := false
				for i, s := range all {
					before[i] = s.calls.Load()
					anyReady = anyReady || in[i] && s.Ready() == nil
				}
				err := f.Run(&functions.Call{Function: "echo", Deadline: now.Add(time.Minute)}, &functions.Answer{})
				lost, answered := 0, 0
				for i, s := range all {
					tries := s.calls.Load() - before[i]
					switch {
					case tries == 0:
						continue
					case tries > 1 || !in[i] || (s.Ready() == nil) != anyReady:
						t.Fatalf("worker %d, in the set: %v, readiness %v, was asked %d times", i, in[i], s.Ready(), tries)
					case s.err == errGone:
						lost++
					case s.err != errFull:
						answered++
					}
				}
				if lost > 2 || answered > 1 || lost == 2 && answered > 0 {
					t.Fatalf("lost %d times and answered %d times", lost, answered)
				}
				if answered == 0 && lost == 0 && (err == nil || problem.Of(err).Kind != problem.Overloaded) {
					t.Fatalf("nobody took the call, and it got %v", err)
				}
				if lost > 0 && answered == 0 && problem.Of(err).Kind != problem.WorkerLost {
					t.Fatalf("the call was lost, and got %v", err)
				}
			},
			"": func(t *rapid.T) {
				for _, m := range f.members {
					if l := m.loads["echo"]; l != nil && l.own != 0 {
						t.Fatalf("member %s has %d calls, and none runs", m.id, l.own)
					}
				}
			},
		})
	})
}

// TestColdStartThroughTheGateway calls a function that has no worker yet: the
// call waits while the scheduler sees it, and is answered once there is one.
func TestColdStartThroughTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		f := newTestFleet(t, registry, nil, Declared{Spec: echoOffer(0).Spec, ColdStart: 3 * time.Second})
		if err := f.Ready(); err != nil {
			t.Errorf("a function that is started when it is called keeps the gateway unready: %v", err)
		}
		g := newTestGateway(t, f, registry)
		lane := (*g.lanes.Load())["echo"]
		var calls sync.WaitGroup
		start := time.Now()
		send := func(timeout time.Duration, want problem.Kind, after time.Duration) {
			c := &call{ticket: ticket{deadline: time.Now().Add(timeout), turn: make(chan struct{}, 1)}}
			c.request = functions.Call{Function: "echo", Deadline: c.ticket.deadline}
			calls.Go(func() {
				_, err := g.run(c, lane)
				if took := time.Since(start); took != after || (err == nil) != (want == "") || err != nil && problem.Of(err).Kind != want {
					t.Errorf("after %v, want %v: %v, want %s", took, after, err, want)
				}
			})
			synctest.Wait()
		}
		send(time.Second, problem.DeadlineExceeded, time.Second)
		send(10*time.Second, "", 2*time.Second)
		send(10*time.Second, "", 2*time.Second)
		demand := func(want Demand) {
			t.Helper()
			if diff := cmp.Diff([]Demand{want}, g.Demand()); diff != "" {
				t.Errorf("demand (-want +got):\n%s", diff)
			}
		}
		demand(Demand{Function: "echo", Waiting: 3})
		time.Sleep(2 * time.Second)
		demand(Demand{Function: "echo", Waiting: 2, Refused: 1})
		f.Follow(membersOf(newScript(2, nil)))
		g.follow()
		calls.Wait()
		demand(Demand{Function: "echo", Refused: 1})

		// The worker has gone again, and no other comes.
		f.Follow(nil)
		g.follow()
		start = time.Now()
		send(10*time.Second, problem.Overloaded, 3*time.Second)
		calls.Wait()
		demand(Demand{Function: "echo", Refused: 2})
	})
}

// TestLastWorkerLeavesUnderACall: a call that finds the last worker leaving waits
// for the next one, although it had joined when there were slots.
func TestLastWorkerLeavesUnderACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		f := newTestFleet(t, registry, membersOf(newScript(1, errFull)), Declared{Spec: echoOffer(0).Spec, ColdStart: 3 * time.Second})
		g := newTestGateway(t, f, registry)
		var calls sync.WaitGroup
		for range 2 { // one comes back from the worker, one only waits behind it
			c := &call{ticket: ticket{deadline: time.Now().Add(10 * time.Second), turn: make(chan struct{}, 1)}}
			c.request = functions.Call{Function: "echo", Deadline: c.ticket.deadline}
			calls.Go(func() {
				if _, err := g.run(c, (*g.lanes.Load())["echo"]); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		time.Sleep(100 * time.Millisecond)
		f.Follow(nil)
		g.follow()
		time.Sleep(2 * time.Second)
		f.Follow([]Member{{"next", newScript(1, nil)}})
		g.follow()
		calls.Wait()
	})
}

// TestReadinessWithAFleet asks /readyz before there are workers, with them, and
// after they have gone.
func TestReadinessWithAFleet(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := newTestFleet(t, registry, nil, Declared{Spec: echoOffer(0).Spec})
	s := serveWorker(t, f, registry, func(c *Config) { c.Details = func() any { return "some details" } })
	ask := func() (status int, document readyDocument) {
		t.Helper()
		got, err := s.send("GET", "/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(got.body), &document); err != nil {
			t.Fatal(err)
		}
		return got.status, document
	}
	if status, document := ask(); status != http.StatusServiceUnavailable || !strings.Contains(document.Reason, "echo") || document.Details != "some details" {
		t.Errorf("before: %d %+v", status, document)
	}
	f.Follow(membersOf(newScript(2, nil), newScript(3, nil)))
	eventually(t, "the gateway knows of all slots", func() bool {
		status, document := ask()
		return status == http.StatusOK && slices.Equal(document.Functions, []readyFunction{{Name: "echo", Slots: 5}})
	})
	if got := s.post(t, strings.NewReader("input")); got.status != 200 || got.body != "input" {
		t.Errorf("a call: %d %s", got.status, got.body)
	}
	f.Follow(nil)
	eventually(t, "the gateway knows of no slots", func() bool {
		status, document := ask()
		return status == http.StatusOK && slices.Equal(document.Functions, []readyFunction{{Name: "echo"}})
	})
	if got := s.post(t, strings.NewReader("input")); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("a call without workers: %d %s", got.status, got.body)
	}
}
