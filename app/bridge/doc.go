// Package bridge is the domain: it carries events to the people they are for.
//
// A backend publishes an Event; it becomes a Message in the Mailbox of each
// recipient. A Session is one live connection of one user; the Hub knows the
// sessions of this machine. A session reads its user's mailbox from a Cursor:
// first what is stored (replay), then what comes (live), with no gap
// between. An Ack is the app's word that it has a message.
//
// All messages go in through Store.Append, and out through the session's writer.
// Between the two the package is left once and entered again: the store gives each
// message its place in a mailbox, so only the store knows their order, and it is the
// store that hands a message on, to Hub.Deliver. The walk of an event is
//
//	Publish (publish.go) -> Store.Append -> Hub.Deliver (hub.go)
//	-> Session.offer (queue.go) -> writer.run (writer.go) -> Conn.Write
//	(handlers/wsconn.go for a WebSocket)
//
// while Publish returns the answer as soon as Append does (outcome.go), or waits for
// those who have the message to come further (wait.go). Append is called for an event
// that is stored already only to learn who has acked it since.
//
// What the package promises: a message is stored before anyone is told so, each user's
// messages arrive in order and at least once, a gap is announced, and the user
// of a session is its token's user.
package bridge
