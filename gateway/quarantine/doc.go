// Package quarantine keeps inputs that kill slots away from the slots: an input whose
// calls have killed two, on any workers and through any gateways, is refused by all
// gateways for a while, and then forgotten. An input is a tenant's: another tenant's
// call with the same bytes is another input. Who runs queued calls, a worker, keeps a
// book as a gateway does for calls whose callers wait, and counts as one here.
//
// A gateway counts what it sees by itself, at once and in memory; documents in a
// shared store make the count one of all gateways:
//
//	quarantine/strikes/DIGEST  an input that has killed one slot
//	quarantine/inputs/DIGEST   an input that has killed two: an Entry each
//	quarantine/head            the last changes of what is in quarantine
//
// The second strike removes the first document, writes the second and adds itself to
// the head in one Commit. Gateways wait for the head and take the changes from it; one
// that missed some reads all that is in quarantine.
//
// Invariants:
//   - One killed slot never quarantines an input, however often its strike is
//     written: strikes are named by their calls' ids and, of queued calls, by the
//     attempts, each of which may kill one.
//   - No call waits for the store. While it is away each gateway counts and
//     refuses by itself, and shares what it kept when the store is back.
//   - Everything is bounded: inputs remembered, strikes waiting to be shared, and
//     by a budget the documents written, so a tenant with a new deadly input on each
//     call costs its own calls. Beyond the budget a strike counts on its gateway only.
//   - Nobody's calls have another tenant's input refused.
//   - A document that cannot be read is named in the log and passed over.
//
// Clocks of gateways may differ by up to a minute: an input may be free on one that
// much sooner than on another. While the second strike is on its way to another gateway,
// some milliseconds, that one may still run the input. This package decides nothing about tenants, and does
// not judge what killed a slot: gateway.KilledSlot does.
package quarantine
