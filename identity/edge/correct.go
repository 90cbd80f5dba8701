package edge

import (
	"context"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"lightcone/identity"
	"lightcone/internal/retry"
)

// corrections are the documents that Redis may have in an older version than the
// origin: it would be believed for StaleFor when the origin goes away.
type corrections struct {
	mu      sync.Mutex
	waiting map[string]correction
	wake    chan struct{}
}

// correction is what Redis is to have of a document: at least that version.
type correction struct {
	version uint64
	known   kept // as the origin has it; version 0 until it was asked
	lagged  int  // times that the origin had only an older version
}

const (
	mostCorrections = 10_000      // documents waiting; what is beyond is counted as dropped
	mostLagged      = 100         // then it lags no more: it was set up anew from a copy
	correctAfter    = time.Second // at most: by then it was announced, and not all gateways ask the origin
)

func newCorrections() *corrections {
	return &corrections{waiting: make(map[string]correction), wake: make(chan struct{}, 1)}
}

// want has a document corrected, and is false when too many are waiting.
func (c *corrections) want(path string, wanted correction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, there := c.waiting[path]
	if !there && len(c.waiting) >= mostCorrections {
		return false
	}
	if !there || was.version < wanted.version || was.version == wanted.version && was.known.Version == 0 {
		c.waiting[path] = wanted
	}
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
	return true
}

// done ends the wait of a document that Redis has at the version.
func (c *corrections) done(path string, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[path].version <= version {
		delete(c.waiting, path)
	}
}

func (c *corrections) all() map[string]correction {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.waiting)
}

func (c *corrections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// wantCorrected has Redis corrected, if there is one that keeps such documents.
func (s *sources) wantCorrected(path string, wanted correction) {
	isOurs := strings.HasPrefix(path, identity.KeyPath("")) || strings.HasPrefix(path, identity.TenantPath(""))
	if s.config.Redis != nil && isOurs && !s.corrections.want(path, wanted) {
		s.metrics.uncorrected.Inc()
	}
}

// keepCorrecting corrects Redis until ctx ends; while it or the origin is away,
// again and again.
func (s *sources) keepCorrecting(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		pause := retry.BackOff(failures, 2*shortestBreak, longestBreak, rand.Float64())
		if failures == 0 {
			select {
			case <-ctx.Done():
				return
			case <-s.corrections.wake:
			}
			pause = time.Duration(rand.Int64N(int64(correctAfter)))
		}
		_ = retry.Pause(ctx, pause) // the loop asks ctx
		failures++
		if s.correctAll(ctx) {
			failures = 0
		}
	}
}

func (s *sources) correctAll(ctx context.Context) (all bool) {
	all = true
	for path, wanted := range s.corrections.all() {
		if ctx.Err() != nil {
			return false
		}
		if s.correct(ctx, path, wanted) {
			s.corrections.done(path, wanted.version)
		} else {
			all = false
		}
	}
	return all
}

// correct is true when Redis has nothing older than what is wanted, or never will.
func (s *sources) correct(ctx context.Context, path string, wanted correction) bool {
	if wanted.known.Version == 0 {
		has := s.fromRedis(ctx, path)
		if has.reaches(wanted.version) {
			return true
		}
		origin := s.fromOrigin(ctx, path, true)
		wanted.known = kept{Path: path, Version: origin.version, Confirmed: s.clock.wall(), Document: origin.value}
		switch {
		case origin.reply == absent && (has.reply == absent || wanted.version == 1):
			return true
		case origin.reply == absent: // or it lags behind one made anew, which must win
			wanted.known.Version = wanted.version - 1
		case !origin.reaches(wanted.version):
			return s.lags(path, origin, wanted)
		}
		s.corrections.want(path, wanted) // the origin may be away when Redis is back
	}
	return s.config.Redis.put(ctx, wanted.known) == nil
}

// lags notes that the origin does not have what is wanted. It is true when there is
// no more hope.
func (s *sources) lags(path string, origin seen, wanted correction) bool {
	if origin.reply != found {
		return false
	}
	wanted.known = kept{} // the version that it has is no correction
	wanted.lagged++
	s.corrections.want(path, wanted)
	if wanted.lagged < mostLagged {
		return false
	}
	s.metrics.uncorrected.Inc()
	return true
}
