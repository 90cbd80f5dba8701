package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"lightcone/internal/testbed"
)

// deeds are what tokens try; each fails when it is denied.
var deeds = map[string]func(context.Context, *Client) error{
	"see worker-echo":    func(ctx context.Context, c *Client) error { return see(ctx, c, "worker-echo") },
	"see gateway":        func(ctx context.Context, c *Client) error { return see(ctx, c, "gateway") },
	"see gateway-manage": func(ctx context.Context, c *Client) error { return see(ctx, c, "gateway-manage") },
	"see redis":          func(ctx context.Context, c *Client) error { return see(ctx, c, "redis") },
	"see the queue":      func(ctx context.Context, c *Client) error { return see(ctx, c, "queue") },
	"see queue-route":    func(ctx context.Context, c *Client) error { return see(ctx, c, "queue-route") },
	"see the Sentinels":  func(ctx context.Context, c *Client) error { return see(ctx, c, "redis-sentinel") },
	"see nodes": func(ctx context.Context, c *Client) error {
		options, cancel := c.reading(ctx)
		defer cancel()
		nodes, _, err := c.api.Catalog().Nodes(options)
		if err == nil && len(nodes) == 0 {
			err = errors.New("no nodes")
		}
		return err
	},
	"write the scheduler's key": func(ctx context.Context, c *Client) error { return change(ctx, c, "lightcone/scheduler/x") },
	"change who may call":       func(ctx context.Context, c *Client) error { return change(ctx, c, "lightcone/identity/keys/x") },
	"read who may call": func(ctx context.Context, c *Client) error {
		_, _, err := c.Get(ctx, "lightcone/identity/keys/x")
		return err
	},
	"put in quarantine": func(ctx context.Context, c *Client) error { return change(ctx, c, "lightcone/quarantine/x") },
	"read another key": func(ctx context.Context, c *Client) error {
		_, _, err := c.Get(ctx, "lightcone/identities")
		return err
	},
	"open a session": func(ctx context.Context, c *Client) error {
		options, cancel := c.writing(ctx)
		defer cancel()
		_, _, err := c.api.Session().Create(&api.SessionEntry{TTL: "10s"}, options)
		return err
	},
	"read the agent": func(ctx context.Context, c *Client) error {
		options, cancel := c.reading(ctx)
		defer cancel()
		var self map[string]any
		_, err := c.api.Raw().Query("/v1/agent/self", &self, options)
		return err
	},
	"register nomad":       func(ctx context.Context, c *Client) error { return register(ctx, c, "nomad") },
	"register worker-echo": func(ctx context.Context, c *Client) error { return register(ctx, c, "worker-echo") },
	"register a node": func(ctx context.Context, c *Client) error {
		options, cancel := c.writing(ctx)
		defer cancel()
		node := fmt.Sprintf("node-%d", time.Now().UnixNano()) // to register what is there already is always allowed
		_, err := c.api.Catalog().Register(&api.CatalogRegistration{Node: node, Address: "192.0.2.9"}, options)
		return err
	},
	"make a policy": func(ctx context.Context, c *Client) error { return c.PutPolicy(ctx, "mine", `acl = "write"`) },
}

func see(ctx context.Context, c *Client, service string) error {
	_, err := c.Instances(ctx, service)
	return err
}

func change(ctx context.Context, c *Client, key string) error {
	_, err := c.CompareAndSet(ctx, key, nil, 0)
	return err
}

func register(ctx context.Context, c *Client, service string) error {
	options := api.ServiceRegisterOpts{}.WithContext(ctx)
	return c.api.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{ID: "deed-" + service, Name: service, Port: 1}, options)
}

