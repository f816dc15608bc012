// Package redis is the distributed engine: any number of machines on one Redis
// (7 or later, or Valkey; alone, replicated, or a Cluster).
//
// # What is kept where
//
// Every key begins with Options.Prefix. A user's mailbox is a handful of keys
// under one hash tag made of the user's name by a hash, so that a Cluster shards
// by user and no key's name tells one; so is the log of messages to all, under
// a tag of its own. See lua/lib.lua for what they hold. What an id is remembered
// by is one key under the id's own tag. Formats begin with a version; members
// that a version does not know are passed over, so that machines of two versions
// can work side by side while one replaces the other.
//
// One script does what belongs together. On one Redis a message to one user is
// one round trip: its id is claimed, it gets its place, is stored, pushes out
// what is too much, and is published; messages that come while enough scripts are
// on their way go together in the next one. To several users, and in a Cluster, the id
// is claimed first and each mailbox then takes the message once; a caller whose
// request died between sends it again and completes it. Mailboxes that take the
// same message hold its id, and the message is kept once (see share.go). What
// concerns many goes out in small pieces, so that others get in between.
//
// # Who hears what
//
// Each machine listens to one channel of its own and to one that all share.
// A user's live sessions stand in a hash that names the machine of each; a script
// that stores a message publishes it to those machines alone, and only reminds
// the one that sent it, which has the message at hand. A machine's word
// about its sessions counts as long as its lease, which it renews every few
// seconds by Redis' own clock.
//
// Publishing is at most once. What may be lost, with a connection or a missed
// tick, is made good from the store: the Hub is told how far each mailbox
// goes, and sessions that are not there read on.
//
// # A store that goes back in time
//
// A server that is started on an older file, or a replica that lagged and took over,
// gives out again places that clients have seen with other messages. lives.go says
// how that is found out: by scripts whose text names the life that the store lives,
// which a server that restarted or took over does not know. A new life begins then,
// on all machines; each mailbox notes where (lua/lib.lua), and what was seen beyond
// that, in an earlier life, counts for nothing. A new life alone is no loss: where
// nothing is missing, every place stays good.
//
// What is published carries the life in which it got its place, and what a session's
// entry says counts only in the life in which it was written, so that those who have
// left since are not taken for present.
//
// Machines of a version without lives can work beside these. What they append has no
// life, and is looked up in the store; but while they run, a store that goes back is
// found out only for what the new ones do.
//
// What is not found out: that one shard of a Cluster is emptied by FLUSHALL while the
// one that has the list of lives is not; and that a server was demoted and promoted
// again within one renewal, over connections that stayed open, while nobody asked it
// for anything.
//
// # What a setting of Redis means for the promises
//
// An Append that returned is as durable as Redis' appendfsync makes it: "always"
// outlives a power cut, "everysec" may lose a second. With WaitReplicas it has
// also reached so many replicas, and outlives the loss of the primary where one
// of these is promoted. maxmemory-policy must be noeviction: any other takes out
// messages that were promised.
package redis
