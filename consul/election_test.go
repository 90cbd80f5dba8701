package consul

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"lightcone/internal/testbed"

	"github.com/hashicorp/consul/api"
)

func anybody(string) bool { return true }

func except(names ...string) func(string) bool {
	return func(name string) bool {
		for _, not := range names {
			if name == not {
				return false
			}
		}
		return true
	}
}

// TestNeverTwoLeaders disturbs an election of three in the ways that have broken
// others; each candidate has a cable of its own to the agent.
func TestNeverTwoLeaders(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(t *testing.T, a *agent, o *office, cables map[string]*cable){
		"the agent is frozen for longer than the TTL": func(t *testing.T, a *agent, o *office, _ map[string]*cable) {
			a.Freeze()
			time.Sleep(testTTL + testTTL/2) // the disturbance itself
			_, before := o.leader()
			time.Sleep(testTTL / 4)
			if _, after := o.leader(); after != before {
				t.Error("effects go through a frozen agent")
			}
			a.Thaw()
		},
		"the agent dies and comes back": func(t *testing.T, a *agent, _ *office, _ map[string]*cable) {
			a.Kill()
			time.Sleep(testTTL) // the disturbance itself
			a.Restart()
		},
		"the leader is cut off": func(_ *testing.T, _ *agent, o *office, cables map[string]*cable) {
			old, _ := o.leader()
			cables[old].cut()
			o.awaitEffect(testTakeover, "another leads", except(old))
			cables[old].mend()
		},
		"an operator deletes the key": func(_ *testing.T, a *agent, o *office, _ map[string]*cable) {
			if err := a.client(management).Delete(context.Background(), officeKey); err != nil {
				o.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			token := a.scheduler().Token()
			o := newOffice(t)
			cables := make(map[string]*cable)
			for _, candidate := range []string{"a", "b", "c"} {
				cables[candidate] = newCable(t, a.Address)
				o.stand(candidate, clientAt(t, cables[candidate].listener.Addr().String(), token), ElectionConfig{LockDelay: testTTL})
			}
			o.awaitEffect(testTakeover, "somebody leads", anybody)
			disturb(t, a, o, cables)
			o.awaitEffect(testTakeover+testTTL, "somebody leads again", anybody)
			if terms := o.verify(a.client(management)); terms < 2 {
				t.Errorf("the disturbance did not end the term: %d terms", terms)
			}
		})
	}
}

// TestTheOfficeChangesHands goes through the ways in which a leader gives way
// without harm; each is quick.
func TestTheOfficeChangesHands(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c, m := a.scheduler(), a.client(management)
	o := newOffice(t)
	resign := map[string]func(){}
	for _, name := range []string{"a", "b", "c"} {
		resign[name] = o.stand(name, c, ElectionConfig{})
	}
	first := o.awaitEffect(testTakeover, "somebody leads", anybody)
	entry, found, err := m.Get(t.Context(), officeKey)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	t.Logf("the office says %s", entry.Value)

	stopped := time.Now()
	resign[first]()
	second := o.awaitEffect(testTakeover, "another leads at once", except(first))
	if took := time.Since(stopped); took > testTTL {
		t.Errorf("an office that was freed stayed empty for %v", took)
	}

	// Consul ends the session: the leader learns it from its next renewal, or from the key.
	pair, _, err := m.api.KV().Get(officeKey, nil)
	if err != nil || pair == nil {
		t.Fatal(pair, err)
	}
	if _, err := m.api.Session().Destroy(pair.Session, new(api.WriteOptions)); err != nil {
		t.Fatal(err)
	}
	third := o.awaitEffect(testTakeover, "somebody leads after the session's end", anybody)
	t.Logf("%s, %s, %s", first, second, third)
	o.verify(m)
}

