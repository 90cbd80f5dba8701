package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

func TestATenantHasItsShareAndOthersHaveTheirs(t *testing.T) {
	limits := testLimits
	limits.TenantShare = 6
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		for i := range limits.TenantShare { // both lanes, though one may be taken for the shorter
			b.accept(c, queued(t, fmt.Sprint(i)))
		}
		large := queued(t, strings.Repeat("x", MostInline+1))
		_, err := c.Accept(t.Context(), large)
		if refused := wantKind(t, err, problem.LimitReached); refused.Quota != "queued_calls" || refused.RetryAfter <= 0 {
			t.Errorf("%+v", refused)
		}
		if left, err := c.warehouse.get(t.Context(), inputsBucket, inputName("acme", large.Call.ID)); left != nil || err != nil {
			t.Errorf("%d bytes of a refused call's input are left, %v", len(left), err)
		}
		_, err = c.Find(t.Context(), "acme", large.Call.ID)
		wantKind(t, err, problem.NotFound)
		other := queued(t, "other")
		other.Call.Tenant = "other"
		b.accept(c, other)
		b.work(c, echo)
		eventually(t, "room again", func(ctx context.Context) error {
			_, err := c.Accept(ctx, queued(t, "again"))
			return err
		})
	})
}

func TestAFullQueueIsOverloaded(t *testing.T) {
	limits := testLimits
	limits.MaxCalls = 3
	onEach(t, limits, func(t *testing.T, b *bed, c *Client) {
		for range 3 {
			b.accept(c, queued(t, ""))
		}
		_, err := c.Accept(t.Context(), queued(t, ""))
		if full := wantKind(t, err, problem.Overloaded); full.RetryAfter <= 0 || !strings.Contains(full.Detail, "full") {
			t.Errorf("%+v", full)
		}
	})
}

func TestWithoutAQuorumNothingIsAcceptedOrTold(t *testing.T) {
	b := threeNodes(t)
	c := b.connect(testLimits)
	q := queued(t, "before")
	b.accept(c, q)
	b.cluster.nodes[1].Kill()
	b.cluster.nodes[2].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := c.Accept(ctx, queued(t, "during"))
	if p := wantKind(t, err, problem.Overloaded); p.RetryAfter <= 0 {
		t.Errorf("%+v", p)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = c.Find(ctx, "acme", q.Call.ID)
	wantKind(t, err, problem.Overloaded)
	b.cluster.nodes[1].Start()
	b.cluster.nodes[2].Start()
	b.work(c, echo)
	b.until(c, q.Call.ID, lightcone.InvocationSucceeded)
}

func TestCallsAreAcceptedOverTheLossOfALeader(t *testing.T) {
	b := threeNodes(t)
	c := b.connect(testLimits)
	b.work(c, echo)
	var accepted sync.Map
	var accepting sync.WaitGroup
	var longest, count atomic.Int64
	stop := make(chan struct{})
	for range 8 {
		accepting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				q := queued(t, "x")
				if _, err := c.Accept(t.Context(), q); err != nil {
					t.Errorf("after %v: %v", time.Since(began), err)
					return
				}
				accepted.Store(q.Call.ID, true)
				count.Add(1)
				if took := int64(time.Since(began)); took > longest.Load() {
					longest.Store(took)
				}
			}
		})
	}
	leader := func() *testNode {
		stream, err := c.js.Stream(t.Context(), workStream)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range b.cluster.nodes {
			if name := stream.CachedInfo().Cluster.Leader; seatOf(name) == node.config.Seat {
				return node
			}
		}
		t.Fatal("WORK has no leader")
		return nil
	}
	more := func(n int64) {
		before := count.Load()
		eventually(t, fmt.Sprintf("%d more calls", n), func(context.Context) error {
			if got := count.Load() - before; got < n {
				return fmt.Errorf("%d are accepted", got)
			}
			return nil
		})
	}
	more(100)
	killed := leader()
	killed.Kill()
	more(100)
	killed.Start()
	close(stop)
	accepting.Wait()
	accepted.Range(func(id, _ any) bool {
		b.until(c, id.(lightcone.CallID), lightcone.InvocationSucceeded)
		return true
	})
	t.Logf("%d calls; the longest took %v to be accepted", count.Load(), time.Duration(longest.Load()))
}

