package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// Errors that engines return, alone or wrapped. Everything else an engine
// returns is treated as ErrUnavailable.
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
	ErrClosed = errors.New("the engine is closed")
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

// Listener is what an engine tells about messages as they become readable: this
// machine's hub. Calls for one log come in the order of its sequences, never two
// at a time for the same log, and never block. A Deliver may be missing, or come
// late or twice: sessions find holes by the sequence and fill them from the store.
type Listener interface {
	// Deliver hands a message of user's mailbox (or a never stored one to
	// user) to the user's live sessions on this machine and returns how many
	// it went to.
	Deliver(user string, d Delivery) (sessions int)
	// DeliverAll does the same for a message to all.
	DeliverAll(d Delivery) (sessions int)
	// Notify tells this machine's sessions of something they must act on. A
	// recall comes after the Deliver of the message.
	Notify(n Notice)
	// Trails tells what the user's live sessions on this machine have gone
	// through so far.
	Trails(user string) []DeliveryLog
	// Behind tells that the user's sessions (everybody's where user is empty)
	// may have been told nothing of messages up to head, because machines lost
	// sight of each other: those that are not there yet read them from the
	// store.
	Behind(user string, head Position)
	// NewLife tells that the store lives another life than before: it may have
	// gone back in time. Each session here asks LifeEnd how far what it has seen
	// still holds. It comes before any Deliver of that life.
	NewLife(life string)
}

