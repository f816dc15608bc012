// Package wire is what crosses the socket: frames, close codes and problems, as
// JSON. It imports nothing of this project and decides nothing; testdata holds
// one golden frame of each type, read by the tests of the server and of the
// JavaScript client alike.
package wire

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Subprotocol is the WebSocket subprotocol a client offers to speak frames; a
// client that offers none speaks the plain mode (see plain.go).
const Subprotocol = "bridge.v1.json"

// BearerPrefix marks the subprotocol entry that carries a token. It is never
// selected and never echoed.
const BearerPrefix = "bearer."

// Types of the frames a client sends.
const (
	TypeConnect = "connect"
	TypeAck     = "ack"
	TypeSeen    = "seen"
	TypeSend    = "send"
	TypeRequest = "request"
	TypeRefresh = "refresh"
	TypePing    = "ping"
)

// Errors of Parse. ErrNotFrame costs the connection (close 4400); the others
// are answered with an error frame and the connection stays.
var (
	ErrNotFrame    = errors.New("not a JSON object with a string \"type\"")
	ErrUnknownType = errors.New("unknown frame type")
	ErrBadMembers  = errors.New("wrong members for this frame type")
)

// Connect is the first frame of every session.
type Connect struct {
	Token string `json:"token"`
	After string `json:"after"` // cursor to resume from; empty on a fresh device
}

// Ack says that the app has everything up to Cursor.
type Ack struct {
	Cursor string `json:"cursor"`
}

// Seen says that the person has seen one message.
type Seen struct {
	ID string `json:"id"`
}

// Send asks for a message to another user or to a backend. To and Event are parts of the frame that
// was parsed, and valid as long as it is.
type Send struct {
	Ref   string         `json:"ref"` // makes a retry idempotent per user; may be empty
	To    jsontext.Value `json:"to"`
	Event jsontext.Value `json:"event"`
}

// Request asks a backend. To and Event are parts of the frame that was parsed, and valid
// as long as it is.
type Request struct {
	Ref       string
	To        jsontext.Value
	Event     jsontext.Value
	TimeoutMs int64 // 0 where absent
}

// MaxRefBytes bounds the ref of a send or a request.
const MaxRefBytes = 128

// Limits of a request's timeoutMs.
const (
	DefaultRequestMs = 5_000
	MaxRequestMs     = 30_000
)

// requestMs reads a timeoutMs; null means that it is absent.
func requestMs(v jsontext.Value) (ms int64, ok bool) {
	if len(v) == 0 || absent(v) {
		return 0, true
	}
	n, ok := parseWhole(v)
	return n, ok && n >= 1 && n <= MaxRequestMs
}

// ParseRequest reads a request that came over HTTP,
// {"event":{…}[,"timeoutMs":…][,"to":…]}.
// Its error is a *DecodeError.
func ParseRequest(body []byte) (Event, time.Duration, error) {
	var r Request
	err := readEnvelope(body, MaxDepth+aroundSend, memberPlace, func(name string, v jsontext.Value) error {
		switch name {
		case "to":
			r.To = v
		case "event":
			r.Event = v
		case "timeoutMs":
			var ok bool
			if r.TimeoutMs, ok = requestMs(v); !ok {
				return badMember("/timeoutMs", badTimeout)
			}
		}
		return nil
	})
	if err != nil {
		return Event{}, 0, err
	}
	e, err := DecodeRequest(&r)
	return e, r.Timeout(), err
}

// ParseSend reads a send that came over HTTP, {"to":…,"event":{…}[,"ref":…]}. Its error
// is a *DecodeError.
func ParseSend(body []byte) (ref string, e Event, err error) {
	var s Send
	err = readEnvelope(body, MaxDepth+aroundSend, memberPlace, func(name string, v jsontext.Value) error {
		switch name {
		case "to":
			s.To = v
		case "event":
			s.Event = v
		case "ref":
			if !absent(v) && json.Unmarshal(v, &ref) != nil {
				return badMember("/ref", "must be a string")
			}
		}
		return nil
	})
	if err == nil && len(ref) > MaxRefBytes {
		err = badMember("/ref", "must have at most "+strconv.Itoa(MaxRefBytes)+" bytes")
	}
	if err == nil {
		e, err = DecodeSend(&s)
	}
	return ref, e, err
}

const badTimeout = "must be whole milliseconds from 1 to 30000"

// Timeout is how long the request may take.
func (r *Request) Timeout() time.Duration {
	if r.TimeoutMs == 0 {
		return DefaultRequestMs * time.Millisecond
	}
	return time.Duration(r.TimeoutMs) * time.Millisecond
}

