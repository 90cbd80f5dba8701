package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// clock is a queue test's time: an offset from an arbitrary start.
func clock(offset time.Duration) time.Time { return time.Unix(1_000_000, 0).Add(offset) }

// TestQueueTranscripts plays testdata/queue.txt: what the queue decided, line by
// line, with the state after it.
func TestQueueTranscripts(t *testing.T) {
	var q *queue
	tickets := map[string]*ticket{}
	names := map[*ticket]string{}
	name := func(turns []*ticket) string {
		var text []string
		for _, turn := range turns {
			text = append(text, names[turn])
		}
		return strings.Join(text, " ")
	}
	state := func() string {
		var waiting []*ticket
		for i := range q.waiting.len() {
			waiting = append(waiting, q.waiting.ring[q.waiting.at(i)])
		}
		return fmt.Sprintf("running %d of %d, waiting [%s], service %v", q.running, q.slots, name(waiting), q.service.Round(10*time.Microsecond))
	}
	datadriven.RunTest(t, "testdata/queue.txt", func(t *testing.T, d *datadriven.TestData) string {
		duration := func(key string, otherwise time.Duration) time.Duration {
			if !d.HasArg(key) {
				return otherwise
			}
			var text string
			d.ScanArgs(t, key, &text)
			value, err := time.ParseDuration(text)
			if err != nil {
				d.Fatalf(t, "%s: %v", key, err)
			}
			return value
		}
		number := func(key string) (n int) { d.ScanArgs(t, key, &n); return n }
		called := func() (*ticket, string) {
			var name string
			d.ScanArgs(t, "call", &name)
			return tickets[name], name
		}
		now := clock(duration("at", 0))
		switch d.Cmd {
		case "new":
			q = newQueue(queueRules{
				maxWaiting:     number("max-waiting"),
				maxWait:        duration("max-wait", 0),
				initialService: duration("service", 0),
				retryPause:     5 * time.Millisecond,
			}, number("slots"))
			return state()
		case "judge":
			return q.judge(now, clock(duration("deadline", time.Minute))).String()
		case "join":
			_, called := called()
			added := &ticket{deadline: clock(duration("deadline", time.Minute))}
			tickets[called], names[added] = added, called
			return fmt.Sprintf("%v: %s", q.join(now, added), state())
		case "join-many": // as line0, line1, …
			var said verdict
			for range number("calls") {
				called := fmt.Sprint("line", q.waiting.len())
				added := &ticket{deadline: clock(duration("deadline", time.Minute))}
				tickets[called], names[added] = added, called
				said = q.join(now, added)
			}
			return fmt.Sprintf("%v: running %d, waiting %d", said, q.running, q.waiting.len())
		case "complete-many":
			for range number("calls") {
				q.complete(now, duration("service", 0))
			}
			return fmt.Sprintf("running %d, waiting %d", q.running, q.waiting.len())
		case "complete":
			return fmt.Sprintf("turn of [%s]: %s", name(q.complete(now, duration("service", 0))), state())
		case "abandon":
			return fmt.Sprintf("turn of [%s]: %s", name(q.abandon(now)), state())
		case "promote":
			return fmt.Sprintf("turn of [%s]: %s", name(q.promote(now)), state())
		case "resize":
			return fmt.Sprintf("turn of [%s]: %s", name(q.resize(now, number("slots"), duration("cold-start", 0))), state())
		case "put-back":
			back, _ := called()
			q.putBack(now, back)
			return state()
		case "withdraw":
			out, _ := called()
			waited, turns := q.withdraw(now, out)
			return fmt.Sprintf("waited %v, turn of [%s]: %s", waited, name(turns), state())
		case "limit":
			waiting, _ := called()
			return fmt.Sprintf("at %v", q.limit(waiting).Sub(clock(0)))
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		}
	})
}

// checkTolerance checks the bound on the accepted wait: a young line has all of the
// patience, and an old one is never cut so short that the slots could idle.
func checkTolerance(t *rapid.T, q *queue, now, deadline time.Time, said verdict) {
	predicted, patience := q.predictedWait(), max(q.rules.maxWait, 4*q.service)
	inTime := !now.Add(predicted + q.service).After(deadline)
	young := !q.cut && (q.above.IsZero() || now.Sub(q.above) < patience)
	if said == late && inTime && young && predicted <= patience {
		t.Fatalf("refused with a predicted wait of %v and the line long since %v", predicted, now.Sub(q.above))
	}
	if said == late && inTime && predicted <= patience && (q.waiting.len() < 7 || predicted <= 2*q.service || predicted <= patience/4) {
		t.Fatalf("refused with %d waiting, for %v, at %v a call", q.waiting.len(), predicted, q.service)
	}
	if q.waiting.len() == 0 && !young {
		t.Fatalf("an empty line stands since %v", q.above)
	}
}

