// Package bridge is the domain: it carries events to the people they are for.
//
// A backend publishes an Event; it becomes a Message in the Mailbox of each
// recipient. A Session is one live connection of one user; the Hub knows the
// sessions of this machine. A session reads its user's mailbox from a Cursor:
// first what is stored (replay), then what comes (live), with no gap
// between. An Ack is the app's word that it has a message.
//
// One door in, Store.Append; one door out, the session's writer. What the
// package promises: a message is stored before anyone is told so, each user's
// messages arrive in order and at least once, a gap is announced, and the user
// of a session is its token's user.
package bridge
