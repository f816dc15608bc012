package bridge

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Types of callbacks, as backends see them.
const (
	CallbackAcked   = "event.acked"   // a recipient has acked an event
	CallbackUnacked = "event.unacked" // a recipient has not acked an event within its escalate
	CallbackExpired = "event.expired" // a recipient has not acked an event by its end
	CallbackOnline  = "user.online"   // a user has come, of whom no session was there
	CallbackOffline = "user.offline"  // the last session of a user has gone, and none came back in time
	CallbackSent    = "message.sent"  // a user has sent something to the backend
)

// Backend is whom callbacks are sent to, as far as the domain knows: its name, and
// what it wants to hear. Where it lives is the sender's knowledge.
type Backend struct {
	Name  string
	Types []string // patterns of callbacks' and events' types; a lone "*" is every type
	Users []string // patterns of users; nil: every user
}

// Backends are all backends, in the order of the settings. The empty list means that
// no callbacks are stored and nothing is spent on them.
type Backends []Backend

// Want names the backends that want callbacks of a type about a user.
func (bs Backends) Want(callback, user string) (names []string) {
	for _, b := range bs {
		if b.fits(callback, user) {
			names = append(names, b.Name)
		}
	}
	return names
}

// Escalate names the backends that hear of the user's unacked events: all that cover
// the user, since the event itself asks for it.
func (bs Backends) Escalate(user string) (names []string) {
	for _, b := range bs {
		if b.covers(user) {
			names = append(names, b.Name)
		}
	}
	return names
}

// Route finds the backend that takes an event of a type from a user: the one of that
// name, if it fits, or without a name the first that fits.
func (bs Backends) Route(name, eventType, user string) (backend string, ok bool) {
	for _, b := range bs {
		if (name == "" || name == b.Name) && b.fits(eventType, user) {
			return b.Name, true
		}
	}
	return "", false
}

func (b Backend) fits(t, user string) bool {
	return slices.ContainsFunc(b.Types, func(p string) bool { return match(p, t) }) && b.covers(user)
}

func (b Backend) covers(user string) bool {
	return b.Users == nil || slices.ContainsFunc(b.Users, func(p string) bool { return matchUser(p, user) })
}

// Bounds of the outbox, of each backend. Stores have options of these names, for tests.
const (
	MaxCallbacks     = 100_000   // callbacks that wait
	MaxCallbackBytes = 256 << 20 // bytes of their bodies
	// DeadCallbacksFor is how long a callback that was given up is kept.
	DeadCallbacksFor = 7 * 24 * time.Hour
	// RememberTaken is of how many message.sent of a user that a backend has taken the
	// ids are remembered at least, see Outbox.Post.
	RememberTaken = 1_000
)

// Callback is a webhook of ours, ready to be signed and sent.
type Callback struct {
	ID      string    // its webhook-id, the same at each try; made of what caused it, so that the same cause makes the same one
	Backend string    // whom it is for
	Type    string    // one of the types above
	User    string    // whom it is about
	At      time.Time // when it was caused
	Body    []byte    // the JSON that is signed and sent
}

// InOrder reports whether callbacks of this type are sent in order, each user's: the
// next one waits until the one before it is done or dead.
func (c Callback) InOrder() bool { return c.Type == CallbackSent }

// Leased is a callback that this machine alone may try until the lease ends.
type Leased struct {
	Callback
	Tries int       // that have failed so far; 0 again once it is sent again by an operator
	Since time.Time // when its tries began: At, or when an operator sent it again
	Key   string    // the store's own; handed back in Settle
}

// Settlement says what became of a try. Its Tries is what the store keeps: the sender
// has counted the try already, unless it was cut off because this machine stops.
type Settlement struct {
	Leased
	Done  bool      // the backend took it: it is forgotten
	Again time.Time // when it is tried again; zero, and not Done: it is dead
	Hurry bool      // Outbox.Hurry may bring Again forward: the try failed because the backend was down
	Last  string    // why the try failed, for operators: never a body or a secret; at most 200 bytes
}

// Backlog is what waits for a backend.
type Backlog struct {
	Waiting int
	Bytes   int64
	Oldest  time.Time // when the oldest that waits was caused; zero without one
	Dead    int
}

// DeadCallback is one that was given up. It has no body.
type DeadCallback struct {
	ID    string
	Type  string
	User  string
	Since time.Time // when it was given up
	Tries int
	Last  string
}

// Timer is a moment at which a callback is due unless something happens before. Of the
// types CallbackUnacked and CallbackExpired it is about an event that a user may have
// acked by then: its escalation, or its end. Of the type CallbackOffline it is about a
// user of whom backends were told that they are there: when it is to be seen whether
// they still are. A user has one such timer from the user.online until the
// user.offline, and none otherwise.
type Timer struct {
	Type      string // CallbackUnacked, CallbackExpired or CallbackOffline
	User      string
	EventID   string // empty for CallbackOffline, as EventType is
	EventType string
	After     time.Duration // CallbackUnacked: how long after the event came
	Due       time.Time
	Key       string // the store's own, made anew by each lease
}

