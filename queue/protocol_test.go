package queue

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"lightcone"
)

// TestNothingIsLostWhoeverIsKilled lets a call be accepted (by equal requests, too),
// delivered to any number of workers, cancelled and redriven, all at once and in any
// order of their steps, with answers that are lost and processes that are killed
// between any two steps. Then there is calm, and everything has to come to its end.
func TestNothingIsLostWhoeverIsKilled(t *testing.T) {
	endings := make(map[lightcone.InvocationStatus]int)
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, known: make(map[string]uint64), news: make(map[string]int), runs: make(map[int]int),
			limits: Limits{Attempts: 2}.withDefaults(),
		}
		now := epoch
		p := &protocol{ledger: w, outbox: w, warehouse: w, limits: w.limits, now: func() time.Time { return now }, random: func() float64 { return 0 }}
		j := job{Tenant: "acme", Function: "echo", CreatedAt: now, QueuedAt: now, Callback: "https://a/", FarInput: true}
		var actors []*actor
		defer func() {
			for _, a := range actors {
				a.kill()
			}
		}()
		begin := map[string]func() func(){
			"accept": func() func() {
				again := j
				return func() {
					if r, err := p.accept(t.Context(), &again, []byte("far"), true); err == nil {
						w.acknowledged = true
						if r.ID != j.ID {
							t.Fatalf("accepted as %v", r.ID)
						}
					}
				}
			},
			"deliver": func() func() {
				var left []*workMessage
				for _, m := range w.work {
					if !m.gone {
						left = append(left, m)
					}
				}
				if len(left) == 0 {
					return nil
				}
				m := rapid.SampledFrom(left).Draw(t, "message")
				a := &attempt{protocol: p, delivery: handed{w, m}, job: &m.job, work: m.sequence, run: w.run(&m.job), tell: w.tell}
				return func() { _ = a.process(t.Context()) }
			},
			"tend": func() func() {
				for _, m := range w.work {
					if !m.gone {
						a := &attempt{protocol: p, delivery: handed{w, m}, job: &m.job, work: m.sequence, tell: func(*lightcone.UsageRecord) error { return errUntold }}
						return func() { _ = a.process(t.Context()) }
					}
				}
				return nil
			},
			"cancel": func() func() {
				if rapid.IntRange(0, 3).Draw(t, "cancel at all") > 0 {
					return nil
				}
				return func() {
					r, changed, err := p.cancel(t.Context(), "acme", j.ID)
					if changed && err == nil {
						for _, m := range w.work {
							if m.sequence == r.Work {
								w.pause()
								m.gone = true
							}
						}
						_ = w.dropInput(t.Context(), "acme", j.ID)
					}
				}
			},
			"redrive": func() func() {
				if w.letter == nil {
					return nil
				}
				l, sequence := *w.letter, w.lettered
				return func() { _, _ = p.redrive(t.Context(), &l, nil, sequence, w.renew) }
			},
		}
		names := []string{"accept", "deliver", "deliver", "tend", "cancel", "redrive"}
		step := func(i int) {
			w.turn = actors[i]
			if _, more := actors[i].next(); !more {
				actors = append(actors[:i], actors[i+1:]...)
			}
			w.check()
		}
		for range rapid.IntRange(10, 120).Draw(t, "moves") {
			now = now.Add(1)
			move := rapid.IntRange(0, 19).Draw(t, "move")
			switch {
			case len(actors) == 0 || move < 4 && len(actors) < 6:
				name := rapid.SampledFrom(names).Draw(t, "who")
				if act := begin[name](); act != nil {
					actors = append(actors, w.start(name, act))
				}
			case move == 4:
				i := rapid.IntRange(0, len(actors)-1).Draw(t, "killed")
				actors[i].kill()
				actors = append(actors[:i], actors[i+1:]...)
			default:
				step(rapid.IntRange(0, len(actors)-1).Draw(t, "step"))
			}
		}
		w.calm = true
		for rounds := 0; ; rounds++ {
			for len(actors) > 0 {
				step(0)
			}
			act := begin["deliver"]()
			if act == nil {
				break
			}
			if rounds > 50 {
				t.Fatalf("there is no end: %+v", w.last().record)
			}
			actors = append(actors, w.start("deliver", act))
		}
		r := w.last().record
		if r == nil {
			if w.acknowledged {
				t.Fatal("no record")
			}
			return
		}
		endings[r.Status]++
		if !r.Status.Final() {
			t.Fatalf("with nothing left to do, the call is %+v", r)
		}
		if w.news[messageID(r.ID, r.Generation)] == 0 {
			t.Fatalf("nobody was told of the end: %+v", r)
		}
		if r.Spent != nil && r.Status != lightcone.InvocationCancelled && len(w.told) == 0 {
			t.Fatalf("nobody was told what it spent: %+v", r)
		}
		if r.Status == lightcone.InvocationDead && !w.input {
			t.Fatal("a dead letter without its input")
		}
	})
	t.Log(endings)
	for _, status := range []lightcone.InvocationStatus{lightcone.InvocationSucceeded, lightcone.InvocationFailed, lightcone.InvocationCancelled, lightcone.InvocationDead} {
		if endings[status] == 0 {
			t.Errorf("no call ended %s: the property says nothing about those", status)
		}
	}
}
