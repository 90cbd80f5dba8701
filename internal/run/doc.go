// Package run is the one lifecycle: components are started by name in order and
// stopped last-in-first-out, each within a bound.
//
// Invariants:
//   - A component's stop is registered the moment the component exists, so what
//     was started is stopped, whatever fails afterwards and however often Stop
//     is called.
//   - A component is stopped before those started earlier, because it may still
//     be using them.
//   - A stop that does not come back is reported by name when its bound is over,
//     and the others are stopped all the same.
//   - The first component that fails, at its start or later, ends the group; the
//     group's error names every component that failed and how.
//
// It does not restart components, and it knows nothing about what they do. A
// goroutine whose stop never returns is left behind: Go cannot end it.
package run
