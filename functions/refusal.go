package functions

import (
	"net/http"

	"lightcone/internal/problem"
)

// longestDetail bounds what is repeated of a function's sentence, in characters.
const longestDetail = 1 << 10

// Refusal is the problem that callers are told in place of the answer; nil when the
// answer is to be passed on as it is, which its status of 400 or more may be too. A kind
// that functions may not name, and a status that is not from 200 to 599, are the
// function's failure.
func (a *Answer) Refusal() *problem.Error {
	switch {
	case a.Problem != "" && !FunctionMay(a.Problem):
		return problem.New(problem.FunctionFailed, "The function named the problem %.64q, which is not for functions to name.", a.Problem)
	case a.Problem != "":
		return problem.New(a.Problem, "%.*s", longestDetail, a.Body)
	case a.Status < http.StatusOK || a.Status > 599:
		return problem.New(problem.FunctionFailed, "The function answered with the status %d, which is not one of a final answer.", a.Status)
	default:
		return nil
	}
}

// Answered says whether the result is of the function's answer, good or bad.
func (r *Result) Answered() bool { return r.Problem == "" || r.Status != 0 }

// Answer is the function's answer, if it has Answered.
func (r *Result) Answer() *Answer {
	return &Answer{Status: r.Status, Problem: r.Problem, ContentType: r.ContentType, Vary: r.Vary, Body: r.Body}
}

// Refusal is the problem that callers are told in place of the result; nil when it is
// the function's answer, to be passed on as it is.
func (r *Result) Refusal() *problem.Error {
	if r.Answered() {
		return r.Answer().Refusal()
	}
	return problem.New(r.Problem, "%.*s", longestDetail, r.Body)
}
