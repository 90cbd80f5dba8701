package consul

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"lightcone/internal/testbed"
)

// enlist puts an instance of a service into the catalogue, on a node that no
// agent looks after, so that only the test changes it.
func enlist(t *testing.T, c *Client, service, id, status string) {
	t.Helper()
	options, cancel := c.writing(t.Context())
	defer cancel()
	_, err := c.api.Catalog().Register(&api.CatalogRegistration{
		Node: "elsewhere", Address: "192.0.2.1",
		Service: &api.AgentService{ID: id, Service: service, Port: 9000, Tags: []string{"v1"}},
		Check:   &api.AgentCheck{Node: "elsewhere", CheckID: "check-" + id, Name: "alive", Status: status, ServiceID: id},
	}, options)
	if err != nil {
		t.Fatal(err)
	}
}

func strike(t *testing.T, c *Client, id string) {
	t.Helper()
	options, cancel := c.writing(t.Context())
	defer cancel()
	if _, err := c.api.Catalog().Deregister(&api.CatalogDeregistration{Node: "elsewhere", ServiceID: id}, options); err != nil {
		t.Fatal(err)
	}
}

// watching runs a watch until the test ends and hands out the sets it applies.
func watching(t *testing.T, c *Client, service string) <-chan []string {
	t.Helper()
	sets := make(chan []string, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Watch(ctx, service, func(instances []Instance) {
			ids := []string{}
			for _, instance := range instances {
				ids = append(ids, instance.ID)
			}
			sets <- ids
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return sets
}

func expectSet(t *testing.T, sets <-chan []string, want ...string) {
	t.Helper()
	select {
	case got := <-sets:
		if !slices.Equal(got, want) {
			t.Fatalf("applied %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing applied, want %q", want)
	}
}

func TestWatchFollowsTheCatalogue(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c, m := a.scheduler(), a.client(management)
	sets := watching(t, c, "worker-echo")
	expectSet(t, sets)
	enlist(t, m, "worker-echo", "b", "passing")
	expectSet(t, sets, "b")
	enlist(t, m, "worker-echo", "a", "passing")
	expectSet(t, sets, "a", "b")
	enlist(t, m, "worker-other", "c", "passing") // another service: nothing to say
	enlist(t, m, "worker-echo", "b", "critical")
	expectSet(t, sets, "a")
	enlist(t, m, "worker-echo", "b", "passing")
	expectSet(t, sets, "a", "b")
	strike(t, m, "a")
	expectSet(t, sets, "b")

	got, err := c.Instances(t.Context(), "worker-echo")
	want := Instance{ID: "b", Node: "elsewhere", Address: "192.0.2.1:9000", Tags: []string{"v1"}}
	if err != nil || len(got) != 1 || got[0].ID != want.ID || got[0].Node != want.Node || got[0].Address != want.Address || !slices.Equal(got[0].Tags, want.Tags) {
		t.Errorf("Instances gave %+v, %v, want %+v", got, err, want)
	}
	if err := c.Watch(t.Context(), "", nil); err == nil {
		t.Error("a service without a name was watched")
	}
}

// TestWatchOutlivesTheAgent: while the agent is away and while it comes up with
// its memory still to be read, the watch says nothing; then it goes on.
func TestWatchOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	m := a.client(management)
	log := &testbed.Log{}
	c, err := Connect(Config{Address: a.Address, Token: management, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	enlist(t, m, "worker-echo", "a", "passing")
	sets := watching(t, c, "worker-echo")
	expectSet(t, sets, "a")
	a.Kill()
	eventually(t, 10*time.Second, "the outage is logged", func() bool { return strings.Count(log.String(), "the last known set stays") > 0 })
	a.Restart()
	eventually(t, 30*time.Second, "its end is logged", func() bool { return strings.Count(log.String(), "tells again") > 0 })
	enlist(t, m, "worker-echo", "b", "passing")
	expectSet(t, sets, "a", "b") // with nothing before it: no empty set in between
	if outages := strings.Count(log.String(), "the last known set stays"); outages > 2 {
		t.Errorf("one restart was logged as %d outages", outages)
	}
}

// TestWatchReadsWithoutALeader asks a server whose only fellow voter has died.
func TestWatchReadsWithoutALeader(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	m := a.client(management)
	enlist(t, m, "worker-echo", "a", "passing")
	peer := testbed.StartConsul(t, testbed.ConsulConfig{ACL: true, Beside: a.Consul})
	eventually(t, 60*time.Second, "there are two voters", func() bool {
		raft, err := m.api.Operator().RaftGetConfiguration(nil)
		if err != nil {
			return false
		}
		voters := 0
		for _, server := range raft.Servers {
			if server.Voter {
				voters++
			}
		}
		return voters == 2
	})
	peer.Kill()
	eventually(t, 60*time.Second, "the quorum is gone", func() bool {
		_, err := m.CompareAndSet(t.Context(), "x", []byte("y"), 0)
		return err != nil
	})
	sets := watching(t, m, "worker-echo")
	expectSet(t, sets, "a")
}

func TestConnectReadsWhereAndAsWhom(t *testing.T) {
	socket := t.TempDir() + "/http.sock"
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		if conn, err := listener.Accept(); err == nil {
			conn.Close()
		}
	}()
	t.Setenv(api.HTTPAddrEnvName, "unix://"+socket)
	t.Setenv(api.HTTPTokenEnvName, "from the environment")
	c, err := Connect(Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Get(t.Context(), "x"); err == nil {
		t.Error("a closed connection answered")
	}
	<-accepted
	if c.Token() != "from the environment" {
		t.Errorf("the token is %q", c.Token())
	}
	if _, err := Connect(Config{TokenFile: socket + ".none"}); err == nil {
		t.Error("a token file that does not exist went through")
	}
	if _, err := Connect(Config{Address: "gopher://x"}); err == nil {
		t.Error("a gopher went through")
	}
}

// TestEveryRequestHasADeadline talks to a listener that never answers.
func TestEveryRequestHasADeadline(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c, err := Connect(Config{Address: listener.Addr().String(), Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.WithoutCancel(t.Context())
	for name, request := range map[string]func() error{
		"Get":           func() error { _, _, err := c.Get(ctx, "x"); return err },
		"List":          func() error { _, err := c.List(ctx, "x"); return err },
		"CompareAndSet": func() error { _, err := c.CompareAndSet(ctx, "x", nil, 0); return err },
		"Delete":        func() error { return c.Delete(ctx, "x") },
		"Instances":     func() error { _, err := c.Instances(ctx, "x"); return err },
		"Bootstrap":     func() error { _, err := c.Bootstrap(ctx); return err },
		"PutPolicy":     func() error { return c.PutPolicy(ctx, "x", "") },
		"PutRole":       func() error { return c.PutRole(ctx, "x") },
		"PutToken":      func() error { _, err := c.PutToken(ctx, "x"); return err },
		"PutAnonymous":  func() error { return c.PutAnonymousPolicies(ctx) },
		"PutWorkload":   func() error { return c.PutWorkloadIdentity(ctx, "http://x") },
	} {
		done := make(chan error, 1)
		go func() { done <- request() }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s succeeded", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s has no deadline of 100 ms", name)
		}
	}
}
