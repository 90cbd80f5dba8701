package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"lightcone/internal/retry"
)

// session is a Consul session that renews itself until it is lost or closed.
type session struct {
	id     string
	key    string
	client *Client // for everything but renewals
	own    *Client // for renewals: their connections wait for nothing else
	logger *slog.Logger
	now    func() time.Time

	ctx  context.Context // ends when the session is lost, with the reason as its cause
	end  context.CancelCauseFunc
	kept chan struct{} // closed when keep has returned

	mu    sync.Mutex
	lease lease
}

var errClosed = errors.New("the session was closed")

// open creates a session bound to the agent's own health: when the machine fails
// its peers' probes, the lock is free after the lock delay, not after the TTL.
func (e *Election) open(ctx context.Context) (*session, error) {
	options, cancel := e.client.writing(ctx)
	defer cancel()
	sent := e.config.Now()
	id, _, err := e.client.api.Session().Create(&api.SessionEntry{
		Name:       e.config.Name,
		TTL:        e.config.TTL.String(),
		LockDelay:  e.config.LockDelay,
		Behavior:   api.SessionBehaviorRelease,
		NodeChecks: []string{"serfHealth"},
	}, options)
	if err != nil {
		return nil, fmt.Errorf("create a Consul session for %q: %w", e.config.Key, err)
	}
	s := &session{
		id: id, key: e.config.Key, client: e.client, own: e.renewals, logger: e.logger, now: e.config.Now,
		kept:  make(chan struct{}),
		lease: lease{ttl: e.config.TTL, margin: e.config.Margin, proved: sent, tried: sent},
	}
	s.ctx, s.end = context.WithCancelCause(ctx)
	go s.keep()
	return s, nil
}

// keep renews until the session is lost or its context ends.
func (s *session) keep() {
	defer close(s.kept)
	for {
		now := s.now()
		held := s.state()
		if !held.trusted(now) {
			s.lose(errors.New("trust in the session has ended: no renewal went through in time"))
			return
		}
		next := held.renewAt(rand.Float64())
		if ends := held.trustEnds(); next.After(ends) {
			next = ends
		}
		if retry.Pause(s.ctx, next.Sub(now)) != nil {
			return
		}
		s.renew()
	}
}

func (s *session) renew() {
	sent := s.now()
	held := s.state()
	if !held.trusted(sent) {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, held.renewTimeout(sent))
	defer cancel()
	entry, _, err := s.own.api.Session().Renew(s.id, new(api.WriteOptions).WithContext(ctx))
	came := unknown
	switch {
	case err == nil && entry == nil:
		came = gone
	case err == nil:
		came = renewed
	}
	held = s.renewedTo(came, sent)
	if came == unknown && held.failures == 1 && s.ctx.Err() == nil {
		s.logger.Warn("a renewal of the session failed; trying again", "error", err, "trust_ends_in", held.trustEnds().Sub(s.now()))
	}
	if came == gone {
		s.lose(errors.New("the session was ended by Consul"))
	}
}

func (s *session) renewedTo(came outcome, sent time.Time) lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = s.lease.after(came, sent, s.now())
	return s.lease
}

func (s *session) state() lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// trusted reads the clock under the lock, so that no renewal that is being
// booked can bring back a trust that was once seen ended.
func (s *session) trusted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.trusted(s.now())
}

// lose ends the trust in the session, for good.
func (s *session) lose(why error) {
	s.mu.Lock()
	s.lease.lost = true
	s.mu.Unlock()
	s.end(why)
}

// close frees the key, if it is held, and the session. Consul may be away: then
// both end with the TTL.
func (s *session) close(within time.Duration) {
	s.lose(errClosed)
	<-s.kept
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), within)
	defer cancel()
	options := new(api.WriteOptions).WithContext(ctx)
	// A release comes first: ending a session that holds a key would bring the lock delay.
	pair := &api.KVPair{Key: s.key, Session: s.id}
	_, _, releaseErr := s.client.api.KV().Release(pair, options)
	_, destroyErr := s.client.api.Session().Destroy(s.id, options)
	if err := errors.Join(releaseErr, destroyErr); err != nil {
		s.logger.Warn("the session could not be freed; it ends with its TTL", "error", err)
	}
}
