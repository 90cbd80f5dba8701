package history

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"lightcone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTranscripts reads histories, a line each:
//
//	KIND CALL BEGAN-ENDED [STATUS] [=RESULT]   an operation; ENDED is ? when nobody knows
//	ran CALL [crashing]                        an execution
//	end CALL STATUS [=RESULT] [letter]         where the call was found in the end
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return judged(t, d.Input)
		})
	})
}

func judged(t *testing.T, text string) string {
	t.Helper()
	var operations []Operation
	var executions []Execution
	ends := make(map[lightcone.CallID]End)
	for number, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		call := callNamed(words[1])
		said, result, letter, crashes := Unknown, "", false, false
		for _, word := range words[2:] {
			switch {
			case strings.HasPrefix(word, "="):
				result = word[1:]
			case word == "letter":
				letter = true
			case word == "crashing":
				crashes = true
			case word == "unknown" || strings.Contains(word, "-"):
			default:
				said = Said(word)
			}
		}
		switch words[0] {
		case "ran":
			executions = append(executions, Execution{Call: call, Crashes: crashes})
		case "end":
			ends[call] = End{Said: said, Result: result, DeadLetter: letter}
		default:
			o := Operation{Kind: Kind(words[0]), Call: call, Client: number, Said: said, Result: result}
			began, ended, _ := strings.Cut(words[2], "-")
			o.Began = seconds(t, began)
			if o.Failed = ended == "?"; !o.Failed {
				o.Ended = seconds(t, ended)
			}
			operations = append(operations, o)
		}
	}
	v := Judge(operations, executions, ends)
	var out bytes.Buffer
	fmt.Fprintf(&out, "%d operations: %d accepted, %d finished (%d cancelled), %d dead\n", v.Operations, v.Accepted, v.Finished, v.Cancelled, v.Dead)
	fmt.Fprintf(&out, "%d executions, %d duplicates, longest gap %v\n", v.Executions, v.Duplicates, v.Unavailable)
	for _, list := range []struct {
		name  string
		calls []lightcone.CallID
	}{{"lost", v.Lost}, {"stored twice", v.StoredTwice}, {"impossible", v.Impossible}} {
		for _, call := range list.calls {
			fmt.Fprintf(&out, "%s: %c\n", list.name, call[0])
		}
	}
	return out.String()
}

func callNamed(name string) lightcone.CallID { return lightcone.CallID{name[0]} }

func seconds(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text + "s")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestACorrectQueueIsNeverBlamed lets a queue that is right by construction answer
// at a moment between the beginning and the end of each operation.
func TestACorrectQueueIsNeverBlamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		operations, end := played(t, func(s state) state { return s })
		if v := Judge(operations, nil, end); len(v.Impossible)+len(v.Lost) > 0 {
			t.Fatalf("%+v: %+v", v, operations)
		}
	})
}

// TestStaleAnswersAreFound does the same with a queue that forgets, now and then,
// that a call has ended.
func TestStaleAnswersAreFound(t *testing.T) {
	found := false
	rapid.Check(t, func(t *rapid.T) {
		operations, end := played(t, func(s state) state {
			if s != absent && s != open {
				return open
			}
			return s
		})
		found = found || len(Judge(operations, nil, end).Impossible) > 0
	})
	if !found {
		t.Error("a queue that answers with what was true long ago was never blamed")
	}
}

// played is a history of one call, one operation after the other in effect, though
// not in what their clients saw of time. blur changes what is told of the state.
func played(t *rapid.T, blur func(state) state) ([]Operation, map[lightcone.CallID]End) {
	call := callNamed("a")
	s, clock := absent, time.Duration(0)
	var operations []Operation
	for i := range rapid.IntRange(1, 12).Draw(t, "operations") {
		clock += 10
		kind := rapid.SampledFrom([]Kind{Find, Find, Cancel}).Draw(t, "kind")
		if i == 0 {
			kind = Accept
		} else if s == open && rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
			s = rapid.SampledFrom(workersEnds).Draw(t, "end")
		}
		o := Operation{
			Kind: kind, Call: call, Client: i, Failed: i > 0 && rapid.IntRange(0, 5).Draw(t, "failed") == 0,
			Began: max(0, clock-time.Duration(rapid.IntRange(0, 30).Draw(t, "before"))),
			Ended: clock + time.Duration(rapid.IntRange(0, 30).Draw(t, "after")),
		}
		switch effect := !o.Failed || rapid.Bool().Draw(t, "effect"); {
		case kind == Accept:
			s = open
		case kind == Cancel && s == open && effect:
			s = state(lightcone.InvocationCancelled)
		}
		if o.Said = Said(s); s == open {
			o.Said = lightcone.InvocationQueued
		}
		if told := blur(s); told == open && kind == Find {
			o.Said = lightcone.InvocationRunning
		}
		operations = append(operations, o)
	}
	if s == open {
		s = state(lightcone.InvocationSucceeded)
	}
	return operations, map[lightcone.CallID]End{call: {Said: Said(s), DeadLetter: true}}
}
