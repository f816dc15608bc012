package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// Errors that a Store and a Live return, alone or wrapped. Everything else that they
// return is treated as ErrUnavailable.
var (
	// ErrConflict: the id was used before, with another digest.
	ErrConflict = errors.New("this id was used for another event")
	// ErrUnavailable: the store cannot take or give anything now (disk full,
	// failing disk, server away). It may recover by itself; nothing that was
	// asked has happened, or it is not known to have happened, so the caller
	// must ask again with the same id.
	ErrUnavailable = errors.New("the store is not available")
	// ErrUnknown: there is no such event, or not for this user.
	ErrUnknown = errors.New("no such event")
	// ErrGroupFull: a group has MaxGroupMembers members already.
	ErrGroupFull = errors.New("the group has all the members it may have")
	// ErrRewound: the store has not lived through the life that was named: it
	// went back to a time before that life began.
	ErrRewound = errors.New("the store went back to a time before this life of it")
	// ErrOtherLife: the life that was named is not the one that the store lives
	// now. Ask LifeEnd how far it agrees with this one, and go on from there.
	ErrOtherLife = errors.New("the store lives another life by now")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the store is closed")
)

// Position is a place in what one user reads: the last sequence number taken
// from the user's own mailbox and the last one from the log of messages to all.
// Sequences start at 1 and grow by one; 0 is before the first.
type Position struct {
	Mailbox   uint64 `json:"m,omitzero"`
	Broadcast uint64 `json:"b,omitzero"`
}

// Max returns the further of both in each log.
func (p Position) Max(o Position) Position {
	return Position{Mailbox: max(p.Mailbox, o.Mailbox), Broadcast: max(p.Broadcast, o.Broadcast)}
}

// Min returns the lesser of both in each log.
func (p Position) Min(o Position) Position {
	return Position{Mailbox: min(p.Mailbox, o.Mailbox), Broadcast: min(p.Broadcast, o.Broadcast)}
}

// Covers reports whether p has passed o in both logs.
func (p Position) Covers(o Position) bool {
	return p.Mailbox >= o.Mailbox && p.Broadcast >= o.Broadcast
}

// Delivery is one message at its place. Exactly one of Mailbox and Broadcast is
// set for a stored message; both are 0 for one that was never stored.
type Delivery struct {
	Message   *Message
	Mailbox   uint64
	Broadcast uint64
	// Life is the life of the store in which the message got its place; empty
	// for one never stored.
	Life string
}

// Recipient is what became of a message in one mailbox.
type Recipient struct {
	User string
	// Seq is its place in the mailbox; 0 if it was never stored, or is lost by now: it
	// has expired, or a full mailbox has pushed it out. What was recalled or replaced
	// keeps its place, by which the sessions that have it are found.
	Seq      uint64
	Sessions int  // live sessions it went to in this Append; 0 in a duplicate's answer
	Acked    bool // a session of the user has acked it
}

// Receipt answers Append.
type Receipt struct {
	Duplicate bool      // the id was known with the same digest: nothing was delivered by this call
	Expires   time.Time // as the first Append had it; zero if never stored
	// Recipients has one entry a user in the order of the target (of the
	// members' names for a group); nil for a message to all. Sessions on other
	// machines count as handed to when they are present.
	Recipients []Recipient
	Broadcast  uint64 // place in the log of messages to all; 0 if not there
	Sessions   int    // all live sessions it went to in this Append
}

// Acked names the recipients who have acked the message.
func (r *Receipt) Acked() (users []string) {
	for i := range r.Recipients {
		if r.Recipients[i].Acked {
			users = append(users, r.Recipients[i].User)
		}
	}
	return users
}

// Appended is one answer of AppendMany.
type Appended struct {
	Receipt Receipt
	Err     error
}

// Page is a part of what a user reads.
type Page struct {
	// Deliveries are in order within each log; between the logs the order is
	// the store's choice. Expired messages are not in it.
	Deliveries []Delivery
	// Mailbox and Broadcast say from where to where the page looked at each log, and
	// what the store knows of places at which it holds nothing. See Lost and Next.
	Mailbox, Broadcast Stretch
	// More is false when the page reached the head of both logs.
	More bool
}

// Record is what the store knows of an event, as long as it remembers its id.
type Record struct {
	ID        string
	Type      string
	From      string // the user who sent it; empty for a webhook
	Timestamp time.Time
	Expires   time.Time // zero if never stored
	Recalled  time.Time // zero unless it was
	Except    []string  // sessions that were not to be handed it
	All       bool
	Broadcast uint64 // its place in the log of messages to all, also when it is gone from there
	// Recipients has one entry a recipient; of a message to all one for each user
	// whose it is, MaxListed at most, by name.
	Recipients []RecipientStatus
	More       bool // there are more than are listed
}

