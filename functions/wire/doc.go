// Package wire carries a call from a gateway to a worker on another machine and
// its answer back, over plain HTTP/1.1 on TCP: Server is the worker's end, Client
// the gateway's.
//
// # The protocol
//
// POST /call/{function}?{query} runs a call. Its body is the function's input,
// always with a Content-Length; its headers are X-Call-Id, Lightcone-Tenant,
// Lightcone-Deadline, and as the caller sent them Content-Type, Accept and
// Traceparent. Lightcone-Deadline is the time that REMAINS, in whole
// microseconds, counted from the moment the headers arrive: the clocks of two
// machines differ, so a point in time would mean something else at each end. (A
// function, on the worker's own clock, is told a point in time under the same name.)
//
// The answer says in Lightcone-Outcome whose it is:
//
//   - answered: the function's. Lightcone-Status is its status, Lightcone-Problem
//     the kind it named, if any; Content-Type, Vary and the body are its own. The
//     HTTP status is 200 whatever the function said, because HTTP forbids bodies
//     with some statuses, and because a function's 503 is not the worker's.
//   - refused: the worker's; nothing of the call was run.
//   - failed: the worker's; the call was started.
//
// In the latter two Lightcone-Problem is the kind, the body its sentence, and
// Lightcone-Retry-After a pause in nanoseconds. Lightcone-Cpu and Lightcone-Exec
// are nanoseconds, with every outcome.
//
// GET /load answers with a Load; GET /healthz with 200; GET /readyz with 200, or
// 503 while the worker is draining or its runner is not ready. /call and /load
// want Authorization: Bearer and the fleet's key, if the server has one.
//
// # Invariants
//
// A Client never sends a call twice. problem.Overloaded means that the call was
// not started, and nothing else does: no connection came about, or the last byte
// of the call was never handed to the kernel, or the worker said so.
// problem.WorkerLost means that all of it was sent and no answer seen. When Run
// returns, nobody reads the call or writes the answer any more: there is no
// goroutine beside the caller's, and cutting a call closes its connection.
//
// fasthttp parses the headers, but its HostClient and Server are not used: they
// own goroutines that nobody can wait for (the cleaner of idle connections, the
// clock for Date), cannot say whether a request left completely, and read a body
// before anything can refuse it.
//
// This package does not choose between workers (gateway does), does not encrypt
// (the network between the machines is trusted, or is a mesh's), and does not
// run functions (functions/runtime does).
package wire
