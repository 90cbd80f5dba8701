// Package scheduler decides how many workers the fleet of each function should
// have, and acts on it only while it is leader.
//
// Invariants:
//   - The decision is a pure function, Reconcile(state, now): it reads no clock,
//     asks nobody and explains itself in words and numbers.
//   - Fast up, slow down: growth follows the panic window at once; the fleet
//     shrinks by one step per cool-down, never below what the busiest moment of
//     the stable window needs, and never in panic.
//   - Nothing shrinks on missing data: a worker, a gateway or the queue that did not
//     answer, a gap in the observations, a window that is not full yet.
//   - Accepted work gets done: while a queued call is older than BacklogAge the fleet
//     does not shrink, and grows if full slots are why; one queued call is reason
//     enough for one worker.
//   - No effect without trust: the leader's term is asked before each effect, and
//     the effect is fenced by the index of the count it was decided on.
//
// The two windows and panic mode are those of Knative's autoscaler
// (knative.dev/docs/serving/autoscaling/kpa-specific). It differs in that calls
// waiting in gateways count as demand, that full slots are a reason to panic by
// themselves, and that shrinking asks for more room than growing (Tolerance).
//
// It does not elect the leader, find workers, or know how Nomad is asked: those
// are its caller's, behind Observer and Scaler. It does not choose which worker
// stops; Nomad does, and workers drain.
package scheduler
