package main

import (
	"context"
	"fmt"
	random "math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lightcone/internal/retry"
)

// drill is one thing that goes wrong, on purpose, while clients and workers use the
// queue.
type drill struct {
	name, what string
	do         func(*region, context.Context, time.Duration) error // for about so long
}

// drills in their order; each has three nodes of its own.
var drills = []drill{
	{"steady", "nothing goes wrong", (*region).nothing},
	{"leader-killed", "the leader is killed, again and again, and started again", (*region).killLeader},
	{"follower-killed", "each follower is killed in its turn, and started again", (*region).killFollowers},
	{"two-killed", "two of three are killed: nothing may be accepted; then they come back", (*region).killTwo},
	{"node-cut-off", "the leader's cable is pulled, and plugged in again", (*region).cutLeader},
	{"all-killed", "all three are killed at once, and started again", (*region).killAll},
	{"worker-killed", "workers are killed in the middle of calls", (*region).killWorkers},
	{"worker-frozen", "a worker stands still until its calls have been given to others, and goes on", (*region).freezeWorker},
	{"gateway-killed", "clients are killed between the quorum and their answer", (*region).killClients},
	{"disk-full", "a node's disk is full, and has room again", (*region).fillDisk},
	{"disk-lost", "a node comes back with an empty disk; then another is killed", (*region).loseDisk},
	{"redelivered", "workers give calls back, ten times on average", (*region).redeliver},
}

func (r *region) nothing(ctx context.Context, lasting time.Duration) error {
	return retry.Pause(ctx, lasting)
}

// between is a random moment after the last change: sometimes at once, sometimes
// when all has settled.
func between(ctx context.Context) error {
	return retry.Pause(ctx, time.Duration(random.Int64N(int64(3*time.Second))))
}

// bounce kills a node, waits a moment, starts it again and waits until it is ready.
func (r *region) bounce(ctx context.Context, i int) error {
	r.killNode(i)
	if err := between(ctx); err != nil {
		return err
	}
	if err := r.startNode(i); err != nil {
		return err
	}
	return r.awaitReady(ctx)
}

func (r *region) killLeader(ctx context.Context, lasting time.Duration) error {
	kills := 0
	for began := time.Now(); kills == 0 || time.Since(began) < lasting; kills++ {
		if err := between(ctx); err != nil {
			return err
		}
		i, err := r.leader(ctx)
		if err != nil {
			return err
		}
		if err := r.bounce(ctx, i); err != nil {
			return err
		}
	}
	r.note("%d leaders killed", kills)
	return nil
}

func (r *region) killFollowers(ctx context.Context, lasting time.Duration) error {
	for began, kills := time.Now(), 0; kills < 3 || time.Since(began) < lasting; kills++ {
		leader, err := r.leader(ctx)
		if err != nil {
			return err
		}
		i := kills % 3
		if i == leader {
			continue
		}
		if err := r.bounce(ctx, i); err != nil {
			return err
		}
		if err := between(ctx); err != nil {
			return err
		}
	}
	return nil
}

// killTwo leaves one node, the leader or a follower, and tries to have a call accepted.
func (r *region) killTwo(ctx context.Context, lasting time.Duration) error {
	left, err := r.leader(ctx)
	if err != nil {
		return err
	}
	for i := range r.nodes {
		if i != left {
			r.killNode(i)
		}
	}
	// What was on its way when they died may still be told; afterwards nothing is.
	if err := retry.Pause(ctx, operationBound); err != nil {
		return err
	}
	began := clock()
	paused := retry.Pause(ctx, max(lasting, 2*operationBound))
	ended := clock()
	for i := range r.nodes {
		if i != left {
			if err := r.startNode(i); err != nil {
				return err
			}
		}
	}
	if paused != nil {
		return paused
	}
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	operations, err := r.operations()
	if err != nil {
		return err
	}
	for _, o := range operations {
		if !o.Failed && o.Ended > began && o.Ended < ended {
			return fmt.Errorf("without a quorum, %s of %s was answered with %q", o.Kind, o.Call, o.Said)
		}
	}
	r.note("%.0f s without a quorum: nothing was accepted, nothing was said", (ended - began).Seconds())
	return nil
}

