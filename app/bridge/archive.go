package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Errors of an Archive.
var (
	// ErrInUse: a bridge runs on the store.
	ErrInUse = errors.New("a bridge runs on this store; stop it first")
	// ErrNotEmpty: the store keeps something already, and not what an import that
	// broke off has left.
	ErrNotEmpty = errors.New("the store is not empty")
	// ErrUnfinished: the store holds a part of an import, and no bridge runs on it.
	ErrUnfinished = errors.New("an import into this store was never finished; run `hookbridge import` again: it takes out what is there and starts over")
	// ErrBadEntry: the entry does not fit what a store keeps.
	ErrBadEntry = errors.New("the export does not fit together")
)

// ImportMark is what a store that holds a part of an import keeps under a key of its
// own, instead of an epoch. Older versions, which could continue an import, read it
// as JSON and find the name of one that is not theirs, so that they start over too.
const ImportMark = `{"export":"unfinished","loaded":0}`

// Entry is one thing that a store keeps, in a form that both stores read and write;
// exactly one member is set. Times are Unix nanoseconds, 0 for none. In files and
// tables two kinds have older names: a delivery log is a trail, a SeenAt a sight.
type Entry struct {
	Life        *LifeEntry       `json:"life,omitempty"`
	Event       *EventEntry      `json:"event,omitempty"`
	Mailbox     *MailboxEntry    `json:"mailbox,omitempty"`
	Message     *MessageEntry    `json:"message,omitempty"`
	Membership  *MembershipEntry `json:"membership,omitempty"`
	Revocation  *RevocationEntry `json:"revocation,omitempty"`
	DeliveryLog *DeliveryLog     `json:"trail,omitempty"`
	Seen        *SeenEntry       `json:"sight,omitempty"`
	Callback    *CallbackEntry   `json:"callback,omitempty"`
	Taken       *TakenEntry      `json:"taken,omitempty"`
	Timer       *TimerEntry      `json:"timer,omitempty"`
}

