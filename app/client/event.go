package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"hookbridge/app/wire"
)

// Event is what a Subscriber receives.
type Event struct {
	ID        string
	Type      string
	Timestamp time.Time
	Data      json.RawMessage // byte for byte as it was published; empty without any
	From      string          // the user who sent it; empty where a backend did
	Cursor    string          // where a session resumes that has this event; empty in the plain mode
	Replay    bool            // it was stored before this connection began
	Raw       json.RawMessage // the whole event object, or the plain mode's message, as it came
}

// Notice is what a Subscriber tells of beside events: a Connected, a Disconnected,
// a Gap, a Recalled, a Refused or a TokenExpiring. Its String is one line that is safe to
// print.
type Notice interface {
	fmt.Stringer
	notice()
}

// Connected says that a session has begun. In the plain mode it is empty.
type Connected struct {
	User    string
	Session string
	Resumed bool // it goes on after the cursor; otherwise it starts with all that is held
	Pending int  // how many events are about to be replayed
}

// Disconnected says that a connection has ended, or was not made, and that another one
// is made after RetryIn.
type Disconnected struct {
	Code    wire.CloseCode // 1006 where no close frame came
	Reason  string         // the bridge's words, or the network's
	RetryIn time.Duration
}

// Gap says that events between two cursors are gone: they have expired, or the
// mailbox was full, or the cursor is of another store. What it held must be loaded
// some other way.
type Gap struct {
	After  string // the last cursor before the gap; may be empty
	Cursor string // reading goes on here
	Reason string
}

// Recalled says that an event that was received was taken back by its sender.
type Recalled struct{ ID string }

// Refused says that the bridge did not carry out a frame of this session's.
type Refused struct{ Problem wire.Problem }

// TokenExpiring says that the token ends, and the session with it, where the
// Subscriber has no TokenSource that gives it another one.
type TokenExpiring struct{ In time.Duration }

func (Connected) notice()     {}
func (Disconnected) notice()  {}
func (Gap) notice()           {}
func (Recalled) notice()      {}
func (Refused) notice()       {}
func (TokenExpiring) notice() {}

func (n Connected) String() string {
	if n.Session == "" {
		return "connected"
	}
	how := "from the start"
	if n.Resumed {
		how = "resumed"
	}
	return printable(fmt.Sprintf("connected as %s, %s, %d waiting, session %s", n.User, how, n.Pending, n.Session))
}

func (n Disconnected) String() string {
	return printable(fmt.Sprintf("disconnected (%d %s), again in %s", n.Code, n.Reason, n.RetryIn.Round(time.Millisecond)))
}

func (n Gap) String() string {
	return printable(fmt.Sprintf("gap: some events are gone (%s)", n.Reason))
}

func (n Recalled) String() string { return printable("recalled: " + n.ID) }

func (n Refused) String() string {
	return printable(fmt.Sprintf("the bridge refused a frame: %s %s", n.Problem.Code, n.Problem.Detail))
}

func (n TokenExpiring) String() string {
	return fmt.Sprintf("the token expires in %s; start again with a new one", n.In)
}

var errNotEvent = errors.New("the bridge sent an event that is not a JSON object")

// parseEvent reads an event object into e.
func parseEvent(object json.RawMessage, e *Event) error {
	var o struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}
	if len(object) == 0 || object[0] != '{' || json.Unmarshal(object, &o) != nil {
		return errNotEvent
	}
	e.ID, e.Type, e.Timestamp, e.Data, e.Raw = o.ID, o.Type, o.Timestamp, o.Data, object
	return nil
}

// parsePlain reads what a plain session gets: an event object, a user's message,
// or an error, which has no id and names a problem.
func parsePlain(b []byte) (e Event, refused *wire.Problem, err error) {
	var f struct {
		Type    string          `json:"type"`
		ID      string          `json:"id"`
		From    string          `json:"fromUserId"`
		Message json.RawMessage `json:"message"`
		Problem *wire.Problem   `json:"problem"`
	}
	b = bytes.TrimSpace(b)
	if json.Unmarshal(b, &f) != nil {
		return e, nil, errors.New("the bridge sent what is not JSON")
	}
	if f.Type == wire.TypeError && f.ID == "" && f.Problem != nil {
		return e, f.Problem, nil
	}
	if f.From == "" {
		err = parseEvent(b, &e)
		return e, nil, err
	}
	e = Event{Type: "message", From: f.From, Raw: b}
	if f.Message != nil {
		e.Data = append(append([]byte(`{"message":`), f.Message...), '}')
	}
	return e, nil, nil
}
