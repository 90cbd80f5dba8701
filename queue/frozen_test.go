package queue

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestANodeThatHangsHoldsNobody stops the node that a client is connected to while
// more is written to it than its machine takes: nobody waits for it much longer than
// he is patient, and others take the client in.
func TestANodeThatHangsHoldsNobody(t *testing.T) {
	b := threeNodes(t)
	limits := testLimits
	limits.Patience = 3 * time.Second
	c := b.connect(limits)
	var hung *testNode
	for _, node := range b.cluster.nodes {
		if seatOf(c.nc.ConnectedServerName()) == node.config.Seat {
			hung = node
		}
	}
	if err := hung.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hung.process.Process.Signal(syscall.SIGCONT) })

	large := strings.Repeat("x", 512<<10)
	longest := limits.Patience + writePatience + 10*time.Second // of a machine that is busy
	var accepting sync.WaitGroup
	for range 48 { // 24 MiB: more than the kernel keeps for a connection
		accepting.Go(func() {
			began := time.Now()
			_, err := c.Accept(t.Context(), queued(t, large))
			if took := time.Since(began); took > longest {
				t.Errorf("accepting took %v (%v)", took, err)
			}
		})
	}
	accepting.Wait()
	if now := c.nc.ConnectedServerName(); seatOf(now) == hung.config.Seat {
		t.Errorf("the client is still connected to %s, which hangs", now)
	}
	b.accept(c, queued(t, "small"))
}
