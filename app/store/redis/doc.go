// Package redis is the Store and the Live for any number of machines that share one Redis
// (7 or later, or Valkey; alone, replicated, or a Cluster).
//
// # Keys
//
// Every key begins with Options.Prefix. A user's mailbox is a handful of keys under one
// hash tag, which is a hash of the user's name: a Cluster thus shards by user, and no key
// shows a name. The log of messages to all has a tag of its own. lua/lib.lua says what
// these keys hold. What is known of an id is one key under the id's own tag. Stored
// formats begin with a version, and a reader ignores members that it does not know, so
// that machines of two versions can work side by side during an upgrade.
//
// # Appending
//
// On a single Redis one script does all of it: it claims the message's id, gives the
// message its place, stores it, removes what the mailbox has no room for, and publishes
// the message. Messages that come while enough scripts run go together in the next one
// (see batcher.go). A message to several users, and on a Cluster any message, takes two
// steps: the id is claimed, then each mailbox takes the message once (see fanout.go). If
// the caller's request ends between the two, sending the message again completes it. A
// large message to several users is stored once, and their mailboxes hold its id (see
// share.go). Work on many keys goes out in small pieces, so that other callers get in
// between.
//
// # Delivery
//
// Each machine subscribes to a channel of its own and to one that all machines share. A
// user's live sessions are in a hash that names each session's machine. A script that
// stores a message publishes it to those machines only; the machine that appended it has
// the message at hand and gets a short reminder instead (see selfdelivery.go). A
// machine's sessions count while its lease lasts, which it renews every few seconds by
// the clock of Redis (see lease.go).
//
// Publishing is at most once. If a connection is lost or a tick missed, messages may be
// lost: the Hub is then told how far each mailbox goes, and sessions read the rest from
// the store (see reconcile.go).
//
// # Callbacks
//
// What backends are to be told is kept in the slot of the user whom it is about, so that
// one script stores it with what causes it: an ack, or a timer that ends. Indexes under
// a tag of their own say which users have something due, and how much waits. See outbox.go.
// Without backends no key of these is written and no script is longer.
//
// Leases end by the clock of Redis, so that machines agree on who has them. What is due at a
// time is so by the clock of the machine that stores it: each compares both clocks when it
// renews its lease (see redisMs), and what is early by the clock of the machine that would
// fire it waits for longer.
//
// A store that goes back in time loses callbacks together with their causes. What a
// backend has been sent before may be sent again, with the same id. On a Cluster an index and a
// user's slot may go back apart from each other: an entry with nothing behind it is taken
// out, and in a new life machines go through all users' keys and list again what is due.
// Counts are too low then, until what was not counted has been sent; callbacks that were
// given up and are not listed any more are not seen again.
//
// # A store that goes back in time
//
// A server that is started on an older file, and a lagging replica that is promoted, give
// out places again that clients have seen with other messages. This is noticed by scripts
// whose text names the store's life: a server that has restarted or was promoted does not
// have them in its cache (see lives.go). A new life then begins on all machines. Each
// mailbox notes where it begins, and what clients have seen beyond that place in an
// earlier life does not count. If nothing was lost, every place stays good.
//
// A published message carries the life in which it got its place. A session's entry
// counts only in the life in which it was written, so that sessions that have left since
// do not count as present.
//
// Machines of a version without lives can work beside newer ones. Their messages have no
// life, and sessions look them up in the store; while such machines run, a store that
// goes back in time is noticed only by the newer ones.
//
// Two cases are not noticed: one shard of a Cluster is emptied by FLUSHALL while the shard
// with the list of lives is not; and a server is demoted and promoted again within one
// renewal, over connections that stay open, while no machine sends it a command.
//
// # Settings of Redis
//
// A message that was appended is as durable as Redis' appendfsync makes it: "always"
// survives a power cut, "everysec" may lose a second. With WaitReplicas the message is
// also on so many replicas, and survives the loss of the primary if one of these is
// promoted. maxmemory-policy must be noeviction: any other policy removes messages that
// were promised.
package redis
