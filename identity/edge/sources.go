package edge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"lightcone/internal/document"
)

// sources are the stores behind the memory, and what is known of how they stand.
type sources struct {
	config  Config
	clock   *clock
	origin  breaker
	budget  *rate.Limiter // for reads of the origin
	changes *changes

	corrections *corrections // of Redis

	metrics *metrics
	logger  *slog.Logger
}

const (
	originTimeout = 500 * time.Millisecond
	redisTimeout  = 250 * time.Millisecond // also to dial
)

// seen is a document as a store had it, and when the origin was last known to.
type seen struct {
	answer
	value     []byte
	confirmed instant
}

var errWithheld = errors.New("not asked: it keeps failing, or too much was asked of it")

// fromRedis asks Redis, if there is one and it does not keep failing.
func (s *sources) fromRedis(ctx context.Context, path string) seen {
	if s.config.Redis == nil {
		return seen{answer: answer{reply: failed}}
	}
	now := s.clock.now()
	kept, err := s.config.Redis.get(ctx, path)
	if err != nil {
		s.logger.Debug("Redis does not say.", "path", path, "error", err)
		outcome := failed
		if errors.Is(err, errWithheld) {
			outcome = notAsked
		}
		s.metrics.read("redis", outcome)
		return seen{answer: answer{reply: failed}}
	}
	result := seen{answer: answer{reply: absent}}
	if kept.Version > 0 {
		result = seen{answer: answer{reply: found, version: kept.Version, age: kept.age(s.clock.wall(), s.config.FreshFor)}, value: kept.Document}
		if len(kept.Document) == 0 {
			result.reply = deleted
		}
	}
	result.confirmed = now - int64(result.age)
	s.metrics.read("redis", result.reply)
	return result
}

// fromOrigin asks the origin within the budget. A call waits its turn there; a
// refresh leaves half of the budget to the calls.
func (s *sources) fromOrigin(ctx context.Context, path string, refresh bool) seen {
	refused := seen{answer: answer{reply: failed}}
	if !s.mayAskOrigin(ctx, refresh) {
		s.metrics.read("origin", notAsked)
		return refused
	}
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	now := s.clock.now() // before the question: what is true when it is answered was not changed since
	d, exists, err := s.config.Origin.Get(ctx, path)
	s.origin.report(unnamed(err, path), time.Now())
	result := seen{answer: answer{reply: absent}, confirmed: now}
	switch {
	case err != nil:
		s.logger.Debug("The origin does not say.", "path", path, "error", err)
		result = refused
	case exists:
		result.answer, result.value = answer{reply: found, version: d.Version}, d.Value
	}
	s.metrics.read("origin", result.reply)
	return result
}

// unnamed is an error without the document's name, which may be a key's.
func unnamed(err error, path string) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), path, "a document"))
}

func (s *sources) mayAskOrigin(ctx context.Context, refresh bool) bool {
	switch {
	case refresh && s.budget.Tokens() < float64(s.budget.Burst())/2:
		return false
	case refresh && !s.budget.Allow():
		return false
	case !refresh && s.budget.Wait(ctx) != nil:
		return false
	}
	return s.origin.allow(time.Now())
}

// remember tells Redis what the origin has just said. That it cannot be told is
// no reason to fail: it is told again with the next read, and before that if it may
// have an older version.
func (s *sources) remember(ctx context.Context, d document.Document, older bool) {
	if s.config.Redis == nil {
		return
	}
	k := kept{Path: d.Path, Version: d.Version, Confirmed: s.clock.wall(), Document: d.Value}
	if err := s.config.Redis.put(ctx, k); err != nil {
		if older {
			s.wantCorrected(d.Path, correction{version: d.Version, known: k})
		}
		s.logger.Debug("Redis cannot be told.", "path", d.Path, "error", err)
	}
}