func (r *region) cutLeader(ctx context.Context, lasting time.Duration) error {
	i, err := r.leader(ctx)
	if err != nil {
		return err
	}
	if err := network.Hosts[i].Cut(ctx); err != nil {
		return err
	}
	paused := retry.Pause(ctx, max(lasting, 12*time.Second))
	if err := network.Hosts[i].Heal(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if paused != nil {
		return paused
	}
	return r.awaitReady(ctx)
}

func (r *region) killAll(ctx context.Context, lasting time.Duration) error {
	for began, times := time.Now(), 0; times == 0 || time.Since(began) < lasting; times++ {
		if err := between(ctx); err != nil {
			return err
		}
		for i := range r.nodes {
			r.killNode(i)
		}
		for i := range r.nodes {
			if err := r.startNode(i); err != nil {
				return err
			}
		}
		if err := r.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *region) killWorkers(ctx context.Context, lasting time.Duration) error {
	kills := 0
	for began := time.Now(); kills < 3 || time.Since(began) < lasting; kills++ {
		if err := between(ctx); err != nil {
			return err
		}
		r.workers[kills].kill() // the one that has run longest; killing it twice at the end does no harm
		if err := r.startWorker(); err != nil {
			return err
		}
	}
	r.note("%d workers killed", kills)
	return nil
}

func (r *region) freezeWorker(ctx context.Context, lasting time.Duration) error {
	if err := between(ctx); err != nil {
		return err
	}
	w := r.workers[0]
	if err := w.freeze(); err != nil {
		return err
	}
	// Longer than a silent worker keeps its calls.
	paused := retry.Pause(ctx, max(lasting, 22*time.Second))
	if err := w.thaw(); err != nil {
		return err
	}
	if paused != nil {
		return paused
	}
	return retry.Pause(ctx, 3*time.Second) // it goes on with what it had
}

func (r *region) killClients(ctx context.Context, lasting time.Duration) error {
	kills := 0
	for began := time.Now(); kills < 6 || time.Since(began) < lasting; kills++ {
		if err := retry.Pause(ctx, time.Duration(random.Int64N(int64(time.Second)))); err != nil {
			return err
		}
		r.clients[kills].kill()
		if err := r.startClient(kills%4 - 1); err != nil {
			return err
		}
	}
	r.note("%d clients killed", kills)
	return nil
}

// smallDisk is the size of a disk that can be filled, in bytes.
const smallDisk = 256 << 20

// mountSmallDisk gives a node a disk that can be filled; before the node has started.
func (r *region) mountSmallDisk(i int) error {
	if err := os.MkdirAll(r.nodeDir(i), 0o700); err != nil {
		return err
	}
	return unix.Mount("lcqueue", r.nodeDir(i), "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk))
}

func (r *region) fillDisk(ctx context.Context, lasting time.Duration) error {
	i, err := r.leader(ctx)
	if err != nil {
		return err
	}
	// The node moves to a small disk first, with all that it has.
	r.killNode(i)
	had := r.nodeDir(i) + ".had"
	if err := os.Rename(r.nodeDir(i), had); err != nil {
		return err
	}
	if err := r.mountSmallDisk(i); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(r.nodeDir(i), unix.MNT_DETACH) }()
	if err := os.CopyFS(r.nodeDir(i), os.DirFS(had)); err != nil {
		return err
	}
	if err := r.startNode(i); err != nil {
		return err
	}
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	filler := filepath.Join(r.nodeDir(i), "filler")
	if err := fill(filler); err != nil {
		return err
	}
	paused := retry.Pause(ctx, max(lasting, 10*time.Second))
	if err := os.Remove(filler); err != nil {
		return err
	}
	if paused != nil {
		return paused
	}
	// A node that could not write stops writing until it is started again.
	if err := r.bounce(ctx, i); err != nil {
		return err
	}
	// Back to the disk that it had, so that the small one can go.
	r.killNode(i)
	now := r.nodeDir(i) + ".now"
	if err := os.CopyFS(now, os.DirFS(r.nodeDir(i))); err != nil {
		return err
	}
	if err := unix.Unmount(r.nodeDir(i), unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Remove(r.nodeDir(i)); err != nil {
		return err
	}
	if err := os.Rename(now, r.nodeDir(i)); err != nil {
		return err
	}
	if err := r.startNode(i); err != nil {
		return err
	}
	return r.awaitReady(ctx)
}

// fill writes until there is no room.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for range 2 * smallDisk / len(block) {
		if _, err := file.Write(block); err != nil {
			return nil // that is what was wanted
		}
	}
	return fmt.Errorf("%s: the disk cannot be filled", path)
}

func (r *region) loseDisk(ctx context.Context, lasting time.Duration) error {
	i, err := r.leader(ctx)
	if err != nil {
		return err
	}
	r.killNode(i)
	if err := os.RemoveAll(r.nodeDir(i)); err != nil {
		return err
	}
	if err := r.startNode(i); err != nil {
		return err
	}
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	if err := retry.Pause(ctx, lasting); err != nil {
		return err
	}
	return r.bounce(ctx, (i+1)%3)
}

// redeliver replaces the workers by such that mostly change their minds.
func (r *region) redeliver(ctx context.Context, lasting time.Duration) error {
	for _, w := range r.workers {
		if err := w.end(); err != nil {
			return err
		}
	}
	for range 2 {
		if err := r.startWorker("-reluctant"); err != nil {
			return err
		}
	}
	return retry.Pause(ctx, lasting)
}