func TestAWorkerWithoutRoomLeavesCallsToOthers(t *testing.T) {
	b := oneNode(t)
	c, full := b.connect(testLimits), b.connect(testLimits)
	var room atomic.Bool
	room.Store(true)
	b.workAs(full, WorkConfig{Function: "echo", AtOnce: 4, Room: room.Load, Run: func(context.Context, *functions.Call, *functions.Answer) error {
		t.Error("a call ran without room")
		return errors.New("no room")
	}})
	// Its pulls wait; now the room goes, and what they bring has to go to the other.
	eventually(t, "pulls", func(ctx context.Context) error {
		info, err := c.js.Consumer(ctx, workStream, laneName("echo", lanesOf("echo", "acme")[0]))
		if err == nil && info.CachedInfo().NumWaiting == 0 {
			err = errors.New("none waits")
		}
		return err
	})
	room.Store(false)
	b.work(c, echo)
	for range 20 {
		q := queued(t, "x")
		b.accept(c, q)
		if got := b.until(c, q.Call.ID, lightcone.InvocationSucceeded); got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
	}
}

// A lane that was empty when a worker asked is not forgotten over one that never is.
func TestABacklogThatNeverEndsDoesNotKeepOthersWaiting(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	other := queued(t, "other")
	for n := 0; ; n++ { // somebody who shares no lane
		other.Call.Tenant = lightcone.TenantID(fmt.Sprintf("tenant-%d", n))
		theirs, mine := lanesOf("echo", other.Call.Tenant), lanesOf("echo", "acme")
		if !slices.Contains(mine[:], theirs[0]) && !slices.Contains(mine[:], theirs[1]) {
			break
		}
	}
	for range 20 {
		b.accept(c, queued(t, "x"))
	}
	var runs atomic.Int64
	ctx, enough := context.WithCancel(t.Context())
	b.workAs(c, WorkConfig{Function: "echo", AtOnce: 1, Room: func() bool { return true }, Run: func(_ context.Context, call *functions.Call, answer *functions.Answer) error {
		if call.Tenant == "acme" && ctx.Err() == nil {
			runs.Add(1)
			if _, err := c.Accept(context.WithoutCancel(ctx), queued(t, "x")); err != nil { // one goes, one comes
				t.Error(err)
			}
		}
		return echo(ctx, call, answer)
	}})
	eventually(t, "a worker in the midst of it", func(context.Context) error {
		if n := runs.Load(); n < 40 {
			return fmt.Errorf("%d runs", n)
		}
		return nil
	})
	b.accept(c, other)
	b.ends(c, other)
	enough()
}

func TestNoMoreRunAtOnceThanAllowed(t *testing.T) {
	b := oneNode(t)
	c := b.connect(testLimits)
	var now, most, done atomic.Int64
	for i := range 60 {
		q := queued(t, "x")
		q.Call.Tenant = lightcone.TenantID(fmt.Sprintf("tenant-%d", i%12))
		b.accept(c, q)
	}
	b.workAs(c, WorkConfig{Function: "echo", AtOnce: 3, Room: func() bool { return true }, Run: func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		defer done.Add(1)
		time.Sleep(2 * time.Millisecond) // the function's own time
		return echo(ctx, call, answer)
	}})
	eventually(t, "all calls", func(context.Context) error {
		if n := done.Load(); n < 60 {
			return fmt.Errorf("%d are done", n)
		}
		return nil
	})
	if most.Load() > 3 {
		t.Errorf("%d ran at once", most.Load())
	}
}

func TestBacklogs(t *testing.T) {
	onEach(t, testLimits, func(t *testing.T, b *bed, c *Client) {
		if none, err := c.Backlogs(t.Context()); err != nil || len(none) != 0 {
			t.Errorf("of an empty queue: %+v, %v", none, err)
		}
		other := queued(t, "x")
		other.Call.Function = "resize" // nobody works on it
		b.accept(c, other)
		started, release := make(chan struct{}, 10), make(chan struct{})
		b.workAs(c, WorkConfig{Function: "echo", AtOnce: 2, Room: func() bool { return true }, Run: func(ctx context.Context, call *functions.Call, answer *functions.Answer) error {
			started <- struct{}{}
			<-release
			return echo(ctx, call, answer)
		}})
		for range 5 {
			b.accept(c, queued(t, "x"))
		}
		<-started
		<-started
		eventually(t, "the backlogs", func(ctx context.Context) error {
			got, err := c.Backlogs(ctx)
			if err != nil {
				return err
			}
			if len(got) != 2 || got[0].Function != "echo" || got[0].Waiting != 3 || got[0].Running != 2 || got[0].Oldest <= 0 ||
				got[1].Function != "resize" || got[1].Waiting != 1 || got[1].Running != 0 || got[1].Oldest < got[0].Oldest {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
		close(release)
	})
}
