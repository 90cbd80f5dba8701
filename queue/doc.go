// Package queue keeps accepted calls until they are done: durable, by a quorum's
// fsync, over the loss of any minority of its nodes. Inside is NATS JetStream;
// nobody else knows it.
//
// Invariants of a node (StartNode):
//   - It answers a write once a quorum has it on disk, or never: there is no setting
//     that makes it less safe.
//   - It never votes under the name of a node whose disk was lost: an empty folder is
//     a new node, which the others fill before it counts.
//   - Outside loopback's process nothing is in the clear, and nobody is let in without
//     a password; nodes prove themselves to each other by certificate, too.
//
// It does not find its nodes, does not run functions, and does not speak HTTP.
package queue
