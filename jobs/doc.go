// Package jobs holds Lightcone's Nomad job specifications and the only code that
// talks to Nomad: it parses a specification with its variables, plans and submits
// it, follows the deployment to its end, scales a group, dispatches a batch, and
// reads and stops allocations.
//
// Invariants:
//   - Every request has a deadline; a watch asks again and again, and gives up
//     when Nomad has been away for longer than its patience.
//   - A count is only written against the index it was read at, so that of two
//     schedulers that both believe to lead, the one that read earlier loses.
//   - A failure comes with the last words of the allocation that failed, so that
//     nobody has to look for them.
//   - What to make of Nomad's answers is decided in pure functions (rollout.go,
//     reasons.go, failure.go); the rest carries requests.
//
// It does not decide how many workers there should be or when to deploy, it keeps
// no state between calls, and it never repeats a write by itself: whether a write
// may happen twice is the caller's to know.
package jobs