// Outbox is the part of a Store that keeps callbacks until their backends have them.
// What causes a callback and the callback itself are one commit: an ack that is stored
// has its event.acked, a timer that was fired has its event, and neither is there
// without the other. At any time at most one machine has a lease on a callback or a
// timer; a machine that dies loses its leases after LeaseFor, and nothing else.
//
// Where a backend has more than MaxCallbacks or MaxCallbackBytes waiting, its oldest
// user.* callbacks go (the new one among them), then the oldest event.*, each counted;
// message.sent never do. As many are kept that were given up, and those that were
// given up first go first.
//
// A timer is void, neither leased nor fired, once the user has acked the message, or it
// was recalled, replaced, or the user erased. What a full mailbox has lost is not told as
// expired; it escalates, since nobody has acked it, as long as not more than a few times
// as many wait as the mailbox holds. An ack that comes after a
// message's end no longer counts for its CallbackExpired: that is told, and no
// CallbackAcked. Messages that are gone are not told as acked either.
//
// Errors of all methods: ErrUnavailable, ErrClosed, the context's, and those named.
type Outbox interface {
	// Post stores callbacks that are a cause of their own (message.sent), all or none.
	// One whose ID is there already is not stored twice, nor is a message.sent that its
	// backend has taken already: such ids are remembered for 7 days, of each user the last
	// RememberTaken at least. So all tries of one id have one body.
	// Errors: ErrOutboxFull where a message.sent has no room.
	Post(ctx context.Context, cs ...Callback) error

	// Lease takes up to n callbacks of a backend that are due, those first that have
	// been due longest, for this machine alone, for LeaseFor. With fewer than n due it
	// returns when the next one may be (zero: unknown), and Posted tells of new ones
	// before that.
	Lease(ctx context.Context, backend string, n int) (due []Leased, next time.Time, err error)

	// Settle ends leases. A callback that the backend took is forgotten, also where the
	// lease has passed to another machine meanwhile; any other outcome of a lease that
	// has passed on changes nothing.
	Settle(ctx context.Context, done ...Settlement) error

	// Hurry makes due at once what waits for a later try because the backend was down
	// (Settlement.Hurry). It is called when the backend takes callbacks again, by each
	// machine that saw it fail, and now and then by others, since a machine that saw it may
	// have ended. It costs next to nothing where nothing waits for it; what another machine
	// has leased, and what the backend asked to wait for, is not touched.
	Hurry(ctx context.Context, backend string) error

	// Posted is sent to, without blocking, after a callback became due on this machine.
	Posted() <-chan struct{}

	// LeaseTimers takes up to n timers that are due, as Lease does. It is called every
	// second, and costs next to nothing where none is due.
	LeaseTimers(ctx context.Context, n int) ([]Timer, error)

	// Fire ends a timer. If the user has not acked the event (and it was not recalled,
	// replaced or erased), the callbacks are stored in the same commit; else they are
	// not, and fired is false. An ack and Fire exclude each other. For CallbackOffline
	// fired is false, and the timer stays, where it was armed after the lease began;
	// Arm and Fire exclude each other too.
	Fire(ctx context.Context, t Timer, cs ...Callback) (fired bool, err error)

	// Arm sets the due time of a user's timer of the type CallbackOffline; a lease on
	// it ends. Where the user has none, begin says whether one is made: then the
	// callbacks (user.online) are stored in the same commit, and begun is true.
	// Otherwise the callbacks are not stored.
	Arm(ctx context.Context, user string, due time.Time, begin bool, cs ...Callback) (begun bool, err error)

	// Backlog tells what waits for a backend.
	Backlog(ctx context.Context, backend string) (Backlog, error)

	// Dead lists callbacks that were given up, by ID, at most n of them after an ID.
	Dead(ctx context.Context, backend, after string, n int) ([]DeadCallback, error)

	// Redrive makes dead callbacks due again: those named, or all, and each user's messages
	// in the order in which they were posted. Ids that are not of
	// dead callbacks of the backend are passed over. It returns how many are due again,
	// also beside an error.
	// Errors: ErrOutboxFull where some had no room, which stay dead.
	Redrive(ctx context.Context, backend string, ids []string, all bool) (n int, err error)

	// OfUser calls take with each callback about a user, of all backends: those that wait,
	// and those that were given up, with the time of that. It ends with take's error.
	OfUser(ctx context.Context, user string, take func(c Callback, givenUp time.Time) error) error

	// Names lists the backends that callbacks are kept for, also those that are not
	// configured any more. Of some that are listed there may be none.
	Names(ctx context.Context) ([]string, error)
}

// ErrOutboxFull: a backend has so much waiting that nothing more can be stored for it.
var ErrOutboxFull = errors.New("too much waits for the backend")

// LeaseFor is how long a lease on a callback or a timer lasts: longer than a try.
const LeaseFor = 45 * time.Second
