// Package queue keeps accepted calls until they are done: durable, by a quorum's
// fsync, over the loss of any minority of its nodes. Inside is NATS JetStream;
// nobody else knows it.
//
// A call's life, as its record tells it (decide.go holds the rules):
//
//	             take                    answered (status below 400)
//	 accept      attempts+1   +---------+ -------------------------> succeeded
//	+--------+ -------------> |         | refused (4xx, or a problem that
//	| queued |                | running |  blames the input) -------> failed
//	+--------+ <------------- |         |
//	  |  | ^  crash, 5xx, time-+---------+ ---+
//	  |  | |  out: back off     |   ^  | the same, and no attempt
//	  |  | |  not seen by the   |   |  | or no time is left
//	  |  | |  function:         +---+  |
//	  |  | |  attempts-1        taken  |
//	  |  | |                    again: the worker is lost
//	  |  | +---------------- redrive ---- dead <---- too old to be run
//	  |  +----------------------------------^
//	  +--- cancel (also while running) --> cancelled
//
// Invariants:
//   - A call is accepted once a quorum has its work message on disk, and then ends:
//     succeeded, failed, cancelled or dead. Nothing that is killed between any two
//     steps loses it.
//   - Every step of a record is a compare-and-set on the record before it, so a call
//     has one end and one result, however often it was run.
//   - A final record changes only by a redrive out of dead, and by its expiry.
//   - A function is given a call at most Limits.Attempts times in each generation (a
//     redrive begins a new one): at least once while it lives, not exactly once.
//   - Reads of a call's state are linearizable, or fail.
//   - What a client holds in memory is bounded by the calls in its hands.
//
// It does not run functions, does not speak HTTP, does not send callbacks (it hands
// them out until they are delivered), and does not bill.
package queue
