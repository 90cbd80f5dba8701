// Package gateway turns HTTP into authorised, admitted, dispatched calls, and
// their outcomes back into HTTP.
//
// A call is authenticated, validated and admitted from its headers, before its
// body is read: a refusal costs no memory and next to no time. Then the body is
// read into a pooled buffer, the call takes its place in its function's queue,
// runs, and its answer is written.
//
// Invariants:
//   - Whatever waits is bounded: connections, header bytes, calls and bytes in
//     flight, calls per queue; whatever can block has a deadline.
//   - A tenant gets no more than its quota (gateway/admission decides), and is told
//     which one it has reached before its body is read. A token is taken once for
//     each call that is well-formed and allowed, whatever becomes of it after that.
//   - One deadline per call, from the moment its headers are in. A call past it
//     is never started, and the answer names the layer that held it.
//   - A slow or silent client costs its own connection, and never a slot.
//   - A call that has been accepted is answered, through a shutdown too.
//   - A buffer is reused only after its last reader is done with it.
//   - Only this package knows HTTP statuses for problem kinds (problem.go).
//
// A client that goes away while its call waits or runs is not noticed until its
// answer is written: the call runs, and counts.
//
// A call whose client does not wait (asynchronous.go) is authenticated, limited and read
// like any other, but has no place in its function's queue: a Queue of its own keeps it,
// and what absorbs overload must not be refused for it. It is answered 202 once the Queue has
// it, or as the call itself when it ends while its client waits for a while. Questions
// about it (invocations.go) are answered to all keys of its tenant; they are no calls,
// take nothing of its limits, and are bounded in number for each tenant.
//
// A Fleet is a Worker made of many: it picks one for each call, tries another when
// that one had no room, and once when it was lost. It prefers the few of the tenant's
// shuffle shard (shard.go), which one whose calls crash does not leave, and sets aside
// for a while who does worse than its peers (outlier.go). Several gateways use the same
// workers without asking each other: each learns its share of a full fleet from the
// workers' refusals (queue.go), and from what they report (choose.go).
//
// Listeners are plain, behind a load balancer, or speak TLS by themselves with a
// certificate that is followed while it serves (certificate.go); both at once.
//
// This package does not run functions (a Worker does), does not know what a key
// looks like (Callers do), and does not keep the book of deadly inputs (a Quarantine
// does). It is the only one that imports fasthttp's server.
package gateway
