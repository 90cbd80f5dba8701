package queue

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
	"lightcone/internal/retry"
)

// Accept queues a call. Without an error a quorum has it on disk, and it will end.
// With an idempotency key that the tenant used for this function within Limits.Keep,
// it answers with the first call, whatever became of it. It keeps nothing of q.
//
// Errors: problem.KeyReused when the key came with another call; problem.TooLarge when
// query, headers and callback are together over some 20 KiB; problem.BadParameter for
// names that are none, and a timeout that is not positive; problem.LimitReached with
// Quota "queued_calls" when the tenant's share of the function's queue is full, and with
// "kept_bytes" when it has more than its share of what is kept (see Limits.KeptShare);
// problem.Overloaded when the whole queue is full, or when there is no quorum: then the
// call may have been accepted all the same, as Detail says. A refused call keeps its
// key, unless it was refused for "kept_bytes": it may be repeated, not replaced.
func (c *Client) Accept(ctx context.Context, q *functions.Queued) (lightcone.Invocation, error) {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	now := c.now()
	call := &q.Call
	j := job{
		ID: call.ID, Tenant: call.Tenant, Function: call.Function, CreatedAt: now, QueuedAt: now, Timeout: q.Timeout,
		Query: call.Query, ContentType: call.ContentType, Accept: call.Accept, Traceparent: call.Traceparent,
		Callback: q.Callback, InputBytes: int64(len(call.Body)), FarInput: len(call.Body) > MostInline,
	}
	if err := j.validate(); err != nil {
		return lightcone.Invocation{}, err
	}
	room := c.store.room()
	refused := room.beyond[j.Tenant].refusal(j.Tenant)
	if q.IdempotencyKey != "" {
		first, known, err := c.claim(ctx, &j, q, refused)
		if err != nil {
			return lightcone.Invocation{}, asProblem(err)
		}
		if known != nil {
			return known.invocation(), nil
		}
		j.ID, j.CreatedAt = first.ID, first.At // it is queued only now: its age counts from here
	}
	if refused != nil {
		return lightcone.Invocation{}, refused
	}
	if room.filled >= acceptBelow {
		return lightcone.Invocation{}, unavailable("The queue is full of what calls came to: try again later.", errFull)
	}
	r, err := c.accept(ctx, &j, call.Body, q.IdempotencyKey != "")
	if err != nil {
		return lightcone.Invocation{}, uncertain(err)
	}
	return r.invocation(), nil
}

// claimed is what KEYS holds under an idempotency key: the call that came with it
// first, and a digest of what has to be equal in those that come again.
type claimed struct {
	ID     lightcone.CallID
	At     time.Time
	Digest string
}

// claim takes the call's idempotency key for it, or finds who has it: then the call
// has the first one's id, and known is its record, unless it never came to have one.
// refused is why no key is to be taken; nil = it may be.
func (c *Client) claim(ctx context.Context, j *job, q *functions.Queued, refused error) (first claimed, known *record, err error) {
	subject := "key." + string(j.Tenant) + "." + digestOf([]byte(j.Function), []byte(q.IdempotencyKey))
	mine := claimed{ID: j.ID, At: j.CreatedAt, Digest: digestOf([]byte(j.Function), j.Query, j.ContentType, j.Accept, q.Call.Body, []byte(q.Callback))}
	first, err = c.store.claimKey(ctx, subject, mine, refused)
	switch {
	case err != nil:
		return first, nil, err
	case first.ID == mine.ID:
		return first, nil, nil
	case first.Digest != mine.Digest:
		return first, nil, problem.New(problem.KeyReused, "The Idempotency-Key came before, with another call (%s): use a new key for a new call.", first.ID)
	}
	found, err := c.ledger.readNow(ctx, j.Tenant, first.ID)
	return first, found.record, err
}

// claimKey returns who has the key, after this. It is refused that nobody has.
func (s *store) claimKey(ctx context.Context, subject string, mine claimed, refused error) (first claimed, err error) {
	m, err := message(subject, &mine, nil, "")
	if err != nil {
		return first, err
	}
	m.Header[nats.ExpectedLastSubjSeqHdr] = []string{"0"}
	for failures := 0; ; failures++ {
		// A key never changes, so whoever finds it has the truth.
		found, err := s.directGet(ctx, keysStream, subject)
		if err == nil && found != nil {
			err = decode(found.Header.Get(headHeader), &first)
			return first, err
		}
		if err == nil && refused != nil {
			return first, refused
		}
		if err == nil {
			if _, err = s.publishOnce(ctx, m); err == nil {
				return mine, nil
			}
			var refused *problem.Error
			if errors.As(err, &refused) {
				return first, err
			}
			if errors.Is(err, errFull) {
				return first, unavailable("The queue keeps no more idempotency keys: try again later, or without.", err)
			}
		}
		if retry.Pause(ctx, retry.BackOff(max(failures, 1), 20*time.Millisecond, time.Second, rand.Float64())) != nil {
			return first, fmt.Errorf("queue: idempotency key: %w", err)
		}
	}
}

// digestOf is the SHA-256 of parts, each with its length before it, in hexadecimal.
func digestOf(parts ...[]byte) string {
	hash := sha256.New()
	var length [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