// allowed is what each policy lets its token do, and nothing else.
var allowed = map[string][]string{
	"gateway":    {"see worker-echo", "see gateway-manage", "see nodes", "see the Sentinels", "see the queue", "read who may call", "put in quarantine"},
	"identity":   {"see nodes", "see the Sentinels", "read who may call", "change who may call", "put in quarantine"},
	"redis":      {"see nodes", "see the Sentinels", "see redis"},
	"front-door": {"see gateway", "see nodes"},
	"scheduler": {
		"see worker-echo", "see gateway", "see gateway-manage", "see redis", "see the Sentinels", "see the queue", "see queue-route", "see nodes",
		"write the scheduler's key", "open a session",
	},
	"worker":       {"see nodes", "see the Sentinels", "see the queue", "put in quarantine"},
	"queue":        {"see nodes", "see queue-route"},
	"ui":           {"see worker-echo", "see gateway", "see gateway-manage", "see redis", "see the Sentinels", "see the queue", "see queue-route", "see nodes"},
	"consul-agent": {"see worker-echo", "see gateway", "see gateway-manage", "see redis", "see the Sentinels", "see the queue", "see queue-route", "see nodes", "register a node"},
	"nomad-server": {"see worker-echo", "see gateway", "see gateway-manage", "see redis", "see the Sentinels", "see the queue", "see queue-route", "see nodes", "read the agent", "register nomad"},
	"nomad-client": {
		"see worker-echo", "see gateway", "see gateway-manage", "see redis", "see the Sentinels", "see the queue", "see queue-route", "see nodes",
		"read the agent", "register nomad", "register worker-echo",
	},
}

// TestPoliciesAllowWhatTheyNameAndNoMore starts where a new cluster does: ACLs on,
// nobody has a token.
func TestPoliciesAllowWhatTheyNameAndNoMore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := &agent{testbed.StartConsul(t, testbed.ConsulConfig{ACL: true, Unmanaged: true}), t}
	nobody := a.client("")
	root, err := nobody.Bootstrap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.Bootstrap(ctx); !errors.Is(err, ErrBootstrapped) {
		t.Errorf("the second bootstrap: %v", err)
	}
	m := a.client(root)
	for _, service := range []string{"worker-echo", "gateway", "gateway-manage", "redis", "redis-sentinel", "queue", "queue-route"} {
		enlist(t, m, service, service, "passing")
	}
	policies := Policies()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(allowed)), slices.Sorted(maps.Keys(policies))); diff != "" {
		t.Fatal(diff)
	}
	for name, rules := range policies {
		if !strings.HasPrefix(rules, "# ") {
			t.Errorf("the policy %s does not say who gets it", name)
		}
		for range 2 { // again changes nothing
			if err := m.PutPolicy(ctx, name, rules); err != nil {
				t.Fatal(err)
			}
		}
		token, err := m.PutToken(ctx, "the "+name, name)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := m.PutToken(ctx, "the "+name, name); again != token || err != nil {
			t.Errorf("the second token %s differs, or %v", name, err)
		}
		expectDeeds(t, name, a.client(token), allowed[name])
	}
	expectDeeds(t, "nobody", nobody, nil)
	for range 2 {
		if err := m.PutAnonymousPolicies(ctx, "ui"); err != nil {
			t.Fatal(err)
		}
	}
	expectDeeds(t, "nobody, given ui", nobody, allowed["ui"])
}

