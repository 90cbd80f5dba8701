// Package client calls a Lightcone over HTTP: one call, or a function over a
// whole folder of files, with retries and progress.
//
// Invariants:
//   - Every attempt has a deadline, every call a bounded number of attempts, and
//     all calls of a Client together a retry budget, so that a struggling
//     Lightcone is not struck harder for struggling.
//   - A Retry-After holds back every request of the kind that met it (calls, or
//     questions about queued ones), not only that one.
//   - An output file appears whole or not at all.
//   - Decisions (when to retry, how long to wait, what a file is called, how the
//     progress reads) are pure functions of state, time and randomness.
//
// Retrying is safe because functions keep nothing between calls (see package
// functions). What it may cost is a second charge, when the connection was lost
// after the function had run.
//
// It does not parse commands or own the terminal: cmd/lightcone does.
package client
