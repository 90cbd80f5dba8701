package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lightcone"
)

// Backlog is how much a function has waiting.
type Backlog struct {
	Function lightcone.FunctionName
	Waiting  int           // calls that no worker has had yet
	Running  int           // calls that a worker has, or that wait to be tried again
	Oldest   time.Duration // how long the oldest of the Waiting has waited; 0 = none waits
}

// Backlogs lists the functions that have calls queued or running, by name. It is a
// measurement, not linearizable.
func (c *Client) Backlogs(ctx context.Context) ([]Backlog, error) {
	ctx, cancel := within(ctx, c.limits.Patience)
	defer cancel()
	queued, err := c.store.queued(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	var all []Backlog
	for function, lanes := range queued {
		b := Backlog{Function: function}
		for lane, n := range lanes {
			if n == 0 {
				continue
			}
			waiting, next, err := c.store.laneLength(ctx, function, lane)
			if errors.Is(err, jetstream.ErrConsumerNotFound) { // no worker was ever there
				waiting, next, err = n, 1, nil
			}
			if err != nil {
				return nil, asProblem(err)
			}
			b.Waiting += waiting
			b.Running += max(n-waiting, 0)
			if waiting == 0 {
				continue
			}
			since, err := c.store.waitingSince(ctx, function, lane, next)
			if err != nil {
				return nil, asProblem(err)
			}
			if !since.IsZero() {
				b.Oldest = max(b.Oldest, c.now().Sub(since))
			}
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Backlog) int { return cmp.Compare(a.Function, b.Function) })
	return all, nil
}

// queued is how many calls lie in the lanes of each function that has any.
func (s *store) queued(ctx context.Context) (map[lightcone.FunctionName]*[Lanes]int, error) {
	work, err := s.js.Stream(ctx, workStream)
	if err != nil {
		return nil, fmt.Errorf("queue: find the stream %s: %w", workStream, err)
	}
	info, err := work.Info(ctx, jetstream.WithSubjectFilter("work.>"))
	if err != nil {
		return nil, fmt.Errorf("queue: list the lanes in %s: %w", workStream, err)
	}
	queued := make(map[lightcone.FunctionName]*[Lanes]int)
	for subject, n := range info.State.Subjects {
		parts := strings.Split(subject, ".")
		lane, err := strconv.Atoi(parts[2])
		if err != nil || lane < 0 || lane >= Lanes {
			continue
		}
		function := lightcone.FunctionName(parts[1])
		if queued[function] == nil {
			queued[function] = new([Lanes]int)
		}
		queued[function][lane] += int(n)
	}
	return queued, nil
}

// laneLength is how many calls of a lane nobody has had yet, and the sequence from
// which on they lie.
func (s *store) laneLength(ctx context.Context, function lightcone.FunctionName, lane int) (waiting int, next uint64, err error) {
	consumer, err := s.js.Consumer(ctx, workStream, laneName(function, lane))
	if err != nil {
		return 0, 0, err
	}
	info := consumer.CachedInfo()
	return int(info.NumPending), info.Delivered.Stream + 1, nil
}

// waitingSince is when the first call of a lane from a sequence on was queued; zero
// when there is none any more.
func (s *store) waitingSince(ctx context.Context, function lightcone.FunctionName, lane int, from uint64) (time.Time, error) {
	m, err := s.nextGet(ctx, workStream, workSubject(function, lane, "*"), from)
	if m == nil || err != nil {
		return time.Time{}, err
	}
	var j job
	err = decode(m.Header.Get(headHeader), &j)
	return j.QueuedAt, err
}

// hearLengths asks how long a function's lanes are, for the choice of a lane.
func (s *store) hearLengths(function lightcone.FunctionName) {
	ctx, cancel := context.WithTimeout(context.Background(), tryFor)
	defer cancel()
	var lengths [Lanes]int
	for lane := range lengths {
		waiting, _, err := s.laneLength(ctx, function, lane)
		if err != nil {
			s.lengths.hear(function, lengths, false, time.Now())
			return
		}
		lengths[lane] = waiting
	}
	s.lengths.hear(function, lengths, true, time.Now())
}
