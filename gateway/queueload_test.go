package gateway

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pressure is a simulated load on one queue.
type pressure struct {
	slots   int
	mean    time.Duration               // of the service times, which vary as photographs' do
	load    func(time.Duration) float64 // how many times the capacity comes, by the time since the start
	length  time.Duration
	patient bool // the line is never taken for a standing one: the queue as it would be without that rule
}

// outcomes are what became of the simulated calls.
type outcomes struct {
	waits, took                []time.Duration // sorted; of the answered
	answered, evicted, refused int
}

func (o outcomes) median() time.Duration { return o.waits[len(o.waits)/2] }

// simulate plays a load in a time of its own. Loads with equal fields bring the
// same calls at the same times, whatever the queue makes of them.
func simulate(o pressure) outcomes {
	const tick = 100 * time.Microsecond
	config := DefaultConfig()
	q := newQueue(queueRules{config.MaxWaitingCalls, config.MaxWait, config.InitialService, retryPause}, o.slots)
	arrivals, services := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	type busySlot struct {
		t    *ticket
		ends time.Time
	}
	var serving []busySlot
	var found outcomes
	begin := func(now time.Time, turns ...*ticket) {
		for _, turn := range turns {
			turn.started = now
			found.waits = append(found.waits, now.Sub(turn.joined))
			serving = append(serving, busySlot{turn, now.Add(time.Duration(services.ExpFloat64() * float64(o.mean)))})
		}
	}
	for at := time.Duration(0); at < o.length; at += tick {
		now := clock(at)
		for i := 0; i < len(serving); i++ {
			if done := serving[i]; !now.Before(done.ends) {
				serving = slices.Delete(serving, i, i+1)
				i--
				found.took = append(found.took, now.Sub(done.t.joined))
				begin(now, q.complete(now, now.Sub(done.t.started))...)
			}
		}
		for q.waiting.len() > 0 && !now.Before(q.limit(q.waiting.ring[q.waiting.head])) {
			_, turns := q.withdraw(now, q.waiting.ring[q.waiting.head])
			begin(now, turns...)
			found.evicted++
		}
		if arrivals.Float64() < o.load(at)*float64(o.slots)*float64(tick)/float64(o.mean) {
			if o.patient {
				q.above, q.cut = time.Time{}, false
			}
			added := &ticket{deadline: now.Add(5 * time.Second)}
			switch q.join(now, added) {
			case run:
				begin(now, added)
			case full, late:
				found.refused++
			}
		}
	}
	slices.Sort(found.waits)
	slices.Sort(found.took)
	found.answered = len(found.took)
	return found
}

// steadily is a load that does not change.
func steadily(load float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return load }
}

// TestQueueUnderOverload simulates a minute at three times the capacity: the slots
// stay busy, and what is answered is answered within the half second that is promised.
func TestQueueUnderOverload(t *testing.T) {
	o := pressure{slots: 2, mean: 10 * time.Millisecond, load: steadily(3), length: time.Minute}
	got := simulate(o)
	p99 := got.took[got.answered*99/100]
	t.Logf("answered %d, 99 of 100 within %v, took %d out of the queue", got.answered, p99, got.evicted)
	if fit := int(o.length / o.mean * time.Duration(o.slots)); got.answered < fit*95/100 {
		t.Errorf("%d calls were answered, %d fit", got.answered, fit)
	}
	if p99 >= 500*time.Millisecond {
		t.Errorf("99 of 100 answered calls took up to %v", p99)
	}
	if got.evicted > got.answered/100 {
		t.Errorf("%d calls were accepted and then refused", got.evicted)
	}
}

// TestAStandingLineIsCutShort compares the queue with one that always accepts the
// longest wait: under overload it answers as many, in less time; a burst that comes to
// an idle queue is served as before.
func TestAStandingLineIsCutShort(t *testing.T) {
	inBursts := func(load, rest float64, length, every time.Duration) func(time.Duration) float64 {
		return func(at time.Duration) float64 {
			if at%every < length {
				return load
			}
			return rest
		}
	}
	for _, test := range []struct {
		name     string
		slots    int
		mean     time.Duration
		load     func(time.Duration) float64
		overload bool // else no call may be refused that was not before
	}{
		{"2 slots, 10 ms, three times the capacity", 2, 10 * time.Millisecond, steadily(3), true},
		{"1 slot, 10 ms, three times the capacity", 1, 10 * time.Millisecond, steadily(3), true},
		{"32 slots, 10 ms, three times the capacity", 32, 10 * time.Millisecond, steadily(3), true},
		{"8 slots, 100 ms, three times the capacity", 8, 100 * time.Millisecond, steadily(3), true},
		{"2 slots, 10 ms, a little too much", 2, 10 * time.Millisecond, steadily(1.1), true},
		{"2 slots, 10 ms, bursts of ten times within overload", 2, 10 * time.Millisecond, inBursts(10, 2.3, 100*time.Millisecond, time.Second), true},
		{"2 slots, 10 ms, short bursts", 2, 10 * time.Millisecond, inBursts(3, 0, 90*time.Millisecond, time.Second), false},
		{"8 slots, 20 ms, bursts over a light load", 8, 20 * time.Millisecond, inBursts(2.5, 0.2, 90*time.Millisecond, time.Second), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := pressure{slots: test.slots, mean: test.mean, load: test.load, length: time.Minute}
			now := simulate(o)
			o.patient = true
			before := simulate(o)
			t.Logf("answered %d, before %d; median wait %v, before %v; refused %d, before %d",
				now.answered, before.answered, now.median(), before.median(), now.refused, before.refused)
			if now.answered < before.answered*99/100 {
				t.Errorf("%d calls were answered, %d before", now.answered, before.answered)
			}
			if test.overload && now.median() > before.median()*2/3 {
				t.Errorf("the median wait is %v, and was %v before", now.median(), before.median())
			}
			if !test.overload && now.refused > before.refused {
				t.Errorf("%d calls were refused, %d before", now.refused, before.refused)
			}
		})
	}
}
