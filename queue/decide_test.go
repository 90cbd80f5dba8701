package queue

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"lightcone"
	"lightcone/functions"
	"lightcone/internal/problem"
)

// script reads the arguments of a transcript's line.
type script struct {
	t *testing.T
	d *datadriven.TestData
}

func (s script) text(key string) (value string) {
	if s.d.HasArg(key) {
		s.d.ScanArgs(s.t, key, &value)
	}
	return value
}

func (s script) number(key string) (value int) {
	if s.d.HasArg(key) {
		s.d.ScanArgs(s.t, key, &value)
	}
	return value
}

func (s script) duration(key string) time.Duration {
	text := s.text(key)
	if text == "" {
		return 0
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		s.d.Fatalf(s.t, "%s: %v", key, err)
	}
	return value
}

// epoch is when the transcripts begin.
var epoch = time.Unix(1_700_000_000, 0).UTC()

// TestDecisionTranscripts plays testdata/decide.txt: a call's record, and what becomes
// of it.
func TestDecisionTranscripts(t *testing.T) {
	limits := Limits{Attempts: 3, MaxAge: time.Hour, Keep: 24 * time.Hour, BackOffBase: time.Second, BackOffMost: time.Minute}.withDefaults()
	var held *record
	j := job{Tenant: "acme", Function: "echo", CreatedAt: epoch, QueuedAt: epoch}
	show := func(r *record) string {
		if r == nil {
			return "no record"
		}
		text := fmt.Sprintf("%s, generation %d, attempts %d", r.Status, r.Generation, r.Attempts)
		if r.Error != "" {
			text += fmt.Sprintf(", error %q", r.Error)
		}
		if r.Result != nil {
			text += fmt.Sprintf(", result %d %s, waited %v", r.Result.Status, r.Result.Problem, r.Result.Waited)
		}
		if r.Status.Final() {
			text += fmt.Sprintf(", finished at %v", r.FinishedAt.Sub(epoch))
		}
		return text
	}
	datadriven.RunTest(t, "testdata/decide.txt", func(t *testing.T, d *datadriven.TestData) string {
		s := script{t, d}
		now := epoch.Add(s.duration("at"))
		switch d.Cmd {
		case "none": // there is no record
			held = nil
			return show(held)
		case "accept":
			r := j.newRecord()
			held = &r
			return show(held)
		case "record": // as it may be found
			r := j.newRecord()
			r.Status, r.Generation, r.Attempts, r.Error = lightcone.InvocationStatus(s.text("status")), s.number("generation"), s.number("attempts"), strings.TrimSpace(d.Input)
			if r.StartedAt = epoch.Add(time.Second); r.Status.Final() {
				r.FinishedAt = epoch.Add(2 * time.Second)
			}
			held = &r
			return show(held)
		case "take":
			message := j
			message.Generation, message.QueuedAt = s.number("generation"), epoch.Add(s.duration("queued"))
			after, next := take(held, &message, now, limits)
			if next == stepRun || next == stepBury {
				held = &after
			}
			return fmt.Sprintf("%s: %s", next, show(held))
		case "end":
			var err error
			answer := functions.Answer{Status: s.number("status"), Problem: problem.Kind(s.text("named")), Body: []byte("said")}
			if kind := s.text("problem"); kind == "unknown" {
				err = errors.New("a secret path")
			} else if kind != "" {
				err = problem.New(problem.Kind(kind), "It is %s.", kind)
			}
			v, result := judge(err, &answer)
			random := 0.5
			after, next, wait := end(*held, v, &result, now, random, limits)
			held = &after
			return fmt.Sprintf("%s, %s, back in %v: %s", v, next, wait, show(held))
		case "cancel":
			after, changed := cancelled(*held, now)
			held = &after
			return fmt.Sprintf("changed %t: %s", changed, show(held))
		case "redrive":
			l := letter{Job: j}
			l.Job.Generation = s.number("letter")
			again, reason := redriven(held, &l, now)
			if !reason {
				return "no reason: " + show(held)
			}
			r := again.newRecord()
			held = &r
			return fmt.Sprintf("queued at %v: %s", again.QueuedAt.Sub(epoch), show(held))
		case "sweep":
			return fmt.Sprintf("stray %t", stray(held, s.text("buried") != "", epoch.Add(s.duration("stored")), now, limits))
		default:
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		}
	})
}

// TestTurnTranscripts plays testdata/turns.txt: which pulls a worker sends.
func TestTurnTranscripts(t *testing.T) {
	var worker turns
	state := func() string {
		var text []string
		for i := range worker.lanes {
			text = append(text, string(worker.lanes[i].state))
		}
		return strings.Join(text, " ")
	}
	datadriven.RunTest(t, "testdata/turns.txt", func(t *testing.T, d *datadriven.TestData) string {
		s := script{t, d}
		now := epoch.Add(s.duration("at"))
		lane := s.number("lane")
		switch d.Cmd {
		case "new":
			worker = turns{}
			return "ok"
		case "plan":
			text := "pulls:"
			for _, p := range worker.plan(s.number("room"), now) {
				text += fmt.Sprintf(" %d", p.lane)
				if p.wait {
					text += "(waits)"
				}
			}
			return text + "\n" + state()
		case "called":
			worker.called(lane)
		case "none":
			worker.none(lane, now)
		case "round": // each lane is asked in turn, and has none
			for range Lanes {
				for _, p := range worker.plan(1, now) {
					worker.none(p.lane, now)
				}
				now = now.Add(s.duration("each"))
			}
		case "all-none":
			for lane := range Lanes {
				worker.none(lane, now)
			}
		case "failed":
			worker.failed(lane, now)
		case "wake":
			if wake := worker.wake(); !wake.IsZero() {
				return fmt.Sprintf("at %v, work %t", wake.Sub(epoch), worker.work())
			}
			return fmt.Sprintf("never, work %t", worker.work())
		default:
			d.Fatalf(t, "unknown command %q", d.Cmd)
		}
		return state()
	})
}
