package queue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestACallIsAcceptedRunAndFetched(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		q := queued(t, "hello")
		got := b.accept(c, q)
		if got.ID != q.Call.ID || got.Status != lightcone.InvocationQueued || got.Tenant != "acme" || got.Function != "echo" || got.CreatedAt.IsZero() {
			t.Errorf("accepted: %+v", got)
		}
		if again, err := c.Find(t.Context(), "acme", q.Call.ID); err != nil || again.Status != lightcone.InvocationQueued {
			t.Errorf("found %+v, %v", again, err)
		}
		_, err := c.Result(t.Context(), "acme", q.Call.ID)
		wantKind(t, err, problem.NotFinished)

		var seen functions.Call
		stop := b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			seen = *call
			answer.CPU = 7 * time.Millisecond
			return echo(ctx, call, answer)
		})
		ended := b.until(c, q.Call.ID, lightcone.InvocationSucceeded)
		stop()
		if ended.Attempts != 1 || ended.FinishedAt.IsZero() || ended.Error != "" {
			t.Errorf("ended: %+v", ended)
		}
		if seen.ID != q.Call.ID || string(seen.Query) != "a=b" || string(seen.ContentType) != "text/plain" || time.Until(seen.Deadline) < 10*time.Second {
			t.Errorf("the function saw %+v", seen)
		}
		result, err := c.Result(t.Context(), "acme", q.Call.ID)
		if err != nil || string(result.Body) != "hello" || result.Status != 200 || result.ContentType != "text/plain" || result.CPU != 7*time.Millisecond || result.Waited <= 0 {
			t.Errorf("result: %+v, %v", result, err)
		}
		eventually(t, "its message to go, as its acknowledgement has it", func(context.Context) error {
			if left := kept(t, c.js, workStream); left != 0 {
				return fmt.Errorf("%d work messages are left", left)
			}
			return nil
		})
	})
}

func TestCallsOfOthersAreNotThere(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	q := queued(t, "mine")
	b.accept(c, q)
	unknown := queued(t, "").Call.ID
	for _, who := range []struct {
		tenant lightcone.TenantID
		id     lightcone.CallID
	}{{"other", q.Call.ID}, {"acme", unknown}} {
		_, err := c.Find(t.Context(), who.tenant, who.id)
		wantKind(t, err, problem.NotFound)
		_, err = c.Await(t.Context(), who.tenant, who.id)
		wantKind(t, err, problem.NotFound)
		_, err = c.Result(t.Context(), who.tenant, who.id)
		wantKind(t, err, problem.NotFound)
		_, err = c.Cancel(t.Context(), who.tenant, who.id)
		wantKind(t, err, problem.NotFound)
	}
	if got, err := c.Find(t.Context(), "acme", q.Call.ID); err != nil || got.Status != lightcone.InvocationQueued {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAKeyMakesRepeatingSafe(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		first := queued(t, "once")
		first.IdempotencyKey = strings.Repeat("k", 255)
		var running sync.WaitGroup
		ids := make([]lightcone.CallID, 8)
		for i := range ids { // all at once, each with an id of its own
			running.Go(func() {
				q := queued(t, "once")
				q.IdempotencyKey = first.IdempotencyKey
				got, err := c.Accept(t.Context(), q)
				if err != nil {
					t.Error(err)
				}
				ids[i] = got.ID
			})
		}
		running.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("one key, several calls: %v", ids)
			}
		}
		var runs atomic.Int64
		b.work(c, func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			runs.Add(1)
			return echo(ctx, call, answer)
		})
		b.until(c, ids[0], lightcone.InvocationSucceeded)
		if again := b.accept(c, first); again.ID != ids[0] || again.Status != lightcone.InvocationSucceeded {
			t.Errorf("repeated after its end: %+v", again)
		}
		other := queued(t, "another body")
		other.IdempotencyKey = first.IdempotencyKey
		_, err := c.Accept(t.Context(), other)
		wantKind(t, err, problem.KeyReused)
		other.Call.Tenant = "other" // whose key it is not
		b.accept(c, other)
		if runs.Load() < 1 || runs.Load() > 2 { // the other tenant's may have run
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestARunningCallIsCancelled(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		started, killed := make(chan struct{}, 1), make(chan error, 1)
		var runs atomic.Int64
		b.work(c, func(ctx context.Context, _ *functions.Call, _ *functions.Answer) error {
			runs.Add(1)
			started <- struct{}{}
			<-ctx.Done()
			killed <- ctx.Err()
			return problem.New(problem.FunctionCrashed, "It was killed.")
		})
		q := queued(t, "long")
		b.accept(c, q)
		<-started
		began := time.Now()
		got, err := c.Cancel(t.Context(), "acme", q.Call.ID)
		if err != nil || got.Status != lightcone.InvocationCancelled || got.FinishedAt.IsZero() {
			t.Fatalf("%+v, %v", got, err)
		}
		<-killed
		t.Logf("killed after %v", time.Since(began))
		eventually(t, "an empty queue", func(context.Context) error {
			if left := kept(t, c.js, workStream); left != 0 {
				return fmt.Errorf("%d messages", left)
			}
			return nil
		})
		if again, err := c.Cancel(t.Context(), "acme", q.Call.ID); err != nil || again.Status != lightcone.InvocationCancelled {
			t.Errorf("cancelled again: %+v, %v", again, err)
		}
		_, err = c.Result(t.Context(), "acme", q.Call.ID)
		wantKind(t, err, problem.NotFinished)
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestAQueuedCallIsCancelled(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	q := queued(t, strings.Repeat("x", MostInline+1))
	q.Callback = "https://example.org/"
	b.accept(c, q)
	if got, err := c.Cancel(t.Context(), "acme", q.Call.ID); err != nil || got.Status != lightcone.InvocationCancelled || got.Attempts != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	for stream, want := range map[string]uint64{workStream: 0, callbacksStream: 1} {
		if got := kept(t, c.js, stream); got != want {
			t.Errorf("%s holds %d messages, not %d", stream, got, want)
		}
	}
	if left, err := c.warehouse.get(t.Context(), inputsBucket, inputName("acme", q.Call.ID)); left != nil || err != nil {
		t.Errorf("%d bytes of input are left, %v", len(left), err)
	}
}

func TestLargeInputsAndResults(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		b.work(c, echo)
		for _, size := range []int{0, MostInline, MostInline + 1, 5 << 20} {
			q := queued(t, strings.Repeat("0123456789abcdef", size/16+1)[:size])
			b.accept(c, q)
			b.until(c, q.Call.ID, lightcone.InvocationSucceeded)
			result, err := c.Result(t.Context(), "acme", q.Call.ID)
			if err != nil || string(result.Body) != string(q.Call.Body) {
				t.Fatalf("of %d bytes, %d came back: %v", size, len(result.Body), err)
			}
			eventually(t, "no input left", func(ctx context.Context) error {
				left, err := c.warehouse.get(ctx, inputsBucket, inputName("acme", q.Call.ID))
				if err == nil && left != nil {
					err = fmt.Errorf("%d bytes", len(left))
				}
				return err
			})
		}
	})
}
