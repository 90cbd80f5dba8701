package gateway

import (
	"context"
	"sync"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// memoryQueue is a fake that stands in for package queue: it keeps calls in memory, and
// tests say what becomes of them. What the real one promises is tested there, and
// through a gateway in cmd/lightcone.
type memoryQueue struct {
	mu       sync.Mutex
	calls    map[lightcone.CallID]*memoryCall
	keys     map[string]lightcone.CallID
	accepted []functions.Queued // what Accept got, copied
	refusal  error              // what Accept answers
	silent   error              // what all questions are answered with
	awaiting int                // goroutines in Await
	changed  chan struct{}      // closed at the next change
}

type memoryCall struct {
	invocation lightcone.Invocation
	result     *functions.Result
}

func newMemoryQueue() *memoryQueue {
	return &memoryQueue{calls: make(map[lightcone.CallID]*memoryCall), keys: make(map[string]lightcone.CallID), changed: make(chan struct{})}
}

// queued serves a gateway in front of a memoryQueue, and of customers if there are any.
func queued(t *testing.T, tenants customers, change func(*Config)) (*served, *memoryQueue) {
	t.Helper()
	q := newMemoryQueue()
	var callers Callers = keys{}
	if tenants != nil {
		callers = tenants
	}
	w := &worker{run: echo}
	w.offer(echoOffer(1))
	s := serveCallersOf(t, w, callers, func(c *Config) {
		c.Queue, c.Invocations = q, q
		if change != nil {
			change(c)
		}
	})
	return s, q
}

func (q *memoryQueue) Accept(_ context.Context, call *functions.Queued) (lightcone.Invocation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refusal != nil {
		return lightcone.Invocation{}, q.refusal
	}
	kept := *call // the rest of it is the gateway's again in a moment
	kept.Call.Query, kept.Call.Body = append([]byte(nil), call.Call.Query...), append([]byte(nil), call.Call.Body...)
	kept.Call.ContentType, kept.Call.Accept, kept.Call.Traceparent = append([]byte(nil), call.Call.ContentType...), append([]byte(nil), call.Call.Accept...), append([]byte(nil), call.Call.Traceparent...)
	q.accepted = append(q.accepted, kept)
	if first, before := q.keys[call.IdempotencyKey]; before && call.IdempotencyKey != "" {
		return q.calls[first].invocation, nil
	}
	made := &memoryCall{invocation: lightcone.Invocation{
		ID: call.Call.ID, Tenant: call.Call.Tenant, Function: call.Call.Function, Status: lightcone.InvocationQueued, CreatedAt: call.Call.ID.Time(),
	}}
	q.calls[call.Call.ID], q.keys[call.IdempotencyKey] = made, call.Call.ID
	return made.invocation, nil
}

func (q *memoryQueue) find(tenant lightcone.TenantID, id lightcone.CallID) (*memoryCall, error) {
	if q.silent != nil {
		return nil, q.silent
	}
	found := q.calls[id]
	if found == nil || found.invocation.Tenant != tenant {
		return nil, problem.New(problem.NotFound, "There is no call %s.", id)
	}
	return found, nil
}

func (q *memoryQueue) Find(_ context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	found, err := q.find(tenant, id)
	if err != nil {
		return lightcone.Invocation{}, err
	}
	return found.invocation, nil
}

func (q *memoryQueue) Await(ctx context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awaiting++
	defer func() { q.awaiting-- }()
	for {
		found, err := q.find(tenant, id)
		if err != nil || found.invocation.Status.Final() || ctx.Err() != nil {
			if err != nil {
				return lightcone.Invocation{}, err
			}
			return found.invocation, nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		q.mu.Lock()
	}
}

func (q *memoryQueue) Result(_ context.Context, tenant lightcone.TenantID, id lightcone.CallID) (functions.Result, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	found, err := q.find(tenant, id)
	if err != nil {
		return functions.Result{}, err
	}
	if found.result == nil {
		return functions.Result{}, problem.New(problem.NotFinished, "The call %s is %s.", id, found.invocation.Status)
	}
	return *found.result, nil
}

func (q *memoryQueue) Cancel(_ context.Context, tenant lightcone.TenantID, id lightcone.CallID) (lightcone.Invocation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	found, err := q.find(tenant, id)
	if err != nil {
		return lightcone.Invocation{}, err
	}
	if !found.invocation.Status.Final() {
		found.invocation.Status, found.invocation.FinishedAt = lightcone.InvocationCancelled, found.invocation.CreatedAt.Add(time.Second)
	}
	return found.invocation, nil
}

// end says what becomes of a call; result may be nil.
func (q *memoryQueue) end(t *testing.T, id string, status lightcone.InvocationStatus, result *functions.Result) {
	t.Helper()
	parsed, err := lightcone.ParseCallID(id)
	if err != nil {
		t.Fatal(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	found := q.calls[parsed]
	if found == nil {
		t.Fatalf("the queue never had the call %s", id)
	}
	found.invocation.Status, found.invocation.Attempts, found.result = status, found.invocation.Attempts+1, result
	found.invocation.FinishedAt = found.invocation.CreatedAt.Add(1500 * time.Millisecond)
	close(q.changed)
	q.changed = make(chan struct{})
}

// set changes how the queue behaves.
func (q *memoryQueue) set(change func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change()
}

// last is what Accept got last.
func (q *memoryQueue) last(t *testing.T) functions.Queued {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.accepted) == 0 {
		t.Fatal("the queue got no call")
	}
	return q.accepted[len(q.accepted)-1]
}

// waiters is how many goroutines are in Await.
func (q *memoryQueue) waiters() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.awaiting
}
