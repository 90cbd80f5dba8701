package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"pgregory.net/rapid"

	"lightcone"
	"lightcone/functions"
)

// world is a fake of the nodes for the protocol's property, which no real ones can be:
// it stops before each step and lets the test choose who goes on and who is killed.
type world struct {
	t      *rapid.T
	limits Limits
	turn   *actor // who runs now

	sequence uint64
	history  []entry // of the one call's record: reads may be behind
	work     []*workMessage
	known    map[string]uint64 // message ids within the duplicates' window
	letter   *letter
	lettered uint64
	news     map[string]int
	input    bool

	told         []lightcone.UsageRecord
	acknowledged bool
	runs         map[int]int // by generation, those that the function saw
	calm         bool        // nobody is killed and nothing is lost any more
}

type workMessage struct {
	sequence uint64
	job      job
	gone     bool
}

// actor is a process in the middle of the protocol.
type actor struct {
	name string
	next func() (struct{}, bool)
	kill func()
	step func(struct{}) bool
}

type killed struct{}

var errSilence = errors.New("no answer")

// start begins an actor, which stops before its first step.
func (w *world) start(name string, act func()) *actor {
	a := &actor{name: name}
	a.next, a.kill = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if r := recover(); r != nil && r != (killed{}) {
				panic(r)
			}
		}()
		a.step = yield
		act()
	})
	return a
}

// pause is where an actor may be stopped, or killed for good.
func (w *world) pause() {
	a := w.turn
	if !a.step(struct{}{}) {
		panic(killed{})
	}
	w.turn = a
}

// silent draws whether an answer is lost.
func (w *world) silent() bool { return !w.calm && rapid.IntRange(0, 9).Draw(w.t, "silent") == 0 }

func (w *world) last() entry {
	if len(w.history) == 0 {
		return entry{}
	}
	return w.history[len(w.history)-1]
}

func (w *world) read(context.Context, lightcone.TenantID, lightcone.CallID) (entry, error) {
	w.pause()
	if w.calm {
		return w.last(), nil
	}
	behind := rapid.IntRange(0, 2).Draw(w.t, "behind")
	if behind >= len(w.history) {
		return entry{}, nil
	}
	return w.history[len(w.history)-1-behind], nil
}

func (w *world) readNow(context.Context, lightcone.TenantID, lightcone.CallID) (entry, error) {
	w.pause()
	return w.last(), nil
}

func (w *world) write(_ context.Context, r *record, body []byte, after uint64) (uint64, error) {
	w.pause()
	last := w.last()
	if last.sequence != after {
		return 0, errOutrun
	}
	if before := last.record; before != nil && before.Status.Final() {
		noted := before.Status == lightcone.InvocationCancelled && r.Status == before.Status && before.Spent == nil && r.Spent != nil
		if !noted && (before.Status != lightcone.InvocationDead || r.Generation <= before.Generation) {
			w.t.Fatalf("a final record changed from %+v to %+v", before, r)
		}
	}
	w.sequence++
	stored := *r
	w.history = append(w.history, entry{record: &stored, body: body, sequence: w.sequence})
	if w.silent() {
		return 0, errSilence
	}
	return w.sequence, nil
}

func (w *world) enqueue(_ context.Context, j *job, _ []byte) (uint64, error) {
	for {
		w.pause()
		id := messageID(j.ID, j.Generation)
		if w.known[id] == 0 {
			if !w.calm && rapid.IntRange(0, 9).Draw(w.t, "full") == 0 {
				return 0, &refusedError{}
			}
			w.sequence++
			w.known[id] = w.sequence
			w.work = append(w.work, &workMessage{sequence: w.sequence, job: *j})
		}
		if !w.silent() {
			return w.known[id], nil
		}
	}
}

func (w *world) bury(_ context.Context, l *letter, _ []byte) (uint64, error) {
	w.pause()
	w.sequence++
	copied := *l
	w.letter, w.lettered = &copied, w.sequence
	return w.sequence, nil
}

func (w *world) exhume(_ context.Context, sequence uint64) error {
	w.pause()
	if w.lettered == sequence {
		w.letter = nil
	}
	return nil
}

func (w *world) announce(_ context.Context, r *record, _ []byte) error {
	w.pause()
	w.news[messageID(r.ID, r.Generation)]++
	return nil
}

func (w *world) putInput(context.Context, *job, []byte) error {
	w.pause()
	w.input = true
	return nil
}

// renew stores the input again, also when it has been removed meanwhile.
func (w *world) renew(context.Context) error {
	w.pause()
	if !w.input {
		return errSilence
	}
	w.pause()
	w.input = true
	return nil
}

func (w *world) dropInput(context.Context, lightcone.TenantID, lightcone.CallID) error {
	w.pause()
	w.input = false
	return nil
}

func (w *world) putResult(_ context.Context, _ *record, body []byte) (string, error) {
	w.t.Fatalf("a result of %d bytes in the object store", len(body))
	return "", nil
}

func (w *world) dropResult(context.Context, string) error { return nil }

// handed is a message in a worker's hands.
type handed struct {
	w       *world
	message *workMessage
}

func (h handed) acknowledge(context.Context) error {
	h.w.pause()
	h.message.gone = true
	return nil
}

func (h handed) giveBack(time.Duration) {}

// run is the function, whose doings are drawn.
func (w *world) run(j *job) func(context.Context, *record) (verdict, functions.Result) {
	return func(context.Context, *record) (verdict, functions.Result) {
		if w.acknowledged && !w.input {
			w.t.Fatalf("the input of an accepted call is gone before its end: %+v", w.last().record)
		}
		v := verdictSucceeded
		if !w.calm {
			v = rapid.SampledFrom([]verdict{verdictSucceeded, verdictFailed, verdictRetry, verdictRetry, verdictUnseen, verdictRefused}).Draw(w.t, "verdict")
		}
		if v != verdictUnseen && v != verdictRefused {
			w.runs[j.Generation]++
		}
		w.pause()
		return v, functions.Result{Status: 200, Body: []byte(fmt.Sprint(w.sequence))}
	}
}

// tell is the ledger: it may fail, and the worker may be killed before and after it.
func (w *world) tell(used *lightcone.UsageRecord) error {
	w.pause()
	if w.silent() {
		return errSilence
	}
	w.told = append(w.told, *used)
	if w.told[0] != *used {
		w.t.Fatalf("told of %+v, and then of %+v", w.told[0], *used)
	}
	w.pause()
	return nil
}

// check holds the world to what has been promised.
func (w *world) check() {
	for generation, n := range w.runs {
		if n > w.limits.Attempts {
			w.t.Fatalf("generation %d was run %d times", generation, n)
		}
	}
	r := w.last().record
	if !w.acknowledged {
		return
	}
	if r == nil {
		w.t.Fatal("an accepted call has no record")
	}
	queued := func(generation int) bool {
		for _, m := range w.work {
			if !m.gone && m.job.Generation >= generation {
				return true
			}
		}
		return false
	}
	switch {
	case !r.Status.Final() && !queued(r.Generation):
		w.t.Fatalf("a call is lost: %+v", r)
	case r.Status == lightcone.InvocationDead && w.letter == nil && !queued(r.Generation+1):
		w.t.Fatalf("a dead letter is lost: %+v", r)
	}
}
