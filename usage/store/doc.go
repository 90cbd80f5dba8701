// Package store is the bucket that usage records lie in, as those see it who read
// it: how its objects are listed, read, written and deleted, and whether an object of
// records is whole.
//
// Invariants: an object appears whole or not at all, and what Write and WriteNew
// have confirmed outlives a loss of power; List tells every object below a prefix,
// in the bytewise order of keys; Inspect refuses an object of which any bit that
// could change a bill has changed. Every remote call has a deadline and a few
// attempts.
//
// It does not make records, name their objects or decode them, which is package
// usage's, and does not add them up, which is package billing's.
package store
