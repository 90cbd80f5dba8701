package queue

import (
	"context"
	"sync"
)

// barrier makes reads linearizable: a write that a quorum confirms after a read began
// proves a sequence that the read has to be as new as. Reads that come while a write is
// under way share the one after it, as in etcd's ReadIndex; so there is at most one at
// a time, however many read.
type barrier struct {
	write func() (uint64, error) // bounded in time by itself
	spawn func(func())           // starts a goroutine that is waited for

	mu     sync.Mutex
	next   *crossing // of those who wait for the next write
	flying bool
}

// crossing is one write, and what came of it once done is closed.
type crossing struct {
	done     chan struct{}
	sequence uint64
	err      error
}

// cross returns a sequence that everything which was confirmed before is not above.
func (b *barrier) cross(ctx context.Context) (uint64, error) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &crossing{done: make(chan struct{})}
	}
	mine := b.next
	if !b.flying {
		b.flying = true
		b.spawn(b.fly)
	}
	b.mu.Unlock()
	select {
	case <-mine.done:
		return mine.sequence, mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// fly writes until nobody waits.
func (b *barrier) fly() {
	for {
		b.mu.Lock()
		c := b.next
		b.next = nil
		b.flying = c != nil
		b.mu.Unlock()
		if c == nil {
			return
		}
		c.sequence, c.err = b.write()
		close(c.done)
	}
}