// Kinds is how many members are set.
func (e *Entry) Kinds() (n int) {
	for _, set := range []bool{
		e.Life != nil, e.Event != nil, e.Mailbox != nil, e.Message != nil,
		e.Membership != nil, e.Revocation != nil, e.DeliveryLog != nil, e.Seen != nil,
		e.Callback != nil, e.Taken != nil, e.Timer != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// Check returns ErrBadEntry where no store could keep the entry.
func (e *Entry) Check() error {
	switch {
	case e.Kinds() != 1:
		return fmt.Errorf("%w: an entry is of %d kinds", ErrBadEntry, e.Kinds())
	case e.Event != nil && (e.Event.ID == "" || len(e.Event.Digest) != sha256.Size):
		return fmt.Errorf("%w: the event %q", ErrBadEntry, e.Event.ID)
	case e.Mailbox != nil && len(e.Mailbox.Hash) != 0 && len(e.Mailbox.Hash) != mailboxHash:
		return fmt.Errorf("%w: the hash of a mailbox", ErrBadEntry)
	case e.Callback != nil && (e.Callback.ID == "" || e.Callback.Backend == "" || e.Callback.Type == ""):
		return fmt.Errorf("%w: the callback %q", ErrBadEntry, e.Callback.ID)
	case e.Taken != nil && (e.Taken.ID == "" || e.Taken.Backend == "" || (e.Taken.User == "") == (len(e.Taken.Hash) == 0)):
		return fmt.Errorf("%w: the taken callback %q", ErrBadEntry, e.Taken.ID)
	case e.Taken != nil && len(e.Taken.Hash) != 0 && len(e.Taken.Hash) != mailboxHash:
		return fmt.Errorf("%w: the hash of a taken callback's user", ErrBadEntry)
	case e.Timer != nil && (e.Timer.User == "" || (e.Timer.Seq == 0) != (e.Timer.Type == CallbackOffline)):
		return fmt.Errorf("%w: a timer of the event %q", ErrBadEntry, e.Timer.EventID)
	case e.Timer != nil && e.Timer.Type != CallbackUnacked && e.Timer.Type != CallbackExpired && e.Timer.Type != CallbackOffline:
		return fmt.Errorf("%w: a timer of a kind that nobody knows", ErrBadEntry)
	}
	return nil
}

// LifeEntry is a life that the store has lived through, oldest first, the one
// that it lives now last.
type LifeEntry struct {
	Name string `json:"name"`
}

// LifeStart says where a mailbox stood when the first message of a life came
// into it.
type LifeStart struct {
	Life  string `json:"life"`
	After uint64 `json:"after,omitzero"`
}

// EventEntry is what is remembered by an id.
type EventEntry struct {
	ID       string       `json:"id"`
	Digest   []byte       `json:"digest"`
	Until    int64        `json:"until"` // how long the id is remembered
	Type     string       `json:"type"`
	From     string       `json:"from,omitempty"`
	At       int64        `json:"at"`
	Expires  int64        `json:"expires,omitzero"`
	Recalled int64        `json:"recalled,omitzero"`
	Except   []string     `json:"except,omitempty"`
	Places   []PlaceEntry `json:"places,omitempty"` // in the order of the receipt
}

// PlaceEntry is a recipient, and the message's place in that mailbox; 0 for one
// never stored. The user "" stands for the log of messages to all.
type PlaceEntry struct {
	User string `json:"user,omitempty"`
	Seq  uint64 `json:"seq,omitzero"`
}

// MailboxEntry is where a mailbox stands. User is empty for the log of messages
// to all; or, where Hash is set, for a mailbox whose user's name is not kept
// (who was erased, or never came): of such a one only Head counts.
type MailboxEntry struct {
	User     string      `json:"user,omitempty"`
	Hash     []byte      `json:"hash,omitempty"` // of MailboxHash
	Head     uint64      `json:"head,omitzero"`
	Trimmed  uint64      `json:"trimmed,omitzero"`
	Expired  uint64      `json:"expired,omitzero"` // the furthest place that expired
	Removed  [][2]uint64 `json:"holes,omitempty"`  // places beyond Trimmed and Expired whose messages were removed on purpose: first and last
	Seen     bool        `json:"seen,omitzero"`    // a session of the user has joined once
	First    uint64      `json:"first,omitzero"`   // JoinState.First.Broadcast
	Acked    Position    `json:"acked,omitzero"`
	Lives    []LifeStart `json:"lives,omitempty"` // oldest first
	LastSeen int64       `json:"lastSeen,omitzero"`
}

// MessageEntry is a message in a mailbox, in the order of places.
type MessageEntry struct {
	User    string `json:"user,omitempty"` // empty: to all
	Seq     uint64 `json:"seq"`
	ID      string `json:"id"`
	Topic   string `json:"topic,omitempty"`
	Expires int64  `json:"expires"`
	Event   []byte `json:"event"` // Message.Event
}

// MembershipEntry makes a user a member of a group: because an operator said so,
// because one token does until it ends, or (in what older versions have written)
// both at once, for tokens of which no more is known than when the last one ends.
type MembershipEntry struct {
	Group   string `json:"group"`
	User    string `json:"user"`
	Stored  bool   `json:"stored,omitzero"` // an operator said so
	Until   int64  `json:"until,omitzero"`  // a token says so until then
	Token   string `json:"token,omitempty"` // Member.Token; empty where it is not known
	TokenID string `json:"tokenId,omitempty"`
	Issued  int64  `json:"issued,omitzero"`
}

// RevocationEntry is a revocation of a user's tokens.
type RevocationEntry struct {
	User string `json:"user"`
	Revocation
}

// SeenEntry is that a session's user has seen an event.
type SeenEntry struct {
	ID      string `json:"id"`
	User    string `json:"user"`
	Session string `json:"session"`
	At      int64  `json:"at"`
}

// CallbackEntry is a callback that waits, or was given up. Leases are not exported.
type CallbackEntry struct {
	ID      string `json:"id"`
	Backend string `json:"backend"`
	Type    string `json:"type"`
	User    string `json:"user"`
	At      int64  `json:"at"`
	Due     int64  `json:"due,omitzero"` // when it is tried next; 0: as soon as may be
	Tries   int    `json:"tries,omitzero"`
	Since   int64  `json:"since"`          // Leased.Since
	Dead    int64  `json:"dead,omitzero"`  // when it was given up; 0: it waits
	Last    string `json:"last,omitempty"` // Settlement.Last
	Body    []byte `json:"body"`
}

// TakenEntry is a message.sent that its backend has taken, and that is not stored again
// under its id: see Outbox.Post.
type TakenEntry struct {
	ID      string `json:"id"`
	Backend string `json:"backend"`
	User    string `json:"user,omitempty"`
	Hash    []byte `json:"hash,omitempty"` // MailboxHash of a user whose name the store does not know
	At      int64  `json:"at"`             // when it was taken
}

// TimerEntry is a timer that is not void: see Timer.
type TimerEntry struct {
	User      string `json:"user"`
	Seq       uint64 `json:"seq,omitzero"` // the message's place in the user's mailbox; 0 for CallbackOffline
	Type      string `json:"type"`
	EventID   string `json:"id,omitempty"`
	EventType string `json:"eventType,omitempty"`
	After     int64  `json:"after,omitzero"` // nanoseconds
	Due       int64  `json:"due"`
}

// Archive is a whole store that is exported to a file or imported from one. Nobody
// else uses it meanwhile. Presence, leases and tickets are not exported: they live
// only as long as a connection.
//
// Entries come in this order: lives; events; then of each mailbox its MailboxEntry and
// its messages by place; memberships; revocations; delivery logs; who has seen what;
// callbacks, each backend's in the order in which they were stored; those that were taken;
// timers. An entry may come twice, and counts as one.
type Archive interface {
	// Epoch names the store; it is empty where no bridge has run on it yet. What is
	// imported keeps its epoch, so that sessions resume with the cursors that they
	// have. ErrUnfinished where the store holds a part of an import: it can be
	// neither exported nor served, only imported into.
	Epoch() (string, error)

	// Count estimates how many entries Dump will give.
	Count(ctx context.Context) (int64, error)

	// Dump calls take with each entry. What has expired is left out. It ends with
	// take's error.
	Dump(ctx context.Context, take func(e Entry) error) error

	// Begin prepares the store for an import: it takes out what an import that broke
	// off has left, and keeps every bridge off the store until Finish. ErrNotEmpty
	// where the store keeps anything else.
	Begin(ctx context.Context) error

	// Load writes entries that have passed Check, after Begin. ErrBadEntry where one
	// refers to another that never came.
	Load(ctx context.Context, entries []Entry) error

	// Finish gives the store its epoch and lets bridges run on it. When it returns,
	// everything is as durable as after Append.
	Finish(ctx context.Context, epoch string) error

	Close() error
}

// ArchiveTime reads a time of an Entry.
func ArchiveTime(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// mailboxHash is the length of a MailboxHash in bytes.
const mailboxHash = 15

// MailboxHash identifies a user whose name is not kept.
func MailboxHash(user string) []byte {
	sum := sha256.Sum256([]byte(user))
	return sum[:mailboxHash]
}
