// Package lightcone holds the nouns that every Lightcone service shares: who is
// calling, which function, which call, what it used.
//
// Invariants: it imports only the standard library, it does no I/O, and it knows
// no service. A noun belongs here only when two services that may not import
// each other have to agree on it.
//
// It does not hold behaviour: admission, dispatch, metering and billing live in
// the folders named after them.
package lightcone
