package bridge

import (
	"crypto/sha256"
	"log/slog"
	"time"

	"hookbridge/app/wire"
)

// Limits of the protocol on what a message may carry.
const (
	MaxNameBytes  = 64    // a sender's name, which may stand before a webhook-id
	MaxUserChars  = 128   // a user or group id, in characters
	MaxRecipients = 1_000 // users that one event may name
)

// Target says whom a message is for: exactly one of User, Users, Group or All.
type Target struct {
	User  string
	Users []string // each once
	Group string   // whoever is a member when the message is appended
	All   bool
}

// Recipients lists the users the target names; empty where it is to a group or
// to all.
func (t Target) Recipients() []string {
	if t.User != "" {
		return []string{t.User}
	}
	return t.Users
}

// Message is one addressed event on its way to mailboxes. It is immutable once
// given to Store.Append: stores and sessions share it and its slices.
type Message struct {
	ID     string // the event's id; one id is one message for Config.IDRetention
	From   string // the user who sent it; empty for a webhook
	To     Target
	Digest [sha256.Size]byte // of what was asked for: the same id with another digest is a conflict
	Type   string            // the event's type
	At     time.Time         // the event's own time
	Event  []byte            // the event object as sessions see it, JSON
	Tail   []byte            // the end of every session's frame, which all share; Event is a part of it

	// Expires is when the mailbox stops keeping it. The zero time means
	// never stored: live sessions only.
	Expires time.Time
	// Except names sessions that must not be handed the message.
	Except []string
	// Topic, where set, makes a newer message take the place of an older one
	// of the same topic that its user has not acked.
	Topic string
	// Escalate is how long after its arrival backends are told of each recipient who
	// has not acked it by then; 0: they are not.
	Escalate time.Duration
	// Wanted is what a caller waits for, StatusReceived or StatusAcked; empty
	// where nobody waits. It goes to live sessions only and is not stored.
	Wanted Status
	// Asker names the machine on which the caller waits, where it is not this
	// one. Stores that span machines set it in what they deliver.
	Asker string
}

// Stored reports whether the message is kept for those who are away.
func (m *Message) Stored() bool { return !m.Expires.IsZero() }

// EscalatesAt is when backends are told of those who have not acked a message that arrives
// now: at its end at the latest.
func (m *Message) EscalatesAt(now time.Time) time.Time {
	if at := now.Add(m.Escalate); at.Before(m.Expires) {
		return at
	}
	return m.Expires
}

// Encode writes Tail from From and Event, and makes Event a part of it. A store that
// has read a message back calls it once before it shares the message.
func (m *Message) Encode() { m.Tail, m.Event = wire.EventTail(m.From, m.Event) }

// LogValue keeps payloads out of logs: the id, whom it is for, and the size.
func (m *Message) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", m.ID), slog.Int("recipients", len(m.To.Recipients())),
		slog.Bool("all", m.To.All), slog.Int("bytes", len(m.Event)))
}

// Status is how far a message has come, least first.
type Status string

// The states of a message; each includes the ones before it. Answers to webhooks and
// sends name them.
const (
	StatusDropped  Status = "dropped"  // nobody online, and not to be stored
	StatusQueued   Status = "queued"   // nobody online, stored
	StatusSent     Status = "sent"     // handed to at least one live session
	StatusReceived Status = "received" // a client's WebSocket answered for it
	StatusAcked    Status = "acked"    // an app said that it has it
)

var statusRank = map[Status]int{StatusDropped: 0, StatusQueued: 1, StatusSent: 2, StatusReceived: 3, StatusAcked: 4}

// Max is the more advanced of s and o.
func (s Status) Max(o Status) Status {
	if s.Less(o) {
		return o
	}
	return s
}

// Less reports whether s is less advanced than o.
func (s Status) Less(o Status) bool { return statusRank[s] < statusRank[o] }
