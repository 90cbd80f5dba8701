// Package edge is identity's data plane: it says for every call whose key it
// carries and whether it may call the function, and it goes on saying so while
// what is behind it is away.
//
// A Directory looks in its own memory, then in Redis, then at the origin: the
// store of documents that the management plane writes to. A call whose key is in
// memory costs no I/O, no allocation and less than a microsecond.
//
// How old may what it says be? In each case add the store's own lag.
//
//   - Redis or the origin delivers the change: about a second. They are
//     independent of each other: Redis publishes what was announced, and the
//     origin has the audit trail, which a Directory follows entry by entry.
//   - Neither delivers, and either can be read: FreshFor (30 s) and one refresh,
//     which starts with the first call after that and does not hold it up.
//   - Neither can be read: what is known stays known for StaleFor (24 h) since it was
//     last confirmed; then, and for keys that were never seen, calls get
//     problem.Overloaded. Nothing can be revoked then either: a revocation is a
//     write to the origin. What was refused before stays refused.
//
// While the audit trail can be followed without a gap, one read of its head
// confirms all documents together, and each is read again only every recheckFor
// (1 h): a hundred thousand keys cost the origin next to nothing. When it cannot,
// each document has to be confirmed by itself, within a rate.
//
// Invariants: a document never gives way to an older version of itself, nor to one
// older than a change that was heard of; every key that does not open gets the
// same sentence; a key seen to have expired stays expired when the clock goes
// back; keys that nobody issued cost the stores at most a few reads a second, and
// cannot push known ones out of memory; every goroutine belongs to Run.
//
// It changes nothing but Redis, which it can lose without losing anything, and
// counts no calls: quotas are handed to the gateway, which enforces them.
package edge
