// Package runtime is the worker's supervisor: it keeps the processes of
// functions warm, gives each one call at a time, meters what the call cost and
// contains what goes wrong.
//
// A function has slots, one per core, and one process more than slots: the
// spare. A call takes a process that is ready; when a process dies, the spare is
// already warm, so the next call does not wait for a start.
//
//	Supervisor ── one pool per function ── slots+1 berths ── one process each
//
// Invariants:
//   - A process never runs two calls at once, so the difference of its CPU clock
//     around a call is that call's cost, and killing it costs that call alone. What
//     is no call's: its start, its end, and some ten microseconds after each answer
//     in which it falls asleep, unless the next call comes meanwhile. The kernel
//     brings the clock of a process that runs on another core up to date at timer
//     ticks only; functions.Serve makes it do so before each answer, and a function
//     that is written otherwise may shift up to a tick to its process's next call.
//   - A call handed to a process ends by its deadline: with an answer, or with
//     the process killed.
//   - Every process is confined before its first instruction (see Isolation),
//     dies with the supervisor, and is replaced when it dies.
//   - A full pool refuses at once; it never queues. Waiting is the gateway's.
//   - Queued calls, for which nobody waits, take only slots that the others leave
//     idle, never the last of a reserve, and none just after another was refused.
//
// It does not know HTTP statuses, keys, tenants' limits or prices. It runs on
// Linux only: the confinement and the CPU clocks are Linux's.
package runtime
