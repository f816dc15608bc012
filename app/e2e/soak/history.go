package soak

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Moment is a time on the one clock of a run: nanoseconds since it began.
type Moment = time.Duration

// Never is the end of what was not answered: it may still happen.
const Never Moment = math.MaxInt64

// Forever is the time to live of an event that outlives every run.
const Forever time.Duration = -1

// History is all that callers and clients did and were told in one run.
type History struct {
	Now   func() Moment // the run's clock
	Began time.Time     // its zero, as the machine's clock has it
	Exact bool          // one process: it knows all sessions at any time
	Small bool          // mailboxes are so small that they overflow
	Told  bool          // a backend is to be told of everything

	mu          sync.Mutex // guards what follows, and everything that it refers to
	Events      []*Event   // an event's number is its index
	Readers     []*Reader
	Acks        map[string][]Ack // by user, in the order in which they were sent
	Erasures    []*Op
	Memberships map[Member][]*Op
	Revocations []*Op
	Rewinds     []Rewind
	Troubles    []Trouble
	ForUser     map[string][]*Event // those that name the user
	Wide        []*Event            // to a group or to all
	Sends       []*Event            // to the backend
	Callbacks   []*Callback         // in the order in which they came
	Looks       []Look              // in the order in which they were answered
	Rest        Moment              // when the clients began to leave, and nothing was owed; Never before
	Tried       map[int]Moment      // by the number of a send: when it first came to the backend
	Heard       map[int]Moment      // and when the backend first took it
	Notes       []Finding           // what was found while it happened
}

// NewHistory is an empty one that begins now.
func NewHistory() *History {
	began := time.Now()
	return &History{Now: func() Moment { return time.Since(began) }, Began: began, Rest: Never, Acks: map[string][]Ack{}, ForUser: map[string][]*Event{},
		Memberships: map[Member][]*Op{}, Tried: map[int]Moment{}, Heard: map[int]Moment{}}
}

// Member is a user in a group.
type Member struct{ User, Group string }

// Target says who an event is for: one member is set.
type Target struct {
	User  string   `json:"user,omitempty"`
	Users []string `json:"users,omitempty"`
	Group string   `json:"group,omitempty"`
	All   bool     `json:"all,omitempty"`
	// Backend is for what a user sends to the backend.
	Backend bool `json:"backend,omitempty"`
}

// Event is one that was sent, by a webhook or by a user.
type Event struct {
	N        int
	ID       string // what the bridge calls it; empty while that is not known
	From     string // the user who sent it; empty for a webhook
	To       Target
	TTL      time.Duration
	Topic    string
	Escalate time.Duration // 0: nobody is told that it was not acked
	Data     string        // exactly as it was sent
	Attempts []*Attempt
	Recalls  []*Op
	Seen     int // times that anybody saw it
}

// Attempt is one request (or send frame) for an event, and its answer.
type Attempt struct {
	Start, End Moment
	Code       int // HTTP status, or that of a frame's problem; 202 for a result; 0 without an answer
	Status     string
	Sessions   int
	Recipients int // 0 where the answer does not say
	Online     int
	Duplicate  bool
}

// Op is an operator's act. It is tried until it is answered: it was carried out
// at some moment between Start and End.
type Op struct {
	Start, End Moment
	User       string
	Add        bool   // of a membership: into the group, or out of it
	Token      string // of a revocation: the token's id
}

// Rewind is a store that went back in time. What was answered before Kept is in
// the copy; what began after Lost and was answered before At is not. From Done on
// the older copy is what serves.
type Rewind struct {
	Kept, Lost, At, Done Moment
}

// Trouble is a fault while it lasted.
type Trouble struct {
	Kind       string
	Start, End Moment
}

// Ack is a cursor that a client sent back.
type Ack struct {
	At       Moment
	Answered Moment // Never where no answer came; over a WebSocket there is none
	Pos      Position
}

// Reader is one client of one user that lasts through connections, and resumes
// with its last cursor where its transport has one.
type Reader struct {
	Name, User string
	Transport  string // websocket, plain, sse or poll
	Sole       bool   // the user has no other client that could ack for it
	Fresh      bool   // each connection is a new device's, without a cursor
	Conns      []*Conn
}

// Conn is one connection (or one poll) of a reader.
type Conn struct {
	Reader    *Reader
	Proc      int    // which bridge process
	Token     string // id of the token that it came with
	Renewed   bool   // it was given another one since
	After     string // the cursor it came with
	Dialed    Moment
	Connected Moment // 0: it never was
	Heard     Moment // the last frame or answer
	Ended     Moment // Never while it lasts
	Code      int    // of the close frame; 0 without one
	Whole     bool   // a fresh device that read all that was announced as pending
	Items     []Item
}

// Kind of an Item.
type Kind uint8

// What comes over a connection.
const (
	Saw Kind = iota
	Gapped
	Recalled
)

// Item is one frame of a connection.
type Item struct {
	Kind   Kind
	N      int // the event's number; -1 for one that nobody sent
	At     Moment
	Pos    Position
	After  Position // of a gap
	Reason string   // of a gap
}

// Look is what an operator was told of an event and one of its recipients.
type Look struct {
	N      int // the event's number
	User   string
	Status string
	At     Moment // when that was answered
}

// Position is what a cursor says: whose it is and of which life of the store, and
// how far it is in either log. The zero Position says nothing.
type Position struct {
	Tag, Life          string
	Mailbox, Broadcast uint64
}

// ParseCursor reads what is inside of a cursor (bridge/cursor.go); clients need not.
func ParseCursor(s string) Position {
	parts := strings.Split(s, ".")
	if len(parts) < 3 {
		return Position{}
	}
	p := Position{Tag: parts[0]}
	var err error
	if p.Mailbox, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Position{}
	}
	if p.Broadcast, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
		return Position{}
	}
	if len(parts) > 3 {
		p.Life = parts[3]
	}
	return p
}

// Covers tells whether p is at or beyond q in both logs.
func (p Position) Covers(q Position) bool {
	return p.Mailbox >= q.Mailbox && p.Broadcast >= q.Broadcast
}

// First is when the event may have been stored at the earliest.
func (e *Event) First() Moment { return e.Attempts[0].Start }

// By is when the event was stored at the latest; Never if nobody said so.
func (e *Event) By() Moment {
	by := Never
	for _, a := range e.Attempts {
		if a.Code == 202 && (by == Never || !a.Duplicate) {
			by = a.End
		}
	}
	return by
}

// Taken tells whether a 202 was answered.
func (e *Event) Taken() bool { return e.By() != Never }

// Stores tells whether the event has a place in a log.
func (e *Event) Stores() bool { return e.TTL != 0 }

// Names tells whether the target names the user.
func (t Target) Names(user string) bool {
	return t.User == user || slices.Contains(t.Users, user)
}
