package wire

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Types of the frames the server sends.
const (
	TypeConnected     = "connected"
	TypeEvent         = "event"
	TypeResult        = "result"
	TypeResponse      = "response"
	TypeError         = "error"
	TypeGap           = "gap"
	TypeRecalled      = "recalled"
	TypeTokenExpiring = "token_expiring"
	TypeRefreshed     = "refreshed"
	TypeReconnect     = "reconnect"
	TypePong          = "pong"
	TypeClose         = "close" // only where there is no WebSocket
)

// Frame is one encoded frame that the server sends, with what transports other than
// WebSocket need to know of it: its type and cursor are an SSE event's name and id.
type Frame struct {
	Type   string // one of the types above; empty in the plain mode
	Cursor []byte // where to resume after it; empty where the frame has none
	// Head and Tail, one after the other, are the frame's JSON. The tail of an event
	// is shared by all sessions that get it; other frames have none.
	Head, Tail []byte
}

// typed is a frame's members with its type before them.
type typed[T any] struct {
	Type string `json:"type"`
	Body T      `json:",inline"`
}

func encoded[T any](typ, cursor string, body T) Frame {
	return Frame{Type: typ, Cursor: []byte(cursor), Head: Encode(typed[T]{typ, body})}
}

// Connected is the server's first frame: the session is registered and where
// its reading starts.
type Connected struct {
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
	Ref       string `json:"ref,omitempty"`
	ID        string `json:"id"`
	Status    string `json:"status"`
	Sessions  int    `json:"sessions"`
	Duplicate bool   `json:"duplicate,omitzero"`
}

// Response answers a Request frame.
type Response struct {
	Ref    string
	Status int
	Data   []byte // the backend's JSON, byte for byte; white space around it is left out
}

// Frame encodes the frame. Like an event's, its data is not checked or formatted again.
func (f Response) Frame() Frame {
	b := append(make([]byte, 0, len(f.Data)+len(f.Ref)+64), `{"type":"response"`...)
	if f.Ref != "" {
		b = AppendString(append(b, `,"ref":`...), f.Ref)
	}
	b = strconv.AppendInt(append(b, `,"status":`...), int64(f.Status), 10)
	b = append(append(append(b, `,"data":`...), TrimSpace(f.Data)...), '}')
	return Frame{Type: TypeResponse, Head: b}
}

// Error reports a frame that was refused; the connection stays.
type Error struct {
	Ref     string  `json:"ref,omitempty"`
	Problem Problem `json:"problem"`
}

// Gap announces that messages after After are gone and reading goes on at Cursor.
type Gap struct {
	After  string `json:"after,omitempty"`
	Cursor string `json:"cursor"`
	Reason string `json:"reason"`
}

// Recalled tells a session that a message it was given was taken back.
type Recalled struct {
	ID string `json:"id"`
}

// TokenExpiring asks for a Refresh frame.
type TokenExpiring struct {
	InMs int64 `json:"inMs"`
}

// Refreshed answers a Refresh frame.
type Refreshed struct {
	ExpiresAt string `json:"expiresAt"`
}

// Reconnect tells the client when to come back; a close frame follows.
type Reconnect struct {
	AfterMs int64  `json:"afterMs"`
	Reason  string `json:"reason"`
}

// Closed is the last event of a stream without WebSocket: what a close frame
// says on a socket.
type Closed struct {
	Code   CloseCode `json:"code"`
	Reason string    `json:"reason,omitempty"`
}

// Pong answers a Ping frame.
type Pong struct{}

// Frame encodes a frame: each with its type and, where it has one, its cursor.
func (f Connected) Frame() Frame     { return encoded(TypeConnected, f.Cursor, f) }
func (f Result) Frame() Frame        { return encoded(TypeResult, "", f) }
func (f Error) Frame() Frame         { return encoded(TypeError, "", f) }
func (f Gap) Frame() Frame           { return encoded(TypeGap, f.Cursor, f) }
func (f Recalled) Frame() Frame      { return encoded(TypeRecalled, "", f) }
func (f TokenExpiring) Frame() Frame { return encoded(TypeTokenExpiring, "", f) }
func (f Refreshed) Frame() Frame     { return encoded(TypeRefreshed, "", f) }
func (f Reconnect) Frame() Frame     { return encoded(TypeReconnect, "", f) }
func (f Closed) Frame() Frame        { return encoded(TypeClose, "", f) }
func (f Pong) Frame() Frame          { return encoded(TypePong, "", f) }

// Encode marshals replies, and frames other than events. Invalid UTF-8 comes out as
// U+FFFD. A value must not contain JSON that somebody sent, which would be checked and
// formatted again. It panics where a type cannot be marshalled, which is a programming
// error.
func Encode(v any) []byte {
	b, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("wire: " + err.Error())
	}
	return b
}

// Time writes a time as all frames and replies do: RFC 3339 in UTC, with a fraction only
// where it has one.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// AppendTime appends what Time returns.
func AppendTime(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, time.RFC3339Nano) }

// AppendEventObject appends the event object that sessions see,
// {"id","type","timestamp","data"}. data is copied byte for byte and left out
// where empty.
func AppendEventObject(b []byte, id, typ string, at time.Time, data []byte) []byte {
	b = append(b, `{"id":`...)
	b = AppendString(b, id)
	b = append(b, `,"type":`...)
	b = AppendString(b, typ)
	b = append(b, `,"timestamp":"`...)
	b = AppendTime(b, at)
	b = append(b, '"')
	if len(data) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	return append(b, '}')
}

// EventTail writes the part of an event frame that all sessions share,
// ,"from":…,"event":{…}}. It is encoded once a message and not once a session. event is
// the object's place in tail.
func EventTail(from string, object []byte) (tail, event []byte) {
	b := appendFrom(make([]byte, 0, len(object)+len(from)+32), from)
	return endTail(append(b, object...), len(b))
}

// NewEventTail is EventTail for an event object that it writes itself.
func NewEventTail(from, id, typ string, at time.Time, data []byte) (tail, event []byte) {
	b := appendFrom(make([]byte, 0, len(data)+len(typ)+len(id)+len(from)+104), from)
	return endTail(AppendEventObject(b, id, typ, at, data), len(b))
}

func appendFrom(b []byte, from string) []byte {
	if from != "" {
		b = append(b, `,"from":`...)
		b = AppendString(b, from)
	}
	return append(b, `,"event":`...)
}

// endTail closes a tail whose event object begins at start.
func endTail(b []byte, start int) (tail, event []byte) {
	end := len(b)
	tail = append(b, '}')
	return tail, tail[start:end:end]
}

// AppendEventHead appends the part of an event frame that is each session's own,
// {"type":"event","cursor":"…"[,"replay":true]. The tail follows. The cursor must need no
// escaping (ours are made of [0-9a-z.]).
func AppendEventHead(b, cursor []byte, replay bool) []byte {
	b = append(b, `{"type":"event","cursor":"`...)
	b = append(b, cursor...)
	b = append(b, '"')
	if replay {
		b = append(b, `,"replay":true`...)
	}
	return b
}

// AppendString appends s as Encode would.
func AppendString(b []byte, s string) []byte {
	out, _ := jsontext.AppendQuote(b, s) // for invalid UTF-8, its one error, it has written replacement characters
	return out
}
