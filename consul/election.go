package consul

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/hashicorp/consul/api"

	"lightcone/internal/retry"
)

// ElectionConfig describes an office and a candidate for it.
type ElectionConfig struct {
	Key  string // the Consul key whose lock is the office
	Name string // the candidate's, for people who look at the key; empty means the host's
	// TTL is how long a silent leader keeps the office at least; Consul takes up to
	// twice as long to give it to another. 0 means 15 s; Consul wants 10 s to 24 h.
	TTL time.Duration
	// LockDelay is how long the office stays empty after a leader that did not
	// release it, up to 60 s. 0 means the TTL: Consul can end a session early (its
	// machine looks dead to the others), and no leader trusts itself for longer
	// than a TTL after it was last well.
	LockDelay time.Duration
	// Margin is by how much a leader's trust ends early; 0 means a tenth of the TTL.
	Margin time.Duration
	Logger *slog.Logger     // nil means the client's
	Now    func() time.Time // nil means time.Now; its readings must be monotonic
}

// Election is one candidate. Make it with NewElection.
type Election struct {
	client   *Client
	renewals *Client
	config   ElectionConfig
	logger   *slog.Logger
}

// NewElection prepares a candidate; Run makes it stand.
func NewElection(client *Client, config ElectionConfig) *Election {
	config.TTL = cmp.Or(config.TTL, 15*time.Second)
	config.LockDelay = cmp.Or(config.LockDelay, config.TTL)
	config.Margin = cmp.Or(config.Margin, config.TTL/10)
	if config.Name == "" {
		config.Name, _ = os.Hostname() // only for people: none is fine
	}
	if config.Logger == nil {
		config.Logger = client.config.Logger
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Election{client: client, config: config, logger: config.Logger.With("election", config.Key)}
}

// Run stands for election again and again until ctx ends, and calls lead for each
// term won. lead's context ends with the trust in the term; lead must return
// then. Until it has, Run neither frees the office nor stands again. If lead
// returns by itself, with or without an error, Run frees the office, pauses and
// stands again.
//
// Run returns nil when ctx has ended, lead has returned and the office is free
// (or the attempt to free it took a third of the TTL). It returns an error only
// for a configuration that cannot work.
func (e *Election) Run(ctx context.Context, lead func(ctx context.Context, term Term) error) error {
	if e.config.Key == "" || e.config.Margin < 0 || e.config.Margin > e.config.TTL/2 {
		return fmt.Errorf("stand for election with key %q, TTL %v, margin %v: want a key, and a margin of at most half the TTL",
			e.config.Key, e.config.TTL, e.config.Margin)
	}
	renewals, err := connect(e.client.config)
	if err != nil {
		return err
	}
	defer renewals.Close()
	e.renewals = renewals
	failures := 0
	for ctx.Err() == nil {
		began := e.config.Now()
		err := e.campaign(ctx, lead)
		if ctx.Err() != nil {
			break
		}
		failures++
		if e.config.Now().Sub(began) > e.config.TTL {
			failures = 1
		}
		if failures == 1 {
			e.logger.Warn("standing for election again", "because", err)
		}
		_ = retry.Pause(ctx, retry.BackOff(failures, e.config.TTL/20, e.config.TTL, rand.Float64())) // the loop looks at ctx
	}
	return nil
}

// campaign stands with one session, for at most one term.
func (e *Election) campaign(ctx context.Context, lead func(context.Context, Term) error) error {
	s, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer s.close(e.config.TTL / 3)
	term, err := e.win(s)
	if err != nil {
		return err
	}
	return e.hold(term, lead)
}

// win waits until the key's lock is the session's; it fails when the session is
// lost. An attempt whose answer is lost is repeated: to acquire twice is harmless.
func (e *Election) win(s *session) (Term, error) {
	failures := 0
	for s.ctx.Err() == nil {
		entry, won, err := e.try(s)
		switch {
		case err != nil:
			failures++
			if failures == 1 && s.ctx.Err() == nil {
				e.logger.Warn("Consul does not say who leads; asking again", "error", err)
			}
			_ = retry.Pause(s.ctx, retry.BackOff(failures, e.config.TTL/30, e.config.TTL/3, rand.Float64()))
		case won:
			return Term{session: s, epoch: entry.ModifyIndex}, nil
		default:
			failures = 0
			// The lock delay is still running, or all the candidates woke up together.
			_ = retry.Pause(s.ctx, rand.N(e.config.TTL/15))
		}
	}
	return Term{}, context.Cause(s.ctx)
}

// try acquires the key, or waits until it looks free. The index at which the key
// is read back, ours, is the term's epoch.
func (e *Election) try(s *session) (*api.KVPair, bool, error) {
	value, err := json.Marshal(e.card())
	if err != nil {
		return nil, false, fmt.Errorf("describe the candidate: %w", err)
	}
	options, cancel := e.client.writing(s.ctx)
	won, _, err := e.client.api.KV().Acquire(&api.KVPair{Key: s.key, Value: value, Session: s.id}, options)
	cancel()
	if err != nil {
		return nil, false, fmt.Errorf("acquire the Consul key %q: %w", s.key, err)
	}
	if !won {
		_, err := s.waitWhile(func(holder string) bool { return holder != "" && holder != s.id })
		return nil, false, err
	}
	reading, cancel := e.client.reading(s.ctx)
	defer cancel()
	reading.RequireConsistent = true
	pair, _, err := e.client.api.KV().Get(s.key, reading)
	if err != nil {
		return nil, false, fmt.Errorf("read back the Consul key %q: %w", s.key, err)
	}
	return pair, pair != nil && pair.Session == s.id, nil
}

// waitWhile follows who holds the key until the condition is over, and says who
// holds it then: a session, or "".
func (s *session) waitWhile(condition func(holder string) bool) (holder string, err error) {
	for index := uint64(0); ; {
		options, cancel := s.client.blocking(s.ctx, index, longestWait)
		options.RequireConsistent = true // a server that is still reading its log knows an older holder
		pair, meta, err := s.client.api.KV().Get(s.key, options)
		cancel()
		if err != nil {
			return "", fmt.Errorf("follow the Consul key %q: %w", s.key, err)
		}
		holder = ""
		if pair != nil {
			holder = pair.Session
		}
		if !condition(holder) {
			return holder, nil
		}
		if meta.LastIndex < index {
			meta.LastIndex = 0
		}
		index = max(meta.LastIndex, 1)
	}
}

// hold runs lead for a term and returns when it has returned.
func (e *Election) hold(term Term, lead func(context.Context, Term) error) error {
	s := term.session
	if !term.Trusted() {
		return context.Cause(s.ctx)
	}
	logger := e.logger.With("epoch", term.epoch)
	logger.Info("leading", "name", e.config.Name)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.guard()
	}()
	result := make(chan error, 1)
	go func() { result <- lead(s.ctx, term) }()

	err := e.outcomeOf(s, logger, result)
	s.lose(errClosed)
	<-watched
	logger.Info("not leading any more", "because", err)
	return err
}

