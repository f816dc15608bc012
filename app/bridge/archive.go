package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// Errors of an Archive.
var (
	// ErrInUse: a bridge runs on the store.
	ErrInUse = errors.New("a bridge runs on this store; stop it first")
	// ErrNotEmpty: the store keeps something already, and not half of what is
	// being loaded.
	ErrNotEmpty = errors.New("the store is not empty")
	// ErrUnfinished: the store holds half of an import, and is no store yet.
	ErrUnfinished = errors.New("an import into this store has not been finished")
)

// Entry is one thing that a store keeps, in a form that no engine owns; exactly
// one member is set. Times are Unix nanoseconds, 0 for none.
type Entry struct {
	Life       *LifeEntry       `json:"life,omitempty"`
	Event      *EventEntry      `json:"event,omitempty"`
	Mailbox    *MailboxEntry    `json:"mailbox,omitempty"`
	Message    *MessageEntry    `json:"message,omitempty"`
	Membership *MembershipEntry `json:"membership,omitempty"`
	Revocation *RevocationEntry `json:"revocation,omitempty"`
	Trail      *DeliveryLog     `json:"trail,omitempty"`
	Sight      *SightEntry      `json:"sight,omitempty"`
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
	Holes    [][2]uint64 `json:"holes,omitempty"`  // places beyond Trimmed and Expired that were taken out on purpose: first and last
	Seen     bool        `json:"seen,omitzero"`    // a session of the user has joined once
	First    uint64      `json:"first,omitzero"`   // Standing.First.Broadcast
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

// SightEntry is that a session's user has seen an event.
type SightEntry struct {
	ID      string `json:"id"`
	User    string `json:"user"`
	Session string `json:"session"`
	At      int64  `json:"at"`
}

// Progress is how far an import has come: it stands in the store until it is
// done, so that one that broke off goes on, and no bridge starts on half a store.
type Progress struct {
	Export string `json:"export"` // the export's own name
	Loaded int64  `json:"loaded"` // entries of it that are in the store
}

// Archive is a whole store that is carried to another engine, or comes from one.
// Nobody else uses it meanwhile. Presence, leases and tickets stay behind: what
// lives only as long as a connection is not carried.
//
// Entries come in this order: lives; events; then of each mailbox its MailboxEntry and
// its messages by place; memberships; revocations; trails; sights. A place
// returned by Dump may bring entries again that came before it, never leave one
// out; Load takes an entry twice like once.
type Archive interface {
	// Epoch names the store's life; empty where it is new. What is carried keeps
	// its epoch, so that sessions resume with the cursors that they have.
	Epoch() string

	// Count estimates the entries that Dump will give.
	Count(ctx context.Context) (int64, error)

	// Dump calls take with each entry, from a place on that it gave before (all,
	// where that is empty), and with the place behind it. What has expired by now
	// is left out. It ends with take's error.
	Dump(ctx context.Context, after string, take func(e Entry, place string) error) error

	// Progress tells of an import that was begun and is not done; zero where
	// there is none. ErrNotEmpty where the store has its own life.
	Progress(ctx context.Context) (Progress, error)

	// Load writes entries, and p with them or after them, never before them. It
	// has happened when it returns, as durably as Append.
	Load(ctx context.Context, entries []Entry, p Progress) error

	// Finish gives the store its epoch and makes it one that a bridge runs on.
	Finish(ctx context.Context, epoch string) error

	// Clear takes out what an import has loaded that will not be finished.
	Clear(ctx context.Context) error

	Close() error
}

// ArchiveTime reads a time of an Entry.
func ArchiveTime(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// MailboxHash stands for a user whose name is not kept.
func MailboxHash(user string) []byte {
	sum := sha256.Sum256([]byte(user))
	return sum[:15]
}
