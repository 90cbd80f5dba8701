// Package bulk calls one function on every object of a folder or bucket prefix
// and writes each answer under the same relative name in another, with the
// extension that fits what came back. A job is split into shares; each share is
// run by itself, on whatever machine, without speaking to the others.
//
// Invariants:
//   - An object belongs to exactly one share, by a hash of its key alone.
//   - What an answer is called depends on the set of keys and on the answer's
//     type, not on who asks or when: no two shares write one name.
//   - An output is written whole or not at all, and counts as finished only once
//     a journal line says so: a share killed at any point and started again ends
//     with the same outputs, and repeats only what the last seconds' lines would
//     have recorded.
//   - A bad object costs its own line in the failures' list. What the platform or
//     the storage failed at is tried again, within a budget, and never passes for
//     finished.
//   - Memory is bounded by the objects in flight, each at most the function's
//     input limit, and by some fifty bytes a finished object of the share.
//
// Below <out>/.bulk/<job>/ a share i of n keeps share-<i>-of-<n>-<run>-<part>.ndjson
// (its journal, JSON lines), failures-<i>.ndjson and progress-<i>.json. Two jobs
// of one name and output share their journals: that is how a job carries on.
//
// It does not start functions (a Runner does), does not notice a new build of a
// function (give the job a new name), deletes no outputs of inputs that are gone,
// and does not keep a share from running twice at once, which wastes work and
// spoils nothing.
package bulk
