// Package capacity is the arithmetic of how big a fleet must be: from what is
// asked of it (calls per second, CPU time and bytes per call) to servers, slots,
// gateways, bandwidth, memory and price. `lightcone plan` prints it, and the
// locals of terraform/ repeat it; a test holds the two together.
//
// Invariants:
//   - Plan is a pure function: no clock, no randomness, no I/O.
//   - The fleet it gives carries the demand with its headroom by every measure
//     (CPU, memory, network) in whole racks, and no smaller fleet does.
//   - More demand never gives a smaller fleet.
//
// Numbers are decimal: a KB is 1000 bytes, a GB 10⁹, a month 730 hours.
//
// It does not measure anything, does not model queueing (headroom stands for
// that), and its prices are examples until the reader gives their own.
package capacity
