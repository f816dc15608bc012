package bridge

import (
	"cmp"
	"context"
	"time"
)

// Member is a session as a Live knows it.
type Member struct {
	User      string    `json:"user"`
	Session   string    `json:"session"`
	Transport string    `json:"transport"` // "websocket", "sse" or "poll"
	Since     time.Time `json:"since"`
	// Token tells tokens of a user apart: a fingerprint of at most 24 characters,
	// never the token. It and Issued (the token's iat, zero without one) stay out
	// of delivery logs.
	Token   string    `json:"-"`
	TokenID string    `json:"tokenId,omitempty"` // the jti its token has now
	Issued  time.Time `json:"-"`
	Groups  []string  `json:"groups,omitempty"` // groups that the token names
	// Returns: the session's cursor shows that its user was here in a time that the
	// store has lost. Where the store has never seen the user, all messages to all
	// that it holds are theirs, and not only those from now on.
	Returns bool      `json:"-"`
	Until   time.Time `json:"until"` // when the token's rights, and with them the session, end
	// Reads asks Join for the first page of what the user reads; nil for none.
	Reads *ReadAhead `json:"-"`
}

// ReadAhead asks Join for the page that Read would return, in the same step.
type ReadAhead struct {
	Fresh              bool     // it begins at what the user has acked (JoinState.Acked); or else
	After              Position // here, which is a place of
	Life               string   // this life
	MaxCount, MaxBytes int      // as of Read
}

// Presence is whether a user is there. Of a user nobody has seen it says only
// that they are not.
type Presence struct {
	User     string
	Sessions int       // live sessions, on all machines; 0: away
	LastSeen time.Time // when a session was last known to be live, now while one is; zero if not known
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
	// Page is what Read would return for Life and PageAfter. It is nil where the session
	// did not ask for a page, or for one of another life, and where the store cannot give
	// it in the same step: then Read gives it.
	Page      *Page
	PageAfter Position
}

// Live knows who is connected on which machine, and passes notices and questions
// between machines. All methods may be called at the same time from many goroutines.
// Nothing of it survives a restart, apart from what Join and Leave say of the store.
// Errors of all methods: ErrUnavailable, ErrClosed, the context's, and those named.
type Live interface {
	// Listen names this machine's sessions. It is called once, before Join.
	Listen(h Hub)

	// Join makes a session present and returns where its user stands. From
	// then on the Hub hears of every message for that user: register the
	// session there before calling it. A user seen for the first time
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
	// token may count.) Errors: ErrRevoked where the token is revoked: also by a
	// Revoke that has not notified yet, so that a session which is in the hub first
	// and joins then is never missed. ErrErased where Since is before the user's latest
	// erasure.
	Join(ctx context.Context, m Member) (JoinState, error)

	// Leave ends a session's presence and keeps its delivery log, where there is
	// anything in it, for as long as ids are remembered (of one user the last
	// MaxDeliveryLogs). A session that was never let in, or whose user was erased
	// since, leaves nothing. It never fails for long: a machine that dies without
	// calling it loses its presence within 30 s. It may return before the log is
	// durable.
	Leave(ctx context.Context, log DeliveryLog) error

	// Presence tells for each user, in the order given, whether they are there.
	Presence(ctx context.Context, users []string) ([]Presence, error)

	// Sessions lists a user's live sessions on all machines, oldest first.
	Sessions(ctx context.Context, user string) ([]Member, error)

	// Tell passes a notice on to every machine that may hold such sessions, this one
	// too, or to the one that it names.
	Tell(ctx context.Context, n Notice) error

	// Ask returns the delivery logs of the users' live sessions on all other machines,
	// in any order. The acks that they tell of are stored then, and so are all that this
	// machine's sessions gave before. The number of its steps does not grow with the users'. Machines
	// that do not answer within a second are left out.
	Ask(ctx context.Context, users []string) ([]DeliveryLog, error)
}

// OldestFirst orders sessions by when they began.
func OldestFirst(a, b Member) int {
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Session, b.Session))
}
