// Package sqlite is the embedded store: every mailbox, id and ack in one SQLite
// file, fsynced before an Append returns, with no server beside the program.
//
// # How a message is written
//
// One goroutine, the writer, owns the only connection that writes. It takes
// everything that waits in the queue, stores it as one group, pays one fsync for
// all of it, and hands the group to the fan-out, which tells the Hub and answers
// the callers while the writer is busy with the next group. The group forms by
// itself: what arrives during one fsync is the next group.
//
// A group of plain messages goes into the tables in a transaction that stays open,
// and into the journal, whose fsync makes it durable. The transaction is committed
// every 300 ms, every 4,096 messages, before any other request that writes, and for a reader of
// a mailbox that got messages in it (see journaling.go and recovery.go). Every other
// group has a commit of its own, with an fsync.
//
// # What stands in the file
//
//   - log: one row a message in order of arrival, with the payload (until the
//     message expires) and the memory of its id (for the retention time; once
//     the payload is gone the row moves to numbers below zero).
//   - mail: one narrow row a recipient, keyed by user and sequence, pointing into
//     log. The log of messages to all is the mailbox of the user named "".
//   - users: where a user stands (acks, first seen, trimmed), and the head of a
//     mailbox whose newest rows are gone.
//   - callbacks: what is told to backends, until they have it or it was given up, and
//     timers: when it is seen whether something is to be told (see outbox.go).
//
// Sequences have no gaps when they are given out, and only expiry and trimming
// take rows away; so a gap above the trimmed watermark is an expired message,
// and no list of what is gone needs to be kept. A mailbox in which messages were
// replaced (by topic) or recalled is marked as explicit: see gaps.go.
//
// # How a store is carried
//
// An Archive has the folder to itself, under the same lock as a Store. It dumps
// rows as they stand, and works out what a Store only implies: which places of
// a mailbox have expired, and which are empty on purpose. It loads with the same
// settings as the writer, one transaction a batch, and leaves a mark in meta
// until it is done, which keeps a Store from opening it.
//
// # Why this driver and these tables
//
// CPU time per message of ~300 B to one of 10,000 users, 64 messages a commit,
// real fsync, ext4, 2 cores, checkpoints included; "random" are ids without any
// order, the worst case for an index; "100k" is 100,000 users and random ids.
// This is the store alone, without queue and fan-out:
//
//	driver                              ordered  random   100k
//	modernc.org/sqlite, database/sql      29 µs      –   57 µs
//	zombiezen.com/go/sqlite            27–32 µs  39 µs   60 µs
//	ncruces/go-sqlite3                 21–27 µs  38 µs   51 µs
//	ncruces with writes gathered          24 µs  26 µs   32 µs
//
// "Gathered" is package walfile: SQLite writes two small pieces a page into the WAL, and
// this package turns a whole commit into one write. Payloads inside the mailbox
// rows instead of an append-only log cost 39–48 µs (many more pages change), pages
// of 1 or 2 KiB cost more than 4 KiB.
//
// A commit of 32 messages costs 19 µs a message without its fsync (8 to execute the
// statements, 11 for pages in the commit and the checkpoint); one of 4,000 costs 8.
// Looking an id up beside that costs 1.2 to 2.9 µs; so the messages go into the tables
// at once, where the index answers, and only the commit comes late. Measured in turns
// on a machine with other work, the journal halves BenchmarkAppend: 43 to 24 µs with 64
// senders, random ids and 10,000 users, 57 to 31 with 100,000 users, 260 to 178 with one
// sender.
//
// Before there was a journal BenchmarkAppend gave, on the first machine: 23 µs and
// 36,000 messages a second with 64 concurrent senders (28 and 31 µs with random
// ids and with 100,000 users), 57 µs with 8, 159 µs with one; 17 µs with 256.
package sqlite
