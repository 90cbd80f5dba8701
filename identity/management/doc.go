// Package management is the management plane of identity: it makes and changes
// tenants, keys and quotas, rarely and consistently, and keeps the audit trail of it.
// With it come its HTTP routes, the Client that calls them, and the usage that
// the gateways of one machine share (Spent).
//
// Invariants:
//   - A change is one commit of the documents, the trail's entry and the trail's head:
//     there is no change without its entry, and no entry without its change.
//   - Nobody overwrites what they have not seen: whoever loses a race for a document
//     is told. Only a race for the trail's end is run again, for that is nobody's.
//   - What is so already is not changed again, and has no entry.
//   - A key's secret is in the one answer that issues it, and nowhere else: not in
//     the store, the trail, a log or an error.
//   - What a change does to documents is a pure function (decide.go); so are the
//     trail's verification and the arithmetic of Spent.
//
// It does not say who the operator is (cmd checks the key and calls WithActor), does
// not answer calls (the data plane does, from what is announced and what it reads),
// and deletes neither tenants nor keys: a revoked key's record stays.
package management
