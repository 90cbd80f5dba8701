package queue

import (
	"context"
	"fmt"
	"sync"
	"time"
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

// fullness is how full CALLS is, as last heard. It is safe for concurrent use.
type fullness struct {
	mu     sync.Mutex
	at     time.Time
	asking bool
	share  float64 // 0 until it has been heard
}

// last is the share that was heard last. stale asks the caller to hear it anew, once.
func (f *fullness) last(now time.Time) (share float64, stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stale = !f.asking && now.Sub(f.at) > fullnessStays
	f.asking = f.asking || stale
	return f.share, stale
}

// hear takes a share in, or with an error that it could not be heard.
func (f *fullness) hear(share float64, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asking, f.at = false, now
	if err == nil {
		f.share = share
	}
}

// filled is how full CALLS is, from 0 to 1.
func (s *store) filled() float64 {
	share, stale := s.fullness.last(time.Now())
	if stale {
		s.spawn(s.hearFullness)
	}
	return share
}

func (s *store) hearFullness() {
	ctx, cancel := context.WithTimeout(context.Background(), tryFor)
	defer cancel()
	share, err := s.askFullness(ctx)
	s.fullness.hear(share, err, time.Now())
}

func (s *store) askFullness(ctx context.Context) (float64, error) {
	stream, err := s.js.Stream(ctx, callsStream)
	if err != nil {
		return 0, fmt.Errorf("queue: how full %s is: %w", callsStream, err)
	}
	info := stream.CachedInfo()
	return float64(info.State.Bytes) / float64(max(info.Config.MaxBytes, 1)), nil
}
