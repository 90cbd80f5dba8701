// Package archive moves raw usage records to cold storage, another bucket, and
// brings them back.
//
// Invariants: an object leaves the first bucket only after the archive has shown
// that it holds the same bytes, and a manifest with their SHA-256 is written; a
// process may be killed between any two steps, and the next run finishes what it
// began. Each manifest holds the digest of the one before it, so one that is missing
// or altered shows; who notes the last digest notices even a chain that was made anew as
// a whole. Nothing is deleted from the archive before its retention is over, and
// retention is only ever lengthened.
//
// One process at a time may move and expire: a second one fails to write its manifest.
// The package does not decide which objects are done with: its caller says which have
// been billed. It needs no cgo.
package archive
