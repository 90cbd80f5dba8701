// Package functions is what a function is: the contract between Lightcone and
// an executable, in both directions, and a small helper to write one in Go.
//
// # The contract
//
// A function is any executable that serves HTTP/1.1, in any language. Lightcone
// starts one process per slot and tells it where to listen:
//
//   - LIGHTCONE_SOCKET is the path of the Unix socket to create, or
//   - PORT is the TCP port to listen on at 127.0.0.1 (for functions declared so).
//
// GET /healthz answers 200 once the process is ready for calls. A call then is
// POST / with the caller's query string, body, Content-Type and Accept, and:
//
//   - Lightcone-Deadline: when the answer stops being useful, RFC 3339 with
//     nanoseconds. A process still busy then is killed.
//   - X-Call-Id and, when the caller sent one, traceparent.
//
// The answer's status, Content-Type, Vary and body go back to the caller. To
// refuse an input, a function answers any 4xx or 5xx, or names one of
// Lightcone's problem kinds in Lightcone-Problem with one sentence as the body;
// the gateway then makes the problem document.
//
// Invariants: a process gets one call at a time; it has no network, no files to
// write, no children, and bounded memory; it may be killed at any moment, so it
// keeps nothing between calls that it cannot lose.
//
// This package does not start processes (functions/runtime does) and does not
// listen to the outside (gateway does).
package functions