// TestALeaderWhoseWorkFailsStepsDown: the office goes to the other, and the one
// that failed stands again.
func TestALeaderWhoseWorkFailsStepsDown(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c := a.scheduler()
	ctx, stop := context.WithCancel(t.Context())
	terms := make(chan Term, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- NewElection(c, ElectionConfig{Key: officeKey, TTL: testTTL}).Run(ctx, func(_ context.Context, term Term) error {
			terms <- term
			if ok, err := term.PutFenced(ctx, counterKey, []byte("x"), 99); ok || err != nil {
				t.Errorf("a put at an index that is wrong: %v, %v", ok, err)
			}
			if ok, err := term.PutFenced(ctx, "elsewhere", []byte("x"), 0); ok || err == nil || errors.Is(err, ErrNotLeader) {
				t.Errorf("a put that the token may not do: %v, %v", ok, err)
			}
			return errors.New("this work fails")
		})
	}()
	var epochs []uint64
	for range 3 {
		select {
		case term := <-terms:
			epochs = append(epochs, term.Epoch())
			eventually(t, testTTL, "the term is over", func() bool { return !term.Trusted() })
			if _, err := term.PutFenced(ctx, counterKey, nil, 0); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a put after the term: %v", err)
			}
		case <-time.After(testTakeover):
			t.Fatalf("only the epochs %d", epochs)
		}
	}
	if epochs[0] >= epochs[1] || epochs[1] >= epochs[2] {
		t.Errorf("the epochs are %d", epochs)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if pair, _, err := a.client(management).api.KV().Get(officeKey, nil); err != nil || pair == nil || pair.Session != "" {
		t.Errorf("the office is not free: %+v, %v", pair, err)
	}
}

// TestADeletedKeyEndsTheTerm of a leader that asks Consul for nothing: its
// session lives on, and with it the renewals.
func TestADeletedKeyEndsTheTerm(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c, m := a.scheduler(), a.client(management)
	ctx, stop := context.WithCancel(t.Context())
	terms, over := make(chan Term, 100), make(chan error, 100)
	ended := make(chan error, 1)
	go func() {
		config := ElectionConfig{Key: officeKey, TTL: 10 * testTTL, LockDelay: testLockDelay}
		ended <- NewElection(c, config).Run(ctx, func(ctx context.Context, term Term) error {
			terms <- term
			<-ctx.Done()
			over <- context.Cause(ctx)
			return nil
		})
	}()
	term := <-terms
	if err := m.Delete(t.Context(), officeKey); err != nil {
		t.Fatal(err)
	}
	select {
	case cause := <-over:
		t.Logf("the term ended: %v", cause)
	case <-time.After(2 * testTTL): // long before the next renewal
		t.Error("the term goes on without the key")
	}
	if term.Trusted() {
		t.Error("the term is still trusted")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSlowWorkIsAwaited: while the old leader's work runs on, this candidate does
// not stand again, and says why.
func TestSlowWorkIsAwaited(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c := a.scheduler()
	log := &testbed.Log{}
	ctx, stop := context.WithCancel(t.Context())
	release, began := make(chan struct{}), make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() {
		config := ElectionConfig{Key: officeKey, TTL: testTTL, Logger: slog.New(slog.NewTextHandler(log, nil))}
		ended <- NewElection(c, config).Run(ctx, func(context.Context, Term) error {
			began <- struct{}{}
			<-release // heeds nothing
			return nil
		})
	}()
	<-began
	stop()
	eventually(t, 10*time.Second, "the delay is logged", func() bool { return strings.Count(log.String(), "has not returned") == 1 })
	select {
	case <-ended:
		t.Fatal("Run returned while the work ran")
	default:
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(began) != 0 {
		t.Error("the candidate led twice")
	}
}

func TestElectionsThatCannotWork(t *testing.T) {
	t.Parallel()
	c := clientAt(t, "127.0.0.1:1", "")
	for _, config := range []ElectionConfig{{}, {Key: "x", TTL: 10 * time.Second, Margin: 6 * time.Second}, {Key: "x", Margin: -1}} {
		if err := NewElection(c, config).Run(t.Context(), nil); err == nil {
			t.Errorf("%+v was run", config)
		}
	}
}
