package bridge

import (
	"context"
	"time"
)

// Bounds of what the registry keeps and lists.
const (
	MaxGroupMembers = 10_000 // members of one group
	MaxDeliveryLogs       = 64     // ended sessions of one user whose trails are kept
	MaxListed       = 1_000  // recipients of a message to all that a Record lists
)

// Member is a session as the engine knows it.
type Member struct {
	User      string    `json:"user"`
	Session   string    `json:"session"`
	Transport string    `json:"transport"` // "websocket", "sse" or "poll"
	Since     time.Time `json:"since"`
	// Token tells tokens of a user apart: a fingerprint of at most 24 characters,
	// never the token. It and Issued (the token's iat, zero without one) stay out
	// of trails.
	Token   string    `json:"-"`
	TokenID string    `json:"tokenId,omitempty"` // the jti its token has now
	Issued  time.Time `json:"-"`
	Groups  []string  `json:"groups,omitempty"` // groups that the token names
	// Returns: the session's cursor shows that its user was here in a time that the
	// store has lost. Where the store has never seen the user, all messages to all
	// that it holds are theirs, and not only those from now on.
	Returns bool      `json:"-"`
	Until   time.Time `json:"until"` // when the token's rights, and with them the session, end
}

// Presence is whether a user is there. Of a user nobody has seen it says only
// that they are not.
type Presence struct {
	User     string
	Sessions int       // live sessions, on all machines; 0: away
	LastSeen time.Time // when a session was last known to be live, now while one is; zero if not known
}

// Revocation says which tokens of a user are no longer good; exactly one member
// is set.
type Revocation struct {
	TokenID      string    `json:"tokenId,omitempty"` // the one with this jti
	IssuedBefore time.Time `json:"issuedBefore"`      // all issued before; those without iat too
}

// Covers reports whether the revocation ends a token.
func (r Revocation) Covers(tokenID string, issuedAt time.Time) bool {
	if r.TokenID != "" {
		return tokenID == r.TokenID
	}
	return issuedAt.Before(r.IssuedBefore)
}

// NoticeKind is what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeDisconnect NoticeKind = "disconnect" // an operator ends Session, or all of User's
	NoticeRevoked    NoticeKind = "revoked"    // Revocation covers some tokens of User
	NoticeErased     NoticeKind = "erased"     // User is gone
	NoticeRecalled   NoticeKind = "recalled"   // the message ID is taken back
	NoticeReplaced   NoticeKind = "replaced"   // User has newer sessions than Session, and as many as may be
	NoticeWanted     NoticeKind = "wanted"     // on the machine Asker, a caller waits for User to come to Status with the message ID
	NoticeReached    NoticeKind = "reached"    // on another machine, Sessions of User have come to Status with the message ID
)

// Notice is something that live sessions must act on, on whichever machine they
// are.
type Notice struct {
	Kind       NoticeKind `json:"kind"`
	User       string     `json:"user,omitempty"` // whose sessions; empty: everybody's
	Session    string     `json:"session,omitempty"`
	Revocation Revocation `json:"revocation,omitzero"`
	// ID, Mailbox and Broadcast tell which message was recalled, and its place
	// in one of User's logs; both are 0 for one that was never stored.
	ID        string `json:"id,omitempty"`
	Mailbox   uint64 `json:"mailbox,omitzero"`
	Broadcast uint64 `json:"broadcast,omitzero"`
	// To is the one machine that is to hear of it, by the name that an Asker
	// gave; empty: every one.
	To       string `json:"to,omitempty"`
	Status   Status `json:"status,omitempty"`
	Sessions int    `json:"sessions,omitzero"`
	// Asker is the machine that the notice comes from, where it is not this
	// one. Engines that span machines set it.
	Asker string `json:"asker,omitempty"`
}

// Record is what the engine knows of an event, as long as it remembers its id.
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
	More  bool // there are more than are listed
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

// Registry is the part of an Engine that knows people, and answers those who ask
// about them. Everything but presence survives a restart.
// Errors of all methods: ErrUnavailable, ErrClosed, the context's, and those named.
type Registry interface {
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

	// Trails returns what the user's sessions went through: live ones on any
	// machine (by Listener.Trails) and those that Leave has kept, oldest first.
	Trails(ctx context.Context, user string) ([]DeliveryLog, error)

	// TrailsOf returns what Trails does for each of some users, in the order given,
	// in a number of steps that does not grow with theirs; with live, of live
	// sessions only.
	TrailsOf(ctx context.Context, users []string, live bool) ([][]DeliveryLog, error)

	// Presence tells for each user, in the order given, whether they are there.
	Presence(ctx context.Context, users []string) ([]Presence, error)

	// Sessions lists a user's live sessions on all machines, oldest first.
	Sessions(ctx context.Context, user string) ([]Member, error)

	// Tell passes a notice on to every machine that may hold such sessions, or
	// to the one that it names.
	Tell(ctx context.Context, n Notice) error

	// Revoke remembers a revocation for good, takes back the groups that the
	// tokens it covers have named, and notifies the user's sessions. Of
	// IssuedBefore the latest counts.
	Revoke(ctx context.Context, user string, r Revocation) error

	// Revoked reports whether a token of user is covered by a revocation: also
	// by one whose Revoke has not notified yet, so that a session which is in
	// the hub first, and asks then, is never missed.
	Revoked(ctx context.Context, user, tokenID string, issuedAt time.Time) (bool, error)

	// Erase forgets a user: mailbox, acks, topics, groups, trails, sights, and
	// each payload that no other mailbox holds; then it notifies the user's
	// sessions. When it returns, nothing of those payloads is left in the
	// store's files. Ids stay remembered, without the user's name, so that a
	// sender's late retry is no new event. Revocations stay. Sequences go on
	// where they were, so that an old cursor finds a gap and never somebody's
	// new messages skipped; the user counts as never seen.
	Erase(ctx context.Context, user string) error

	// Members lists a group's members by name: those that SetMember has put in,
	// and those for whom a token says so at this moment (see Join).
	Members(ctx context.Context, group string) ([]string, error)

	// SetMember makes a user a member of a group, or takes them out of it (also
	// what tokens have said so far; one that is presented again says it again).
	// Once more is no error. ErrGroupFull.
	SetMember(ctx context.Context, group, user string, member bool) error

	// Groups lists the groups a user is a member of, by name.
	Groups(ctx context.Context, user string) ([]string, error)
}
