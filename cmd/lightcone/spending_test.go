package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lightcone"
	"lightcone/consul"
	"lightcone/functions"
	"lightcone/gateway/admission"
	"lightcone/identity"
	"lightcone/identity/edge"
	"lightcone/identity/management"
	"lightcone/internal/document/embedded"
	"lightcone/internal/problem"
	"lightcone/internal/testbed"
)

// limited makes a tenant with a quota, and a key of its.
func (r *region) limited(id lightcone.TenantID, quota lightcone.Quota) identity.Key {
	r.t.Helper()
	catalogue, err := consul.Connect(consul.Config{Address: r.consul.Address, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	defer catalogue.Close()
	manager, err := management.New(management.Config{Store: consul.NewDocuments(catalogue, identityPrefix, false)})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx := management.WithActor(r.t.Context(), "the test")
	if _, _, err := manager.CreateTenant(ctx, id, "limited"); err != nil {
		r.t.Fatal(err)
	}
	if _, _, err := manager.EditTenant(ctx, id, management.Edit{Quota: &quota}); err != nil {
		r.t.Fatal(err)
	}
	key, _, err := manager.IssueKey(ctx, id, identity.Scopes{All: true}, time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

// spent asks Redis what a tenant has used this month, and adds nothing.
func spent(t *testing.T, servers *testbed.Redis, tenant lightcone.TenantID) func() (lightcone.Usage, error) {
	t.Helper()
	redis, err := edge.Connect(edge.RedisConfig{
		Sentinels: servers.Sentinels(), Master: testbed.RedisMaster, SentinelPassword: testbed.SentinelPassword,
		Username: testbed.RedisUser, Password: testbed.RedisPassword, Logger: slog.New(slog.DiscardHandler),
	}, edge.DefaultStaleFor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	return func() (lightcone.Usage, error) {
		totals, err := edge.NewSpending(redis).Exchange(t.Context(), time.Now().UTC().Format("2006-01"), map[lightcone.TenantID]lightcone.Usage{tenant: {}})
		return totals[tenant], err
	}
}

// queued queues a call of resize, waits for its end, and gives the answer's status.
func (s *service) queued(key string) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.listen+"/async-function/resize?width=300", strings.NewReader(read(s.t, photo)))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Prefer", "wait=20")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode
}

// A tenant uses its month up by queued calls alone, which only the worker meters: it
// tells Redis, and the gateway refuses the tenant's next call. Without Redis, queued
// calls are run as ever, and the worker ends well.
func TestQueuedCallsCountTowardsTheMonth(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	servers, settings := r.redis()
	r.queueNode()
	quota := lightcone.Unlimited
	quota.CPUPerMonth = time.Millisecond // no photograph is resized in that
	key := r.limited("acme", quota)
	flags := append(flagsOf(settings), "--queue-service=queue", "--queue-password-file="+r.key("queue.password"), "--queue-ca-file="+r.key("queue-ca.pem"))
	worker := r.workers(1, "resize", flags...)[0]
	r.enlist("resize", worker)
	door := r.gateway("resize", flags...)
	door.knows(1)

	within(t, "a call is queued and run", func() bool { return door.queued(key.Text()) == http.StatusOK })
	used := spent(t, servers, "acme")
	within(t, "Redis has been told what it used", func() bool {
		total, err := used()
		return err == nil && total.CPU >= quota.CPUPerMonth && total.BytesIn == int64(len(read(t, photo))) && total.BytesOut > 0
	})
	// Heard of again, and then asked about in a round that began after that.
	_ = door.queued(key.Text())
	rounds := func() float64 { return door.metric(`lightcone_gateway_usage_rounds_total{outcome="ok"}`) }
	before := rounds()
	within(t, "the gateway has asked Redis", func() bool { return rounds() >= before+2 })
	code, said := send(t, http.DefaultClient, "http://"+door.listen+"/function/resize?width=300", key, read(t, photo))
	if code != http.StatusTooManyRequests || !strings.Contains(said, `"quota":"cpu_seconds_per_month"`) {
		t.Errorf("after its month was used up: %d %.300s", code, said)
	}

	servers.KillAll()
	if code := door.queued(strings.TrimSpace(read(t, r.key("demo.key")))); code != http.StatusOK {
		t.Errorf("a queued call without Redis: %d", code)
	}
	worker.stop()
}

// What an attempt used is counted if the function has seen the call.
func TestAttemptsAreCounted(t *testing.T) {
	const cpu = 3 * time.Second
	for _, test := range []struct {
		err  error
		want lightcone.Usage
	}{
		{nil, lightcone.Usage{CPU: cpu, BytesIn: 5, BytesOut: 2}},
		{problem.New(problem.OutOfMemory, "x"), lightcone.Usage{CPU: cpu, BytesIn: 5}},
		{problem.New(problem.DeadlineExceeded, "x"), lightcone.Usage{CPU: cpu, BytesIn: 5}},
		{problem.New(problem.Cancelled, "x"), lightcone.Usage{CPU: cpu, BytesIn: 5}},
		{problem.New(problem.WorkerLost, "x"), lightcone.Usage{}},
	} {
		tenants, err := admission.NewTable(admission.DefaultConfig(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		tried := func(_ context.Context, _ *functions.Call, answer *functions.Answer) error {
			answer.CPU, answer.Body = cpu, []byte("ok")
			return test.err
		}
		for _, table := range []*admission.Table{tenants, nil} {
			call := functions.Call{Tenant: "acme", Body: []byte("input")}
			if err := counted(table, tried)(t.Context(), &call, new(functions.Answer)); !errors.Is(err, test.err) {
				t.Errorf("%v became %v", test.err, err)
			}
		}
		if got := regionTold(t, tenants, "acme"); got != test.want {
			t.Errorf("%v: %+v was counted, want %+v", test.err, got, test.want)
		}
	}
}

// regionTold is what the region of `lightcone dev` hears of a tenant.
func regionTold(t *testing.T, tenants *admission.Table, id lightcone.TenantID) lightcone.Usage {
	t.Helper()
	store, err := embedded.Open(filepath.Join(t.TempDir(), "spent.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	region := management.NewSpent(store)
	stop, err := followSpending(tenants, region, newRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	totals, err := region.Exchange(t.Context(), time.Now().UTC().Format("2006-01"), map[lightcone.TenantID]lightcone.Usage{id: {}})
	if err != nil {
		t.Fatal(err)
	}
	return totals[id]
}
