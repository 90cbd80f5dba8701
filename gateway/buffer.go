package gateway

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"lightcone/gateway/admission"
)

// Buffers come in size classes, four to each doubling, so that at most a fifth
// of one is waste, and a body of any size finds a used buffer that fits.
const (
	smallestShift = 12 // 4 KiB
	largestShift  = 28 // 256 MiB; larger ones are not pooled
	classes       = (largestShift-smallestShift)*4 + 1
)

var bufferPools [classes]sync.Pool

// buffer is memory for one body, of a size class.
type buffer struct {
	bytes []byte // its whole length is for use
	class int
}

// classOf finds the class for n bytes and that class's size. Above the largest
// class, the class is -1 and the size n.
func classOf(n int) (class, size int) {
	if n <= 1<<smallestShift {
		return 0, 1 << smallestShift
	}
	shift := bits.Len(uint(n-1)) - 1 // 1<<shift < n <= 2<<shift
	step := 1 << (shift - 2)
	steps := (n - 1<<shift + step - 1) / step
	class = (shift-smallestShift)*4 + steps
	if class >= classes {
		return -1, n
	}
	return class, 1<<shift + steps*step
}

// takeBuffer hands out a buffer for at least n bytes, with old content in it.
func takeBuffer(n int) *buffer {
	class, size := classOf(n)
	if class >= 0 {
		if used, ok := bufferPools[class].Get().(*buffer); ok {
			return used
		}
	}
	return &buffer{bytes: make([]byte, size), class: class}
}

// release gives the buffer back. Nobody may look at it any more.
func (b *buffer) release() {
	if b.class >= 0 {
		bufferPools[b.class].Put(b)
	}
}

// budget bounds the bytes in flight of all calls together.
type budget struct {
	limit int64
	used  atomic.Int64
}

// reserve takes n bytes if they fit.
func (b *budget) reserve(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// left is how many bytes fit.
func (b *budget) left() int64 { return b.limit - b.used.Load() }

// charge takes n bytes whether they fit or not: they exist already, and what
// they take is missing to the next reserve.
func (b *budget) charge(n int64) { b.used.Add(n) }

// release gives back n bytes.
func (b *budget) release(n int64) { b.used.Add(-n) }

// holding is the memory that one call takes, counted in the gateway's budget and
// for its tenant.
type holding struct {
	budget *budget
	grant  admission.Grant
	bytes  int64
}

// reserve takes n bytes if they fit, and if what the tenant then holds is no more
// than what it leaves free.
func (h *holding) reserve(n int64) error {
	if !h.budget.reserve(n) {
		return outOfBytes()
	}
	if !h.grant.Hold(h.bytes, n, h.budget.left()) {
		h.budget.release(n)
		return crowdedWithBytes()
	}
	h.bytes += n
	return nil
}

// charge takes n bytes that exist already.
func (h *holding) charge(n int64) {
	h.budget.charge(n)
	h.grant.Charge(n)
	h.bytes += n
}

// release gives back n bytes.
func (h *holding) release(n int64) {
	if n == 0 {
		return
	}
	h.budget.release(n)
	h.grant.Release(n)
	h.bytes -= n
}
