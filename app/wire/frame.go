// Package wire is what crosses the socket: frames, close codes and problems, as
// JSON. It imports nothing of this project and decides nothing; testdata holds
// one golden frame of each type, read by the tests of the server and of the
// JavaScript client alike.
package wire

import (
	"bytes"
	"errors"
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
	TypeRefresh = "refresh"
	TypePing    = "ping"
)

// Types of the frames the server sends.
const (
	TypeConnected     = "connected"
	TypeEvent         = "event"
	TypeResult        = "result"
	TypeError         = "error"
	TypeGap           = "gap"
	TypeRecalled      = "recalled"
	TypeTokenExpiring = "token_expiring"
	TypeRefreshed     = "refreshed"
	TypeReconnect     = "reconnect"
	TypePong          = "pong"
	TypeClose         = "close" // only where there is no WebSocket
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

// Send asks for a message to another user. To and Event are parts of the frame that
// was parsed, and valid as long as it is.
type Send struct {
	Ref   string         `json:"ref"` // makes a retry idempotent per user; may be empty
	To    jsontext.Value `json:"to"`
	Event jsontext.Value `json:"event"`
}

// Refresh brings a newer token of the same user.
type Refresh struct {
	Token string `json:"token"`
}

// Ping asks for a pong frame.
type Ping struct{}

// ClientFrame is one parsed frame: its type, the ref a reply should carry, and
// the typed body (*Connect, *Ack, *Seen, *Send, *Refresh or *Ping; nil beside
// an error).
type ClientFrame struct {
	Type string
	Ref  string
	Body any
}

// Parse reads one client frame. On ErrUnknownType and ErrBadMembers the frame's
// Type and Ref are filled as far as they could be read, so that the error reply
// can name them. Members that are not known are ignored. A member that stands twice
// is a wrong member; where that is the type, nobody can tell what the frame is. So is
// one that is nested too deeply: how deep data may be is a limit of ours, and whoever
// meets it must not lose the connection.
func Parse(b []byte) (ClientFrame, error) {
	var m frameMembers
	err := readEnvelope(b, MaxDepth+aroundSend, memberPlace, m.take)
	var bad *DecodeError
	var f ClientFrame
	if errors.As(err, &bad) && bad.deep && members(b, m.find) {
		bad = nil // its grammar is right as far as that was read
	}
	if bad != nil && bad.Syntax || m.types != 1 || json.Unmarshal(m.typ, &f.Type, Lenient) != nil || f.Type == "" {
		return ClientFrame{}, ErrNotFrame
	}
	wrong := err != nil // another member stands twice
	text := func(v jsontext.Value) (s string) {
		if len(v) > 0 && json.Unmarshal(v, &s) != nil { // what is compared and repeated must be whole characters
			wrong = true
		}
		return s
	}
	if len(m.ref) > 0 && json.Unmarshal(m.ref, &f.Ref) != nil {
		f.Ref = ""
		wrong = wrong || f.Type == TypeSend // the others have none
	}
	var body any
	switch f.Type {
	case TypeConnect:
		body = &Connect{Token: text(m.token), After: text(m.after)}
	case TypeAck:
		body = &Ack{Cursor: text(m.cursor)}
	case TypeSeen:
		body = &Seen{ID: text(m.id)}
	case TypeSend:
		body = &Send{Ref: f.Ref, To: m.to, Event: m.event}
	case TypeRefresh:
		body = &Refresh{Token: text(m.token)}
	case TypePing:
		body = new(Ping)
	default:
		return f, ErrUnknownType
	}
	if wrong {
		return f, ErrBadMembers
	}
	f.Body = body
	return f, nil
}

// frameMembers are the members of client frames, not yet decoded.
type frameMembers struct {
	types                                         int // how often there is a "type"
	typ, ref, token, after, cursor, id, to, event jsontext.Value
}

// find takes the members that tell what a frame is.
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
	}
	return nil
}

// Connected is the server's first frame: the session is registered and where
// its reading starts.
type Connected struct {
	Type      string `json:"type"` // TypeConnected
	Session   string `json:"session"`
	User      string `json:"user"`
	Cursor    string `json:"cursor"`
	Resumed   bool   `json:"resumed"` // false: no cursor was given, or it could not be honoured (a gap follows)
	Pending   int    `json:"pending"` // messages about to be replayed
	PingMs    int64  `json:"pingMs"`  // the server pings this often, milliseconds
	ExpiresAt string `json:"expiresAt"`
	MaxBytes  int    `json:"maxBytes"` // largest frame the server reads
}