// outcomeOf waits for lead, and says so when lead does not heed its context.
func (e *Election) outcomeOf(s *session, logger *slog.Logger, result <-chan error) error {
	select {
	case err := <-result:
		if err == nil {
			err = errors.New("the leader's work returned")
		}
		return err
	case <-s.ctx.Done():
	}
	slow := time.AfterFunc(e.config.TTL/3, func() {
		logger.Warn("the term is over, but the leader's work has not returned; the office waits for it")
	})
	defer slow.Stop()
	<-result // what it says now is that it was interrupted
	return context.Cause(s.ctx)
}

// guard gives the term up when the key is not the session's any more, as after an
// operator deleted it: the session lives on then, and so would the trust.
func (s *session) guard() {
	for failures := 0; s.ctx.Err() == nil; {
		holder, err := s.waitWhile(func(holder string) bool { return holder == s.id })
		if err == nil {
			s.lose(fmt.Errorf("the key is held by session %q now", holder))
			return
		}
		failures++ // the lease decides how long that may go on
		_ = retry.Pause(s.ctx, retry.BackOff(failures, s.state().ttl/30, s.state().ttl/3, rand.Float64()))
	}
}

// card is the key's value while a candidate leads, for people to read.
type card struct {
	Name  string    `json:"name"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

func (e *Election) card() card {
	host, _ := os.Hostname() // only for people: none is fine
	return card{Name: e.config.Name, Host: host, PID: os.Getpid(), Since: e.config.Now().UTC()}
}
