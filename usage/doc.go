// Package usage is the ledger of what calls used: one record a call, appended to a
// file on this machine before the answer leaves, and brought from there to a bucket,
// where bills are made of it.
//
// Invariants:
//   - A record whose Append has returned nil survives the process, however it ends:
//     it lies in a mapping that is the kernel's. It survives the machine once it has
//     been synced, SyncEvery later.
//   - A record is in the bucket once, by its segment's number, however often and
//     wherever the process is killed on the way; a segment's file is removed only when
//     the bucket has shown that it has what was in it.
//   - Nothing is guessed: a record counts if its checksum fits. One that is damaged is
//     counted as torn, and those behind it are still found.
//   - The disk is bounded. While the bucket is away, the oldest records are kept; before
//     there is no more room, Full says that admission must stop, and so do log and metrics.
//   - Memory is bounded by a few segments (SealBytes each), whatever waits on the disk.
//
// In the bucket, all times in UTC:
//
//	usage/dt=2026-11-28/hour=09/node=gw-1/00001795871340878073.parquet
//	counts/dt=2026-11-28/hour=09/node=gw-1.json
//	open/node=gw-1.json
//
// The first is one segment's records that started in one hour, in Parquet with zstd
// (Row has the columns, Object the name). A segment with several hours is as many
// objects of one number. A ledger counts its segments without gaps, from the
// microseconds since 1970 at which its folder was made, so that a node that has lost
// its disk uses no number again. The file's metadata says lightcone.node, lightcone.seq,
// lightcone.rows and lightcone.version. The second is what the node counted (Counts),
// by which answered = stored = billed is checked and a difference named; it is
// written for every hour in which the ledger was open. The third is there while the
// node may hold records that the bucket does not have.
//
// In the ledger's folder: NUMBER.segment (frame.go has the format), sequence.json (the
// numbers), answered (a mapped page of calls answered by hour), counts/ (a file an hour,
// kept for 40 days, which no record may be late by), reserve (room for these small files on a full
// disk), lock. A segment without one valid record is kept as NUMBER.segment.damaged.
//
// It is an error of whoever runs it to give two ledgers one node's name: objects are
// not overwritten then, and counts are the last writer's for each ledger. A segment's
// file that somebody else cuts while it is written ends the process (SIGBUS); so does a
// disk that cannot read it. A file system that copies on write (btrfs) may run out of
// room in spite of what was allocated, with the same end.
//
// It meters nothing and prices nothing, does not decide who may ask for whose usage,
// and does not remove objects from the bucket.
package usage