// Result answers a Send frame.
type Result struct {
	Type      string `json:"type"` // TypeResult
	Ref       string `json:"ref,omitempty"`
	ID        string `json:"id"`
	Status    string `json:"status"`
	Sessions  int    `json:"sessions"`
	Duplicate bool   `json:"duplicate,omitzero"`
}

// Error reports a frame that was refused; the connection stays.
type Error struct {
	Type    string  `json:"type"` // TypeError
	Ref     string  `json:"ref,omitempty"`
	Problem Problem `json:"problem"`
}

// Gap announces that messages after After are gone and reading goes on at Cursor.
type Gap struct {
	Type   string `json:"type"` // TypeGap
	After  string `json:"after,omitempty"`
	Cursor string `json:"cursor"`
	Reason string `json:"reason"`
}

// Recalled tells a session that a message it was given was taken back.
type Recalled struct {
	Type string `json:"type"` // TypeRecalled
	ID   string `json:"id"`
}

// TokenExpiring asks for a Refresh frame.
type TokenExpiring struct {
	Type string `json:"type"` // TypeTokenExpiring
	InMs int64  `json:"inMs"`
}

// Refreshed answers a Refresh frame.
type Refreshed struct {
	Type      string `json:"type"` // TypeRefreshed
	ExpiresAt string `json:"expiresAt"`
}

// Reconnect tells the client when to come back; a close frame follows.
type Reconnect struct {
	Type    string `json:"type"` // TypeReconnect
	AfterMs int64  `json:"afterMs"`
	Reason  string `json:"reason"`
}

// Closed is the last event of a stream without WebSocket: what a close frame
// says on a socket.
type Closed struct {
	Type   string    `json:"type"` // TypeClose
	Code   CloseCode `json:"code"`
	Reason string    `json:"reason,omitempty"`
}

// Pong answers a Ping frame.
type Pong struct {
	Type string `json:"type"` // TypePong
}

// Encode marshals what we write ourselves: frames other than events, and replies.
// Text in it that is not UTF-8 comes out with U+FFFD in its place. What came as
// JSON must not be a part of it: it would be checked and formatted anew. The types
// of this program cannot fail to marshal; a failure is a programming error and
// panics.
func Encode(v any) []byte {
	b, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("wire: " + err.Error())
	}
	return b
}

// Time is how an instant stands on the wire: RFC 3339 in UTC, whole seconds
// unless the instant has a fraction.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// AppendEventObject appends the event object that sessions see,
// {"id","type","timestamp","data"}. data is copied byte for byte and left out
// where empty.
func AppendEventObject(b []byte, id, typ string, at time.Time, data []byte) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, id)
	b = append(b, `,"type":`...)
	b = appendString(b, typ)
	b = append(b, `,"timestamp":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if len(data) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	return append(b, '}')
}

// AppendEventTail appends the part of an event frame that all sessions share:
// ,"from":…,"event":{…}}. It is encoded once a message, not once a session.
func AppendEventTail(b []byte, from string, event []byte) []byte {
	if from != "" {
		b = append(b, `,"from":`...)
		b = appendString(b, from)
	}
	b = append(b, `,"event":`...)
	b = append(b, event...)
	return append(b, '}')
}

// AppendEventHead appends the part of an event frame that is a session's own:
// {"type":"event","cursor":"…"[,"replay":true]; AppendEventTail's bytes follow.
// The cursor must need no escaping (ours are made of [0-9a-z.]).
func AppendEventHead(b []byte, cursor string, replay bool) []byte {
	b = append(b, `{"type":"event","cursor":"`...)
	b = append(b, cursor...)
	b = append(b, '"')
	if replay {
		b = append(b, `,"replay":true`...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	out, err := jsontext.AppendQuote(b, s)
	if err != nil { // invalid UTF-8: AppendQuote has written replacement characters
		return out
	}
	return out
}

// FrameHead reads the type and the cursor of one of the server's frames; empty
// where it has none.
func FrameHead(frame []byte) (typ, cursor string) {
	dec := jsontext.NewDecoder(bytes.NewReader(frame), Lenient)
	if _, err := dec.ReadToken(); err != nil {
		return "", ""
	}
	for dec.PeekKind() == '"' && (typ == "" || cursor == "") {
		name, err := dec.ReadToken()
		if err != nil {
			break
		}
		key := name.String()
		if key == "event" || key == "problem" { // what identifies a frame comes before its content
			break
		}
		value, err := dec.ReadToken()
		if err != nil {
			break
		}
		switch key {
		case "type":
			typ = value.String()
		case "cursor":
			cursor = value.String()
		}
	}
	return typ, cursor
}
