package queue

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

func TestReadersShareABarrierThatBeganAfterThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes, background = atomic.Uint64{}, sync.WaitGroup{}
		b := barrier{spawn: background.Go}
		b.write = func() (uint64, error) {
			n := writes.Add(1)
			time.Sleep(time.Second) // the quorum's time, in the test's own clock
			if n == 3 {
				return 0, errors.New("no quorum")
			}
			return n, nil
		}
		var readers sync.WaitGroup
		read := func(want uint64, fails bool) {
			readers.Go(func() {
				got, err := b.cross(t.Context())
				if got != want || (err != nil) != fails {
					t.Errorf("crossed as %d, %v; want %d", got, err, want)
				}
			})
		}
		read(1, false)
		synctest.Wait()
		for range 100 { // the first write began before them
			read(2, false)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		read(0, true)
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.cross(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reader that goes: %v", err)
		}
		readers.Wait()
		background.Wait()
		if writes.Load() != 3 {
			t.Errorf("%d writes", writes.Load())
		}
	})
}

func TestAClientMayComeBeforeTheNodes(t *testing.T) {
	b := &bed{t: t}
	t.Cleanup(b.tell)
	b.cluster = newCluster(t, 3)
	c := b.dial(testLimits)
	if err := c.Ready(); err == nil {
		t.Error("ready without nodes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.Accept(ctx, queued(t, "early"))
	wantKind(t, err, problem.Overloaded)
	b.work(c, echo)
	for _, node := range b.cluster.nodes {
		node.Start()
	}
	eventually(t, "a ready client", func(context.Context) error { return c.Ready() })
	q := queued(t, "x")
	b.accept(c, q)
	b.until(c, q.Call.ID, lightcone.InvocationSucceeded)
}
