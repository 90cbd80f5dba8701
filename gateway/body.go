package gateway

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"lightcone/internal/problem"
)

// firstChunkedBuffer is what a chunked body starts with, as nobody says how long
// it will be.
const firstChunkedBuffer = 64 << 10

// chunked is the length of a body that does not announce one, as fasthttp says it.
const chunked = -1

// bodyReader reads one body into a pooled buffer. Every byte of memory is
// reserved before it is taken.
type bodyReader struct {
	stream   io.Reader
	arm      func(time.Time) error // sets the connection's read deadline
	memory   *holding
	stall    time.Duration // longest silence
	deadline time.Time     // the call's, or the body's own
	accepts  bool          // the queue takes the call: the deadline is the body's own
	limit    int           // the function's longest body
}

// read reads length bytes, or up to the end of a chunked body. Whatever it
// returns, the caller owns the buffer, if there is one, and the reservation of
// its whole length.
func (r *bodyReader) read(length int) (*buffer, int, error) {
	size := length
	if length == chunked {
		size = min(firstChunkedBuffer, r.limit)
	}
	body, err := r.take(size)
	if err != nil {
		return nil, 0, err
	}
	filled := 0
	var armed time.Time
	for length == chunked || filled < length {
		if filled == len(body.bytes) || filled > r.limit {
			if filled > r.limit {
				return body, filled, tooLarge(r.limit)
			}
			if body, err = r.grow(body, filled); err != nil {
				return body, filled, err
			}
		}
		if now := time.Now(); now.Sub(armed) > r.stall/4 {
			if err := r.arm(earlier(r.deadline, now.Add(r.stall))); err != nil {
				return body, filled, cutShort(filled, length).Because(err)
			}
			armed = now
		}
		room := body.bytes[filled:]
		if length != chunked {
			room = body.bytes[filled:length]
		}
		n, err := r.stream.Read(room)
		filled += n
		if err == io.EOF && (length == chunked || filled == length) {
			break
		}
		if err != nil {
			return body, filled, r.failure(err, filled, length)
		}
	}
	if filled > r.limit {
		return body, filled, tooLarge(r.limit)
	}
	return body, filled, nil
}

// take reserves and takes a buffer for n bytes.
func (r *bodyReader) take(n int) (*buffer, error) {
	_, size := classOf(n)
	if err := r.memory.reserve(int64(size)); err != nil {
		return nil, err
	}
	return takeBuffer(n), nil
}

// grow moves the body to a buffer twice as long, or returns the old one and why not.
func (r *bodyReader) grow(old *buffer, filled int) (*buffer, error) {
	// One byte over the limit is enough to see that a body is over it.
	grown, err := r.take(min(2*len(old.bytes), max(r.limit, len(old.bytes))+1))
	if err != nil {
		return old, err
	}
	copy(grown.bytes, old.bytes[:filled])
	r.memory.release(int64(len(old.bytes)))
	old.release()
	return grown, nil
}

// failure says why reading the body failed.
func (r *bodyReader) failure(err error, filled, length int) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		if late := !time.Now().Before(r.deadline); late && r.accepts {
			return problem.New(problem.RequestTimeout, "The body did not come within %v (%d bytes had come), so the call was not accepted; send it faster.", acceptedBodyTime, filled).Because(err)
		} else if late {
			return problem.New(problem.DeadlineExceeded, "The call's deadline passed while Lightcone waited for the rest of its body (%d bytes had come); it was not run. Send the body sooner, or allow more time with X-Timeout.", filled).Because(err)
		}
		return problem.New(problem.RequestTimeout, "Nothing more of the body came for %v (%d bytes had come); send it without pauses.", r.stall, filled).Because(err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return cutShort(filled, length).Because(err)
	case length == chunked:
		return problem.New(problem.BadParameter, "The body's chunks are malformed after %d bytes.", filled).Because(err)
	default:
		return cutShort(filled, length).Because(err)
	}
}

func cutShort(filled, length int) *problem.Error {
	if length == chunked {
		return problem.New(problem.LengthMismatch, "The body ended after %d bytes, before its last chunk; send it whole.", filled)
	}
	return problem.New(problem.LengthMismatch, "The body ended after %d of the %d bytes that Content-Length announced; send it whole.", filled, length)
}

func tooLarge(limit int) *problem.Error {
	return problem.New(problem.TooLarge, "The body is longer than the %d bytes that this function takes; send a smaller one.", limit)
}

func outOfBytes() *problem.Error {
	return problem.New(problem.Overloaded, "Lightcone holds as many bytes of calls as it may; this one was not run, so it is safe to send it again.")
}

func crowdedWithBytes() *problem.Error {
	return problem.New(problem.Overloaded, "The calls of this key's tenant hold as many bytes here as are left for all others; this one was not run. Send it again when some of them have been answered.")
}

// discard reads what is left of a refused body of left bytes, if that is quick
// and little, and says whether the connection can serve another request.
func discard(stream io.Reader, left int, arm func(time.Time) error) bool {
	if left == 0 {
		return true
	}
	if left < 0 || left > drainBytes || arm(time.Now().Add(drainTime)) != nil {
		return false
	}
	buffer := waste.Get().(*[wasteSize]byte)
	defer waste.Put(buffer)
	// Alone, io.Discard would bring a buffer of its own, and a small one.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, stream, buffer[:])
	return err == nil && n == int64(left)
}

// waste holds buffers for what is read only to be thrown away: large, because
// refusing has to be cheap when there is much to refuse.
var waste = sync.Pool{New: func() any { return new([wasteSize]byte) }}

const wasteSize = 128 << 10

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