// Refresh brings a newer token of the same user.
type Refresh struct {
	Token string `json:"token"`
}

// Ping asks for a pong frame.
type Ping struct{}

// ClientFrame is one parsed frame: its type, the ref a reply should carry, and
// the typed body (*Connect, *Ack, *Seen, *Send, *Request, *Refresh or *Ping; nil
// beside an error).
type ClientFrame struct {
	Type string
	Ref  string
	Body any
}

// Parse reads one client frame. On ErrUnknownType and ErrBadMembers the frame's
// Type and Ref are filled as far as they could be read, so that the error reply
// can name them; the text of an error that wraps ErrBadMembers says which member is wrong.
// Unknown members are ignored. A member given twice is ErrBadMembers,
// but a type given twice is ErrNotFrame. A member nested too deeply is ErrBadMembers
// and not ErrNotFrame, because the depth is our limit and must not cost a client its
// connection.
func Parse(b []byte) (ClientFrame, error) {
	var m frameMembers
	err := readEnvelope(b, MaxDepth+aroundSend, memberPlace, m.take)
	bad, _ := errors.AsType[*DecodeError](err)
	if bad != nil && bad.deep && members(b, m.find) {
		bad = nil // the grammar is right as far as it was read
	}
	var f ClientFrame
	if bad != nil && bad.Syntax || m.types != 1 || !m.readType(&f) {
		return ClientFrame{}, ErrNotFrame
	}
	wrong := "" // what is, first
	if err != nil {
		wrong = err.Error()
	}
	text := func(name string, v jsontext.Value) (s string) {
		if len(v) > 0 {
			var ok bool
			if s, ok = readString(v); !ok {
				wrong = cmp.Or(wrong, "/"+name+" must be a string")
			}
		}
		return s
	}
	if len(m.ref) > 0 {
		var ok bool
		if f.Ref, ok = readString(m.ref); !ok {
			f.Ref = ""
			if f.Type == TypeSend || f.Type == TypeRequest { // other frames have no ref
				wrong = cmp.Or(wrong, "/ref must be a string")
			}
		}
	}
	var body any
	switch f.Type {
	case TypeConnect:
		body = &Connect{Token: text("token", m.token), After: text("after", m.after)}
	case TypeAck:
		body = &Ack{Cursor: text("cursor", m.cursor)}
	case TypeSeen:
		body = &Seen{ID: text("id", m.id)}
	case TypeSend:
		body = &Send{Ref: f.Ref, To: m.to, Event: m.event}
	case TypeRequest:
		ms, ok := requestMs(m.timeoutMs)
		if !ok {
			wrong = cmp.Or(wrong, "/timeoutMs "+badTimeout)
		}
		body = &Request{Ref: f.Ref, To: m.to, Event: m.event, TimeoutMs: ms}
	case TypeRefresh:
		body = &Refresh{Token: text("token", m.token)}
	case TypePing:
		body = new(Ping)
	default:
		return f, ErrUnknownType
	}
	if wrong != "" {
		return f, fmt.Errorf("%w: %s", ErrBadMembers, wrong)
	}
	f.Body = body
	return f, nil
}

// frameMembers are the members of client frames, not yet decoded.
type frameMembers struct {
	types                                                    int // how often there is a "type"
	typ, ref, token, after, cursor, id, to, event, timeoutMs jsontext.Value
}

// readType reads the frame's type; false where it is no string, or empty.
func (m *frameMembers) readType(f *ClientFrame) (ok bool) {
	if f.Type, ok = plainString(m.typ); !ok {
		var typ string // on the heap
		ok = json.Unmarshal(m.typ, &typ, lenient) == nil
		f.Type = typ
	}
	return ok && f.Type != ""
}

// find takes only type and ref, which say how to answer a frame nested too deeply.
func (m *frameMembers) find(quoted, v []byte) {
	if name := unquoteName(quoted); name == "type" || name == "ref" {
		_ = m.take(name, v) // it refuses nothing
	}
}

func (m *frameMembers) take(name string, v jsontext.Value) error {
	switch name {
	case "type":
		m.types++
		m.typ = v
	case "ref":
		m.ref = v
	case "token":
		m.token = v
	case "after":
		m.after = v
	case "cursor":
		m.cursor = v
	case "id":
		m.id = v
	case "to":
		m.to = v
	case "event":
		m.event = v
	case "timeoutMs":
		m.timeoutMs = v
	}
	return nil
}
