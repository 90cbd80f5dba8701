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
//     which starts with the first call after that and does not hold it up. That is
//     for as many documents as can be refreshed in time: see below.
//   - Neither can be read: what is known stays known for StaleFor (24 h) since it was
//     last confirmed, or since the audit trail was last read if that told of no
//     change to it; then, and for keys that were never seen, calls get
//     problem.Overloaded. Nothing can be revoked then either: a revocation is a
//     write to the origin. What was refused before stays refused.
//   - The origin cannot be read, and Redis can: Redis is believed for StaleFor since
//     the origin last confirmed what it has. So that it has nothing older than the
//     origin, a Directory looks within a second at what Redis has of each change on
//     the trail, takes the change from the origin if Redis lacks it, and keeps it until
//     Redis has it.
//
// What remains of that last case: a Directory that starts, or never saw the key,
// opens a revoked key that Redis still has as it was, for up to StaleFor, if the origin
// went away before any Directory could read the revocation; if every Directory that
// had read it ended before Redis was back; if more than mostCorrections (10 000)
// changes waited for Redis (counted in lightcone_edge_corrections_dropped_total); if
// the trail had a gap (lightcone_edge_gaps_total) that hid the change; or if Redis
// lost the change in a failover after it had acknowledged it.
//
// While the audit trail can be followed without a gap, one read of its head
// confirms all documents together, and each is read again only every recheckFor
// (1 h): a hundred thousand keys cost the origin next to nothing. When it cannot,
// each document is confirmed by itself when it is used, by 8 refreshers, within 1 000
// reads of the origin a second of which half is left to calls that wait: the 200 000
// documents of a hundred thousand active keys, each with a tenant of its own, then take
// minutes, not FreshFor. What waits is served meanwhile. What was confirmed in the
// first FreshFor after a start or a gap is not vouched for until it is confirmed again.
//
// Invariants: a document never gives way to an older version of itself, nor to one
// older than a change that was heard of; every key that does not open gets the
// same sentence; a key seen to have expired stays expired when the clock goes
// back, and one closed by a clock that jumped ahead opens when that is put right; keys
// that nobody issued cost the stores at most 20 lookups a second, and cannot push known
// ones out of memory; every goroutine belongs to Run.
//
// There is an exception before the filter of issued keys is first loaded, which takes
// the origin: until then each gateway looks for 500 keys a second (1 000 in the first),
// issued or not, and refuses the others as problem.Overloaded.
//
// It changes nothing but Redis, which it can lose without losing anything, and
// counts no calls: quotas are handed to the gateway, which enforces them.
package edge
