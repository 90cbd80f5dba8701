package bulk

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"lightcone/functions"
	"lightcone/internal/problem"
)

// outcome is what has become of an object.
type outcome int

const (
	done    outcome = iota // its answer can be written
	bad                    // it has no output, and that is its own or the function's doing
	passing                // the platform's or the storage's doing: try again
	ended                  // so will it be for every object: the share ends
)

// verdict is an outcome with its reason.
type verdict struct {
	outcome  outcome
	kind     problem.Kind
	detail   string // a sentence; bounded by longestDetail
	remember bool   // the same input would get the same verdict: a restart need not ask again
}

// storageKind is the failures' list's word for an object that the storage kept
// from being read or written.
const storageKind problem.Kind = "storage"

// longestDetail bounds a sentence in lists that may have a line for every object.
const longestDetail = 400 // bytes

// judge decides what a call's end means for its object. answer is what Run left
// of it, whatever err is.
func judge(answer *functions.Answer, err error) verdict {
	if err == nil {
		return judgeAnswer(answer)
	}
	found := problem.Of(err)
	v := verdict{kind: found.Kind, detail: clip(found.Detail)}
	switch found.Kind {
	case problem.FunctionCrashed, problem.OutOfMemory, problem.FunctionFailed:
		v.outcome = bad
	case problem.DeadlineExceeded:
		// A deadline that passed before a process was free says nothing of the object.
		v.outcome = bad
		if answer.Exec == 0 && answer.CPU == 0 {
			v.outcome = passing
		}
	case problem.Overloaded, problem.WorkerLost, problem.Internal:
		v.outcome = passing
	case problem.NotFound, problem.Unauthenticated, problem.Forbidden, problem.MethodNotAllowed:
		v.outcome = ended
	default: // what speaks of the input
		v.outcome, v.remember = bad, lasting(found.Kind)
	}
	return v
}

func judgeAnswer(answer *functions.Answer) verdict {
	switch {
	case answer.Problem != "" && !functions.FunctionMay(answer.Problem):
		return verdict{outcome: bad, kind: problem.FunctionFailed, detail: clip(fmt.Sprintf("The function named the problem %q, which is not for functions to name.", answer.Problem))}
	case answer.Problem != "":
		return verdict{outcome: bad, kind: answer.Problem, detail: clip(string(answer.Body)), remember: lasting(answer.Problem)}
	case answer.Status < http.StatusOK || answer.Status >= http.StatusMultipleChoices:
		return verdict{outcome: bad, kind: problem.FunctionFailed, detail: fmt.Sprintf("The function answered with the status %d.", answer.Status)}
	default:
		return verdict{outcome: done}
	}
}

// lasting says whether a kind is about the input's bytes and nothing else. A
// refused parameter is not: the next run's function may know it.
func lasting(kind problem.Kind) bool {
	switch kind {
	case problem.UnsupportedMedia, problem.CorruptInput, problem.TooManyPixels, problem.TooLarge:
		return true
	default:
		return false
	}
}

// judgeRead decides what a failed look at an input means for it.
func judgeRead(err error, most int64) verdict {
	switch {
	case errors.Is(err, ErrNotFound):
		return verdict{outcome: bad, kind: problem.NotFound, detail: "The object was listed, and could not be found when it was to be read."}
	case errors.Is(err, ErrTooLong):
		return tooLong(most)
	default:
		return judgeStorage(err)
	}
}

func judgeStorage(err error) verdict {
	return verdict{outcome: passing, kind: storageKind, detail: clip(err.Error())}
}

func tooLong(most int64) verdict {
	return verdict{outcome: bad, kind: problem.TooLarge, detail: fmt.Sprintf("The object is longer than %d bytes, which is the most that the function takes; it was not read.", most)}
}

// unusable is the verdict on a key that the drivers cannot hand through.
func unusable() verdict {
	return verdict{outcome: bad, kind: problem.NotFound, detail: "The object's name has control characters, or a part that is empty or ends with two dots, or is not UTF-8 text; rename it."}
}

func clip(detail string) string {
	return strings.ToValidUTF8(detail[:min(len(detail), longestDetail)], "�")
}