// Recipient is what became of a message in one mailbox.
type Recipient struct {
	User     string
	Seq      uint64 // its place in the mailbox; 0 if it was never stored, or is gone by now
	Sessions int    // live sessions it went to in this Append; 0 in a duplicate's answer
	Acked    bool   // a session of the user has acked it
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

// Appended is one answer of AppendMany.
type Appended struct {
	Receipt Receipt
	Err     error
}

// JoinState is where a user stands when a session joins.
type JoinState struct {
	// Head is the place of the newest message in each log.
	Head Position
	// Acked is the furthest place any session of the user has acked. For a
	// user seen for the first time, Acked.Broadcast is Head.Broadcast: older
	// messages to all are not theirs.
	Acked Position
	// First is the place before the oldest message to all that concerns this
	// user (the head of that log when the user was first seen); Mailbox is 0.
	First Position
	// Live counts the user's live sessions on all machines, this one too.
	Live int
	// Life is the life of the store in which all this is so.
	Life string
}

// Lost says up to which places messages are gone in a way that their readers
// must be told about. A message that was replaced, recalled or never stored is
// not lost.
type Lost struct {
	Expired Position // the furthest message whose time ran out (removed or not)
	Trimmed Position // the furthest message pushed out of a full mailbox
}

// Page is a stretch of what a user reads.
type Page struct {
	// Deliveries are in order within each log; between the logs the order is
	// the engine's choice. Expired messages are not in it.
	Deliveries []Delivery
	// Next is the place to read on from: it has passed everything in this
	// page and everything that is gone within it.
	Next Position
	// Lost counts what is gone within this page's stretch (after what was
	// asked for, up to Next) as well as before its first delivery. Zero in
	// each log where nothing is gone.
	Lost Lost
	// More is false when the page reached the head of both logs.
	More bool
}

// Engine keeps mailboxes, the memory of ids, acks and presence, and fans live
// messages out. All methods may be called at the same time from many goroutines.
// A context that ends stops the wait, not necessarily the work.
//
// The promises, which storetest holds every engine to:
//   - When Append returns without error, the message survives the death of the
//     process (and of the machine, as far as the store's own setting goes).
//   - One id is one message, for as long as the id is remembered (7 days unless
//     configured), under any concurrency and after a restart.
//   - Sequences of a log have no repeats and only grow; what Listener hears and
//     what Read returns are in their order. A message is readable before the
//     Listener hears of it.
//   - A store that went back in time says so: it lives another life, and tells by
//     LifeEnd which places of earlier ones still mean what they meant. A restart,
//     a failover that lost nothing and a store that was carried elsewhere keep
//     every place good.
//   - Acks may be written late: losing the last ones in a crash repeats a
//     message and never loses one.
type Engine interface {
	// Epoch names this store's life: 4 to 16 characters of [0-9a-z], the same
	// after a restart, another one for a store made anew. Sequences of
	// different epochs have nothing to do with each other.
	Epoch() string

	// Life names what the store is living through now: 4 to 12 characters of
	// [0-9a-z]. A life ends wherever the store may have gone back in time: a
	// backup was restored, a log was cut, a replica that lagged was promoted.
	// Lives have random names, so that one which was lost is never mistaken for
	// another, and each continues the one before it in the store's own list. An
	// engine that cannot tell a restart from a restored backup begins a life
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
	// before Append and Join.
	Listen(l Listener)

	// Append stores m in the mailbox of each of its recipients (or in the log
	// of messages to all), remembers its id, and after that is durable lets
	// the Listener deliver it; the receipt counts those deliveries. A message
	// that is not Stored gets its id remembered and is delivered, with no
	// place in any log. A mailbox that is full loses its oldest messages. A
	// message with a Topic takes out the newest one of that topic in each
	// mailbox it goes to, where that is unexpired and beyond what the user has
	// acked (in the log of messages to all: where it is unexpired); what is
	// taken out so is not lost in the sense of Lost, now or later. A message to
	// a group goes to its members of that moment, maybe to nobody.
	// Being appended to is not being seen (see Join). A message to a user or
	// users that names nobody is the caller's defect.
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

	// Join makes a session present and returns where its user stands. From
	// then on the Listener hears of every message for that user: register the
	// session in the hub before calling it. A user seen for the first time
	// starts to own messages to all from here on, durably so no later than any
	// message to all that is appended afterwards.
	//
	// The user is a member of the union of what their tokens say: of each token
	// the Groups, until the latest Until that it was presented with, whether its
	// sessions are still there or not. Called again for the same session (its
	// token was refreshed) it ends what the session's token before has said,
	// unless another live session of the user, on any machine, has that token.
	// Revoke, Erase and SetMember take it back sooner.
	//
	// A failed Join leaves everything as it was; a session that was present
	// stays so, with the token it had. (Where the context ended first, the new
	// token may count.) Errors: ErrRevoked where the token is revoked, ErrErased
	// where Since is before the user's latest erasure.
	Join(ctx context.Context, m Member) (JoinState, error)

	// Leave ends a session's presence and keeps its trail, where there is
	// anything in it, for as long as ids are remembered (of one user the last
	// MaxTrails). A session that Erase has ended leaves nothing. It never fails
	// for long: a machine that dies without calling it loses its presence
	// within 30 s. It may return before the trail is durable.
	Leave(ctx context.Context, t DeliveryLog) error

	// Pending counts the unexpired messages after a place, in both logs.
	Pending(ctx context.Context, user string, after Position) (int, error)

	// Read returns what the user has after a place, at most maxCount messages
	// and about maxBytes of payload (one message at least). A place beyond the
	// head reads as empty, and Next is then the head. A user whom no session
	// has joined for owns no messages to all. life is the one that after is of;
	// where the store lives another, nothing is read: ErrOtherLife.
	Read(ctx context.Context, user, life string, after Position, maxCount, maxBytes int) (Page, error)

	// Ack says that a session of the user has everything up to p, a place of the
	// life named. It only moves forward; a place beyond the head counts as the
	// head. Of an earlier life it counts as far as LifeEnd. It returns once the
	// ack is on its way, which may be before it is durable. ErrRewound where the
	// store has not lived through that life: then it counts for nothing.
	Ack(ctx context.Context, user, life string, p Position) error

	// Check tells whether the store can take an Append now; nil when it can.
	// It is cheap enough to be called every second.
	Check(ctx context.Context) error

	Registry

	// Close finishes what was appended, writes pending acks and lets the store
	// go. Later calls return ErrClosed.
	Close() error
}
