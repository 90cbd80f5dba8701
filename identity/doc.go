// Package identity has the nouns of who is calling: keys, tenants, what they may do
// and use, their documents, and the audit trail. What is done with them is in two
// packages that share them and nothing else: identity/management changes them,
// rarely and consistently; identity/edge knows them on every call.
//
// Invariants: of a key's secret only the SHA-256 is kept, so stolen documents open
// nothing; secrets are compared in constant time; every key that does not open gets
// the same sentence, so an answer never tells which part was wrong; a document that
// was read has been validated.
//
// It does no I/O and knows no HTTP.
package identity
