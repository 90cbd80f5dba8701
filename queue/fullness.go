package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lightcone"
)

// A call needs room for its record when it is accepted, and for its result when it has
// been run. So calls are accepted only while there is more than enough, and run only
// while there is enough: what waits to be run is kept, what could not be stored would
// be run again, and given up.
const (
	acceptBelow = 0.90 // of what CALLS may hold
	runBelow    = 0.95

	fullnessStays = time.Second // for so long it is good enough to decide by
)

// room is what there is room for: how full CALLS is, from 0 to 1, and who has more than
// its share of what is kept. It is not to be changed.
type room struct {
	filled float64
	beyond map[lightcone.TenantID]excess
}

// fullness is the room as last heard. It is safe for concurrent use.
type fullness struct {
	mu     sync.Mutex
	at     time.Time // when it was last asked for
	asking bool
	heard  room      // for everybody, until it has been heard
	since  time.Time // when it was heard
}

// last is what was heard last; who has too much only while that word may hold. stale asks
// the caller to hear it anew, once.
func (f *fullness) last(now time.Time) (heard room, stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stale = !f.asking && now.Sub(f.at) > fullnessStays
	f.asking = f.asking || stale
	heard = f.heard
	if now.Sub(f.since) > beyondStays {
		heard.beyond = nil
	}
	return heard, stale
}

// hear takes the room in, or with an error that it could not be heard.
func (f *fullness) hear(heard room, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asking, f.at = false, now
	if err == nil {
		f.heard, f.since = heard, now
	}
}

// room is as it was last heard, a second ago or so.
func (s *store) room() room {
	heard, stale := s.fullness.last(time.Now())
	if stale {
		s.spawn(s.hearFullness)
	}
	return heard
}

func (s *store) hearFullness() {
	ctx, cancel := context.WithTimeout(context.Background(), tryFor)
	defer cancel()
	heard, err := s.askRoom(ctx)
	s.fullness.hear(heard, err, time.Now())
}

func (s *store) askRoom(ctx context.Context) (heard room, err error) {
	info, err := s.streamInfo(ctx, callsStream)
	if err != nil {
		return heard, fmt.Errorf("queue: how full %s is: %w", callsStream, err)
	}
	heard.filled = float64(info.State.Bytes) / float64(max(info.Config.MaxBytes, 1))
	heard.beyond, err = s.askBeyond(ctx)
	return heard, err
}
