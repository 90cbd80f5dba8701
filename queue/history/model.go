package history

import (
	"math"

	"github.com/anishathalye/porcupine"

	"lightcone"
)

// A call as clients see it. Workers move an open one to its end at any time, which
// no client notes: so one answer may leave several states possible.
type state string

const (
	absent state = ""     // nobody accepted it
	open   state = "open" // queued or running
)

// stateOf is the state that a status tells of.
func stateOf(said Said) state {
	switch said {
	case lightcone.InvocationQueued, lightcone.InvocationRunning:
		return open
	default:
		return state(said) // final, or Unknown
	}
}

// workersEnds are the states that workers may take an open call to.
var workersEnds = []state{
	state(lightcone.InvocationSucceeded), state(lightcone.InvocationFailed), state(lightcone.InvocationDead),
}

// reachable are the states in which a call may be found that was in s.
func reachable(s state) []state {
	if s == open {
		return append([]state{open}, workersEnds...)
	}
	return []state{s}
}

// model is one call's: a register that starts absent, is opened by its acceptance,
// and ends once, by a worker or by a cancel.
var model = (&porcupine.NondeterministicModel{
	Init: func() []interface{} { return []interface{}{absent} },
	Step: func(from, input, _ interface{}) []interface{} {
		o := input.(Operation)
		var to []interface{}
		for _, s := range reachable(from.(state)) {
			for _, next := range after(s, o) {
				to = append(to, next)
			}
		}
		return to
	},
}).ToModel()

// after are the states that o may leave behind when it takes effect in s: none if
// its answer cannot be had there.
func after(s state, o Operation) []state {
	switch {
	case o.Kind == Accept && s == absent && o.Failed:
		return []state{absent, open}
	case o.Kind == Accept && o.Failed:
		return []state{s} // tried again by its client, it had been accepted before
	case o.Kind == Accept && s == absent:
		return []state{open}
	case o.Kind == Accept:
		return nil // ids are used once
	case o.Kind == Cancel && s == open && o.Failed:
		return []state{open, state(lightcone.InvocationCancelled)}
	case o.Failed:
		return []state{s}
	case o.Kind == Cancel && s == open:
		if o.Said == lightcone.InvocationCancelled {
			return []state{state(lightcone.InvocationCancelled)}
		}
		return nil
	case s == stateOf(o.Said):
		return []state{s}
	default:
		return nil
	}
}

// impossible lists the calls of which something was said that cannot be.
func impossible(calls map[lightcone.CallID][]Operation) []lightcone.CallID {
	var found []lightcone.CallID
	for call, seen := range calls {
		history := make([]porcupine.Operation, 0, len(seen))
		for _, o := range seen {
			ended := int64(o.Ended)
			if o.Failed {
				if o.Kind == Find {
					continue
				}
				ended = math.MaxInt64
			}
			history = append(history, porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Began), Return: ended})
		}
		if !porcupine.CheckOperations(model, history) {
			found = append(found, call)
		}
	}
	return found
}
