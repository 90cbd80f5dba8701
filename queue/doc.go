// Package queue keeps accepted calls until they are done: durable, by a quorum's
// fsync, over the loss of any minority of its nodes. Inside is NATS JetStream;
// nobody else knows it.
//
// A call's life, as its record tells it (the rules are in decide.go, the order of the
// steps in protocol.go):
//
//	          take: attempts+1   +---------+  answered, below 400      succeeded
//	+--------+ ----------------> |         | ------------------------> (final)
//	| queued |                   | running |  refused: 4xx, or a
//	|        | <---------------- |         |  problem of its input,
//	|        |                   |         |  or of its tenant's share failed
//	+--------+  crash, 5xx, time +---------+ ------------------------> (final)
//	  |   |  ^  out: back off;     | |  | ^
//	  |   |  |  not seen by the    | |  +-+ taken again, attempts+1:
//	  |   |  |  function:          | |      its worker is lost
//	  |   |  |  attempts-1         | |
//	  |   |  |                     | |  attempts or age used up       dead
//	  |   |  |                     | +------------------------------> (final)
//	  |   |  |                     |                                   | ^
//	  |   |  +-- redrive: generation+1, attempts 0 --------------------+ |
//	  |   +---------- too old, or attempts used up ----------------------+
//	  |                            |                                  cancelled
//	  +--- cancel -----------------+--------------------------------> (final)
//
// Invariants:
//   - A call is accepted once a quorum has its work message on disk, and then ends:
//     succeeded, failed, cancelled or dead. Nothing that is killed between any two
//     steps loses it. Whoever tends the queue ends what is too old, worker or none.
//   - Every step of a record is a compare-and-set on the record before it, so a call
//     has one end and one result, however often it was run.
//   - A final record changes only by a redrive out of dead, by its expiry, and once by the
//     worker of a cancelled call, who notes what it spent.
//   - What a call spent is told (WorkConfig.Ended) after its end is stored and before its
//     message goes: at least once, in the same words. It is a worker that tells: the message of a call that ended
//     without one waits for the next, until the call's record is gone.
//   - A function is given a call at most Limits.Attempts times in each generation (a
//     redrive begins a new one): at least once while it lives, not exactly once; and not
//     any more while its tenant is far beyond its share of what is kept (kept.go).
//   - Reads of a call's state are linearizable, or fail.
//   - What a client holds in memory is bounded by the calls in its hands.
//
// Invariants of a node (StartNode):
//   - It answers a write once a quorum has it on disk, or never: there is no setting
//     that makes it less safe.
//   - It never votes under the name of a node whose disk was lost: an empty folder is
//     a new node, which the others fill before it counts.
//   - Outside loopback's process nothing is in the clear, and nobody is let in without
//     a password; nodes prove themselves to each other by certificate, too.
//
// It does not find its nodes, does not run functions, does not speak HTTP, does not
// send callbacks (it hands them out, and who sends them says when to try again), and
// does not bill.
package queue
