// Package history judges what clients of the queue saw while things went wrong: it
// takes the operations that they noted, and what workers noted of executions, and
// says what was lost, what was done twice, and what no correct queue could have said.
//
// Invariants: it is pure; an operation whose end nobody knows may have had its
// effect at any time after its beginning, or never; it finds fault only with what
// no order of the operations can explain.
//
// It starts no queue and breaks none: queue/drill does. It says nothing of how long
// anything took but for the longest time in which nothing was accepted.
package history

import (
	"cmp"
	"slices"
	"time"

	"lightcone"
)

// Kind is what a client asked of the queue.
type Kind string

// The kinds.
const (
	Accept Kind = "accept"
	Find   Kind = "find"
	Cancel Kind = "cancel"
)

// Operation is one request of a client and what it was told.
type Operation struct {
	Kind   Kind             `json:"kind"`
	Call   lightcone.CallID `json:"call"`
	Client int              `json:"client"`         // clients have one operation at a time
	Began  time.Duration    `json:"began"`          // on a clock that all clients share
	Ended  time.Duration    `json:"ended"`          // of no meaning when Failed
	Failed bool             `json:"failed"`         // no answer, or one that does not say whether it took effect
	Said   Said             `json:"said,omitempty"` // what the call's status then was
	Result string           `json:"result,omitempty"`
}

// Said is an InvocationStatus, or Unknown.
type Said = lightcone.InvocationStatus

// Unknown is said of a call that there is not.
const Unknown Said = ""

// Execution is a function that was given a call, as the worker noted it.
type Execution struct {
	Call    lightcone.CallID `json:"call"`
	Crashes bool             `json:"crashes,omitempty"` // it will not answer, so that the call is rightly run again
}

// End is where a call was found when all was over.
type End struct {
	Said       Said
	Result     string // the token that the function put into its answer
	DeadLetter bool   // it lies in the dead letters
}

// Verdict is what a history comes to.
type Verdict struct {
	Operations  int
	Accepted    int
	Finished    int                // of the accepted: ended, and not dead
	Cancelled   int                // of the finished
	Dead        int                // of the accepted: in the dead letters
	Executions  int                // of any call
	Duplicates  int                // executions that do not crash, of calls that had such a one before
	Lost        []lightcone.CallID // accepted, and neither finished nor in the dead letters
	StoredTwice []lightcone.CallID // two different results were seen of them
	Impossible  []lightcone.CallID // what was said of them no order of the operations explains
	Unavailable time.Duration      // the longest time between two acceptances
}

// Judge says what the history comes to. ends tells of every call that was accepted.
func Judge(operations []Operation, executions []Execution, ends map[lightcone.CallID]End) Verdict {
	v := Verdict{Operations: len(operations), Executions: len(executions)}
	calls := make(map[lightcone.CallID][]Operation)
	var acceptances []time.Duration
	for _, o := range operations {
		calls[o.Call] = append(calls[o.Call], o)
		if o.Kind == Accept && !o.Failed {
			v.Accepted++
			acceptances = append(acceptances, o.Ended)
		}
	}
	v.Unavailable = longestGap(acceptances)
	for call, seen := range calls {
		end, known := ends[call]
		if accepted(seen) {
			switch {
			case known && end.Said == lightcone.InvocationDead && end.DeadLetter:
				v.Dead++
			case known && end.Said.Final() && end.Said != Unknown && end.Said != lightcone.InvocationDead:
				v.Finished++
				if end.Said == lightcone.InvocationCancelled {
					v.Cancelled++
				}
			default:
				v.Lost = append(v.Lost, call)
			}
		}
		if results(seen, end) > 1 {
			v.StoredTwice = append(v.StoredTwice, call)
		}
	}
	v.Impossible = impossible(calls)
	executed := make(map[lightcone.CallID]bool)
	for _, e := range executions {
		if e.Crashes {
			continue
		}
		if executed[e.Call] {
			v.Duplicates++
		}
		executed[e.Call] = true
	}
	for _, list := range [][]lightcone.CallID{v.Lost, v.StoredTwice, v.Impossible} {
		slices.SortFunc(list, func(a, b lightcone.CallID) int { return cmp.Compare(a.String(), b.String()) })
	}
	return v
}

// accepted says whether a client was told that its call was accepted.
func accepted(seen []Operation) bool {
	return slices.ContainsFunc(seen, func(o Operation) bool { return o.Kind == Accept && !o.Failed })
}

// results counts the different results that were seen of one call.
func results(seen []Operation, end End) int {
	different := make(map[string]bool)
	for _, o := range seen {
		if o.Result != "" {
			different[o.Result] = true
		}
	}
	if end.Result != "" {
		different[end.Result] = true
	}
	return len(different)
}

// longestGap is the longest time between two neighbours of times, in any order.
func longestGap(times []time.Duration) time.Duration {
	slices.Sort(times)
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	return longest
}