func expectDeeds(t *testing.T, who string, c *Client, allowed []string) {
	t.Helper()
	var tried []string
	// A token's policies can take a moment to be seen; then nothing changes any more.
	deadline := time.Now().Add(15 * time.Second)
	for {
		tried = []string{}
		for _, name := range slices.Sorted(maps.Keys(deeds)) {
			if deeds[name](t.Context(), c) == nil {
				tried = append(tried, name)
			}
		}
		want := append([]string{}, allowed...)
		slices.Sort(want)
		diff := cmp.Diff(want, tried)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s may do something else than planned:\n%s", who, diff)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestAWatchIsNotBlindedByItsToken: a token that may see nothing is an outage,
// not an empty set.
func TestAWatchIsNotBlindedByItsToken(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	m := a.client(management)
	enlist(t, m, "worker-echo", "a", "passing")
	if err := m.PutPolicy(t.Context(), "gateway", Policies()["gateway"]); err != nil {
		t.Fatal(err)
	}
	token, err := m.PutToken(t.Context(), "gateway", "gateway")
	if err != nil {
		t.Fatal(err)
	}
	log := &testbed.Log{}
	c, err := Connect(Config{Address: a.Address, Token: token, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	sets := watching(t, c, "worker-echo")
	expectSet(t, sets, "a")
	if err := m.PutPolicy(t.Context(), "gateway", `service_prefix "worker-" { policy = "deny" }`); err != nil {
		t.Fatal(err)
	}
	enlist(t, m, "worker-echo", "b", "passing") // wakes the query
	eventually(t, 40*time.Second, "the watch says that it is blind", func() bool { return strings.Count(log.String(), "may not read it all") > 0 })
	if err := m.PutPolicy(t.Context(), "gateway", Policies()["gateway"]); err != nil {
		t.Fatal(err)
	}
	enlist(t, m, "worker-echo", "c", "passing")
	for got := []string{}; !slices.Equal(got, []string{"a", "b", "c"}); {
		select {
		case got = <-sets:
		case <-time.After(60 * time.Second):
			t.Fatalf("not seen again; last %q", got)
		}
		if len(got) == 0 {
			t.Fatal("an empty set was applied")
		}
	}
}

// TestWorkloadIdentity makes the login rules twice, the second time for other
// jobs; Consul reads the keys from a server that is not Nomad.
func TestWorkloadIdentity(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	jwks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"keys":[]}`)) // Consul hangs up when it likes
	}))
	t.Cleanup(jwks.Close)
	a := newAgent(t)
	m := a.client(management)
	for _, name := range []string{"gateway", "scheduler"} {
		if err := m.PutPolicy(ctx, name, Policies()[name]); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := m.PutRole(ctx, "lightcone-"+name, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	service := bound{`"nomad_service" in value`, "service", "${value.nomad_service}"}
	task := func(job string) bound {
		return bound{`"nomad_service" not in value and value.nomad_job_id == "` + job + `"`, "role", "lightcone-" + job}
	}
	expect := func(want ...bound) {
		t.Helper()
		rules, _, err := m.api.ACL().BindingRuleList(WorkloadAuthMethod, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[bound]int)
		for _, rule := range rules {
			got[boundBy(rule)]++
		}
		wanted := make(map[bound]int)
		for _, rule := range want {
			wanted[rule]++
		}
		if !maps.Equal(got, wanted) {
			t.Errorf("the rules are %v, want %v", got, wanted)
		}
	}
	workers := bound{`"nomad_service" not in value and value.nomad_job_id matches "^worker-"`, "role", "lightcone-gateway"}
	gateway, scheduler := JobRole{Job: "gateway", Role: "lightcone-gateway"}, JobRole{Job: "scheduler", Role: "lightcone-scheduler"}
	for range 2 {
		if err := m.PutWorkloadIdentity(ctx, jwks.URL, gateway, scheduler); err != nil {
			t.Fatal(err)
		}
		expect(service, task("gateway"), task("scheduler"))
	}
	if err := m.PutWorkloadIdentity(ctx, jwks.URL, scheduler, JobRole{Job: "worker-*", Role: "lightcone-gateway"}); err != nil {
		t.Fatal(err)
	}
	expect(service, task("scheduler"), workers)
	if err := m.PutWorkloadIdentity(ctx, jwks.URL, scheduler); err != nil {
		t.Fatal(err)
	}
	expect(service, task("scheduler"))
	if err := m.PutWorkloadIdentity(ctx, jwks.URL, JobRole{Job: "w*r", Role: "x"}); err == nil {
		t.Error("a star inside a job's name went through")
	}
	if err := m.PutWorkloadIdentity(ctx, jwks.URL, JobRole{Job: `" or true`, Role: "x"}); err == nil {
		t.Error("a job's name broke out of the selector")
	}
	if err := m.PutWorkloadIdentity(ctx, jwks.URL+"/", JobRole{Job: "a", Role: ""}); err == nil {
		t.Error("a role without a name went through")
	}
}