// TestQueueKeepsItsPromises plays random histories against the queue's invariants.
func TestQueueKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(queueRules{
			maxWaiting:     rapid.IntRange(0, 20).Draw(t, "maxWaiting"),
			maxWait:        time.Duration(rapid.IntRange(1, 300).Draw(t, "maxWait")) * time.Millisecond,
			initialService: time.Duration(rapid.IntRange(1, 50).Draw(t, "service")) * time.Millisecond,
			retryPause:     5 * time.Millisecond,
		}, rapid.IntRange(0, 4).Draw(t, "slots"))
		now := clock(0)
		var running []*ticket
		var line []*ticket         // who should be waiting, in order
		asks := map[*ticket]bool{} // who was put back, and so asks again every few milliseconds
		most := q.slots            // the largest number of slots while the present calls started
		start := func(turns []*ticket) {
			for i, turn := range turns {
				if len(line) == 0 || line[0] != turn {
					t.Fatalf("turn %d of %d is not that of the call in front", i, len(turns))
				}
				line, running = line[1:], append(running, turn)
			}
			if len(turns) > 0 && len(running) > q.slots {
				t.Fatalf("%d calls run on %d slots", len(running), q.slots)
			}
			if len(turns) > 0 && !q.pause.IsZero() && len(running) > q.share {
				t.Fatalf("%d calls run, though the worker has room for %d", len(running), q.share)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
			},
			"join": func(t *rapid.T) {
				added := &ticket{deadline: now.Add(time.Duration(rapid.IntRange(-5, 500).Draw(t, "deadline")) * time.Millisecond)}
				expected := q.judge(now, added.deadline)
				predicted := q.predictedWait()
				checkTolerance(t, q, now, added.deadline, expected)
				said := q.join(now, added)
				if said != expected {
					t.Fatalf("joined with %v after being judged %v", said, expected)
				}
				switch said {
				case run:
					if len(line) > 0 || len(running) >= q.slots {
						t.Fatalf("runs past %d waiting and %d running on %d slots", len(line), len(running), q.slots)
					}
					running = append(running, added)
				case wait:
					if cold := now.Add(q.coldStart); q.slots == 0 && q.coldStart > 0 {
						if limit := q.limit(added); limit.After(added.deadline) || limit.Before(cold) && limit.Before(added.deadline) {
							t.Fatalf("waits for the first slot until %v, with the deadline %v", limit, added.deadline)
						}
					} else if predicted > max(q.rules.maxWait, 4*q.service) || now.Add(predicted+q.service).After(added.deadline) {
						t.Fatalf("waits, though it is predicted to wait %v", predicted)
					}
					line = append(line, added)
				}
			},
			"complete": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip("nothing runs")
				}
				running = running[1:]
				start(q.complete(now, time.Duration(rapid.IntRange(0, 100).Draw(t, "service"))*time.Millisecond))
			},
			"put back": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip("nothing runs")
				}
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				back := running[i]
				running = slices.Delete(running, i, i+1)
				place := slices.IndexFunc(line, func(other *ticket) bool { return !other.joined.Before(back.joined) })
				if place < 0 {
					place = len(line)
				}
				line = slices.Insert(line, place, back)
				q.putBack(now, back)
				asks[back] = true
			},
			"ask again": func(t *rapid.T) { start(q.promote(now)) },
			"withdraw": func(t *rapid.T) {
				if len(line) == 0 {
					t.Skip("nobody waits")
				}
				i := rapid.IntRange(0, len(line)-1).Draw(t, "position")
				out := line[i]
				line = slices.Delete(line, i, i+1)
				waited, turns := q.withdraw(now, out)
				if !waited {
					t.Fatal("a waiting call was not found")
				}
				start(turns)
				if again, _ := q.withdraw(now, out); again {
					t.Fatal("a call was withdrawn twice")
				}
			},
			"resize": func(t *rapid.T) {
				slots := rapid.IntRange(0, 4).Draw(t, "slots")
				most = max(most, slots)
				coldStart := time.Duration(rapid.IntRange(0, 1).Draw(t, "coldStart")) * time.Second
				start(q.resize(now, slots, coldStart))
			},
			"": func(t *rapid.T) {
				if q.waiting.len() != len(line) || q.running != len(running) {
					t.Fatalf("%d waiting and %d running, want %d and %d", q.waiting.len(), q.running, len(line), len(running))
				}
				// A call put back by the worker may exceed the bound by what was running.
				if len(line) > q.rules.maxWaiting+most {
					t.Fatalf("%d calls wait, at most %d may", len(line), q.rules.maxWaiting)
				}
				if len(line) > 0 && len(running) < q.slots && !now.Before(q.pause) && q.pause.IsZero() {
					t.Fatalf("%d calls wait for nothing", len(line))
				}
				if len(line) > 0 && len(running) == 0 && q.slots > 0 && !slices.ContainsFunc(line, func(t *ticket) bool { return asks[t] }) {
					t.Fatalf("%d calls wait, and nobody would ever ask for them", len(line))
				}
			},
		})
	})
}
