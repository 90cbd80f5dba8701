// Package identity says who is calling and which functions they may call.
//
// This is its static part: a Keyring is made once, from records, and never
// changes. It is what a single machine needs, and what serves on when every
// store behind it is away.
//
// Invariants: of a key's secret only the SHA-256 is kept, so a stolen keyring
// opens nothing; digests are compared in constant time, and an unknown key costs
// what a wrong secret costs; every key that does not open gets the same sentence,
// so an answer never tells which part was wrong; authenticating allocates nothing.
//
// It does no I/O and knows no HTTP: the gateway finds the key in a request and
// turns the problem into a status. Rates, quotas and the management of keys are
// not here.
package identity
