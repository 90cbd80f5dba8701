package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// ErrNotLeader is in the error of an effect that came after its term.
var ErrNotLeader = errors.New("the term of leadership is over")

// Term is one leader's time in office. Its methods may be called from any
// goroutine, also after it is over.
type Term struct {
	session *session
	epoch   uint64
}

// Epoch numbers the term: a later leader's is higher. It is the ModifyIndex of
// the election's key at its acquisition, which Consul never lets go down.
func (t Term) Epoch() uint64 { return t.epoch }

// Trusted says whether the term is still to be relied on, by comparing clocks: it
// turns false on time even if nothing else of this process has run. Look before
// every effect; false is for ever.
func (t Term) Trusted() bool { return t.session.trusted() }

// Until is when trust ends unless a renewal goes through before; it may be in the
// past. Compare it on this machine only: what counts is its monotonic reading.
func (t Term) Until() time.Time { return t.session.state().trustEnds() }

// PutFenced writes a key if this term still holds the election's lock and the key
// is still at index (0: does not exist). Consul checks both in one transaction,
// so no clock matters. It answers false without an error when the index was
// another, and an error with ErrNotLeader when the term is over. After any other
// error nobody knows whether it wrote: read the key again.
func (t Term) PutFenced(ctx context.Context, key string, value []byte, index uint64) (bool, error) {
	if !t.Trusted() {
		return false, fmt.Errorf("put the Consul key %q in term %d: %w", key, t.epoch, ErrNotLeader)
	}
	ctx, cancel := context.WithDeadline(ctx, t.Until())
	defer cancel()
	ok, err := t.session.putFenced(ctx, key, value, index)
	if errors.Is(err, ErrNotLeader) {
		t.session.lose(err)
	}
	if err != nil {
		return false, fmt.Errorf("put the Consul key %q at index %d in term %d: %w", key, index, t.epoch, err)
	}
	return ok, nil
}

// putFenced asks Consul without looking at the clock.
func (s *session) putFenced(ctx context.Context, key string, value []byte, index uint64) (bool, error) {
	options, cancel := s.client.reading(ctx)
	defer cancel()
	ok, response, _, err := s.client.api.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVCheckSession, Key: s.key, Session: s.id}},
		{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: value, Index: index}},
	}, options)
	if err != nil || ok {
		return ok, err
	}
	return false, refusal(response.Errors)
}

// refusal tells a lost lock from a changed key (nil) and from anything else.
func refusal(reasons api.TxnErrors) error {
	var errs []error
	for _, reason := range reasons {
		switch {
		case strings.Contains(reason.What, "index is stale"): // Consul's words for a compare-and-set that did not match
		case reason.OpIndex == 0 && !strings.Contains(reason.What, "Permission denied"):
			errs = append(errs, fmt.Errorf("%w: %s", ErrNotLeader, reason.What))
		default:
			errs = append(errs, errors.New(reason.What))
		}
	}
	return errors.Join(errs...)
}