// Acked names the recipients who are listed and have acked the message.
func (r *Record) Acked() (users []string) {
	for i := range r.Recipients {
		if r.Recipients[i].Acked {
			users = append(users, r.Recipients[i].User)
		}
	}
	return users
}

// RecipientStatus is what became of a message for one user.
type RecipientStatus struct {
	User  string
	Seq   uint64 // its place in the mailbox, also when it is gone from there; 0 if never stored, or to all
	Held  bool   // it is still there to be read
	Acked bool
	Seen  []SeenAt
}

// SeenAt is an app's word that the person has seen a message.
type SeenAt struct {
	Session string
	At      time.Time
}

// Bounds of what a store keeps and lists.
const (
	MaxGroupMembers = 10_000 // members of one group
	MaxDeliveryLogs = 64     // ended sessions of one user whose delivery logs are kept
	MaxListed       = 1_000  // recipients of a message to all that a Record lists
)

// Store keeps what is durable: mailboxes, the memory of ids, acks, groups,
// revocations and the delivery logs of ended sessions. It tells the Hub of each
// message that has become readable. All methods may be called at the same time from many goroutines.
// A context that ends stops the wait, not necessarily the work.
//
// The promises, which storetest holds every store to:
//   - When Append returns without error, the message survives the death of the
//     process (and of the machine, as far as the store's own setting goes).
//   - One id is one message, for as long as the id is remembered (7 days unless
//     configured), under any concurrency and after a restart.
//   - Sequences of a log have no repeats and only grow; what the Hub hears and
//     what Read returns are in their order. A message is readable before the
//     Hub hears of it.
//   - A store that went back in time says so: it lives another life, and tells by
//     LifeEnd which places of earlier ones still mean what they meant. A restart,
//     a failover that lost nothing and a store that was carried elsewhere keep
//     every place good.
//   - An ack that Ack has answered, or that an answer of Append, AppendMany or Lookup
//     tells of, survives as well. Others may be written late: losing the last ones in a
//     crash repeats a message and never loses one.
type Store interface {
	// Epoch names this store's life: 4 to 16 characters of [0-9a-z], the same
	// after a restart, another one for a store made anew. Sequences of
	// different epochs have nothing to do with each other.
	Epoch() string

	// Life names what the store is living through now: 4 to 12 characters of
	// [0-9a-z]. A life ends wherever the store may have gone back in time: a
	// backup was restored, a log was cut, a replica that lagged was promoted.
	// Lives have random names, so that one which was lost is never mistaken for
	// another, and each continues the one before it in the store's own list. A
	// store that cannot tell a restart from a restored backup begins a life
	// with each start. (Kafka calls this a leader epoch: KIP-101, KIP-320.)
	Life() string

	// LifeEnd returns the furthest place in each of the user's logs that was
	// given out in a life or before it, as the store knows it now: a session of
	// that life which stood at p agrees with the store up to the lesser of p and
	// LifeEnd, and beyond it the same numbers may name other messages. The empty
	// life is the time before stores kept lives. For the life that the store
	// lives now it is the head.
	// Errors: ErrRewound, ErrUnavailable, ErrClosed, the context's.
	LifeEnd(ctx context.Context, user, life string) (Position, error)

	// Listen names the hub that hears of new messages. It is called once,
	// before Append.
	Listen(h Hub)

	// Append stores m in the mailbox of each of its recipients (or in the log
	// of messages to all), remembers its id, and after that is durable lets
	// the Hub deliver it; the receipt counts those deliveries. A message
	// that is not Stored gets its id remembered and is delivered, with no
	// place in any log. A mailbox that is full loses its oldest messages. A
	// message with a Topic takes out the newest one of that topic in each
	// mailbox it goes to, where that is unexpired and beyond what the user has
	// acked (in the log of messages to all: where it is unexpired); what is
	// taken out so is not lost in the sense of Lost, now or later. A message to
	// a group goes to its members of that moment, maybe to nobody.
	// Being appended to is not being seen (see Live.Join). A message to a user or
	// users that names nobody is the caller's defect.
	// Where the message has Escalate, or a backend wants to hear of messages that
	// nobody acked, each recipient gets a timer in the same commit (see Outbox); a
	// message to all has none.
	// Errors: ErrConflict, ErrUnavailable, ErrClosed, the context's.
	Append(ctx context.Context, m *Message) (Receipt, error)

	// AppendMany appends messages as Append does, each with an answer of its
	// own, in their order: of two that go to one mailbox the first comes first.
	// One that fails does not keep the others out.
	AppendMany(ctx context.Context, ms []*Message) []Appended

	// Claim remembers an id as Append does, with a digest and no message: what
	// Lookup then says is of the type ClaimType, at a time. Once more with the
	// same digest is no error.
	// Errors: ErrConflict, ErrUnavailable, ErrClosed, the context's.
	Claim(ctx context.Context, id string, digest [sha256.Size]byte, at time.Time) error

	// Pending lists the places after a place, in both logs, that hold unexpired
	// messages.
	Pending(ctx context.Context, user string, after Position) (Pending, error)

	// Read returns what the user has after a place, at most maxCount messages
	// and about maxBytes of payload (one message at least). A place beyond the
	// head reads as empty, and Next is then the head. Messages to all from before
	// a session of the user has joined for the first time are not the user's: the
	// page's Broadcast.After has passed them. life is the one that after is of;
	// where the store lives another, nothing is read: ErrOtherLife.
	Read(ctx context.Context, user, life string, after Position, maxCount, maxBytes int) (Page, error)

	// Ack says that a session of the user has everything up to p, a place of the
	// life named. It only moves forward; a place beyond the head counts as the
	// head, without what is appended after Ack has returned. Of an earlier life it
	// counts as far as LifeEnd. When Ack returns, the ack counts in the answer to every
	// call that begins after that; it may not be durable yet. ErrRewound where the store
	// has not lived through that life: then it counts for nothing.
	//
	// Where a backend wants to hear of the user's acks (see Outbox), it returns once
	// the ack and its callbacks are durable, one for each message that the ack newly
	// covers and the mailbox still holds. session is whose ack it is, for them alone;
	// empty where that is not known.
	Ack(ctx context.Context, user, session, life string, p Position) error

	// AckLater is Ack for a place that a session was given, so that it is not beyond the
	// head, and that nobody waits to be acked. The store may write it a moment later, with
	// those of other users: within a second, or before an answer of Append, AppendMany or
	// Lookup of this machine tells of it. It counts at once in the answers of this machine.
	// It hardly ever waits, and where ctx has no deadline no longer than the store's own
	// patience.
	AckLater(ctx context.Context, user, session, life string, p Position) error

	// Lookup returns what is known of an event. ErrUnknown.
	Lookup(ctx context.Context, id string) (Record, error)

	// Recall takes an event out of all mailboxes, payload and all, and
	// notifies those it was for. Its readers are not told of a gap. Its id
	// stays remembered. Once more is no error. ErrUnknown.
	Recall(ctx context.Context, id string) error

	// Seen notes that a session's user saw an event; the first time counts. It
	// may return before that is durable. ErrUnknown where the id is not known
	// or the event is not this user's.
	Seen(ctx context.Context, user, session, id string, at time.Time) error

	// DeliveryLogs returns for each of some users, in the order given, what Leave has
	// kept of their sessions, in any order. The number of its steps does not grow with
	// the users'.
	DeliveryLogs(ctx context.Context, users []string) ([][]DeliveryLog, error)

	// Members lists a group's members by name: those that SetMember has put in,
	// and those for whom a token says so at this moment (see Live.Join).
	Members(ctx context.Context, group string) ([]string, error)

	// SetMember makes a user a member of a group, or takes them out of it (also
	// what tokens have said so far; one that is presented again says it again).
	// Once more is no error. ErrGroupFull.
	SetMember(ctx context.Context, group, user string, member bool) error

	// Groups lists the groups a user is a member of, by name.
	Groups(ctx context.Context, user string) ([]string, error)

	// Revoke remembers a revocation for good, takes back the groups that the
	// tokens it covers have named, and notifies the user's sessions. Of
	// IssuedBefore the latest counts.
	Revoke(ctx context.Context, user string, r Revocation) error

	// Revoked reports whether a token of user is covered by a revocation. It is for
	// callers who have no session; for those that have one, Join tells.
	Revoked(ctx context.Context, user, tokenID string, issuedAt time.Time) (bool, error)

	// Erase forgets a user: mailbox, acks, topics, groups, delivery logs, what was seen, and
	// each payload that no other mailbox holds; then it notifies the user's
	// sessions. When it returns, nothing of those payloads is left in the
	// store's files. Ids stay remembered, without the user's name, so that a
	// sender's late retry is no new event. Revocations stay. Sequences go on
	// where they were, so that an old cursor finds a gap and never somebody's
	// new messages skipped; the user counts as never seen.
	Erase(ctx context.Context, user string) error

	// Check tells whether the store can take an Append now; nil when it can.
	// It is cheap enough to be called every second.
	Check(ctx context.Context) error

	// Close finishes what was appended, writes pending acks and lets the store
	// go. Later calls return ErrClosed.
	Close() error
}
