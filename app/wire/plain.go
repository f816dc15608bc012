package wire

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// PlainType is the event type of what plain clients send.
const PlainType = "message"

// PlainToAll is the toUserId that means everybody.
const PlainToAll = "*"

// PlainSend is what a plain client sends.
type PlainSend struct {
	ToUserID string // empty: to the backend
	Message  []byte // any JSON; usually a string
}

// ParsePlainToken reads {"token":…}, the first frame of a plain client whose handshake had
// no token. Errors: ErrNotFrame where it is no JSON object, ErrBadMembers where it has
// no token.
func ParsePlainToken(b []byte) (string, error) {
	var token jsontext.Value
	if err := readPlain(b, func(name string, v jsontext.Value) error {
		if name == "token" {
			token = v
		}
		return nil
	}); err != nil {
		return "", err
	}
	var text string
	if len(token) == 0 || json.Unmarshal(token, &text) != nil || text == "" {
		return "", ErrBadMembers
	}
	return text, nil
}

// ParsePlainSend reads a plain client's message, {"toUserId":…,"message":…}. One without
// toUserId is for the backend; with a token beside it, it is a second first frame. Errors:
// ErrNotFrame where it is no JSON object, ErrBadMembers where a member is missing, wrong
// or given twice. The message is a part of b.
func ParsePlainSend(b []byte) (PlainSend, error) {
	var to jsontext.Value
	var s PlainSend
	token := false
	if err := readPlain(b, func(name string, v jsontext.Value) error {
		switch name {
		case "toUserId":
			to = v
		case "message":
			s.Message = v
		case "token":
			token = true
		}
		return nil
	}); err != nil {
		return PlainSend{}, err
	}
	toBackend := len(to) == 0 || absent(to)
	switch {
	case len(s.Message) == 0, toBackend && token:
		return PlainSend{}, ErrBadMembers
	case !toBackend && (json.Unmarshal(to, &s.ToUserID) != nil || s.ToUserID == ""):
		return PlainSend{}, ErrBadMembers
	}
	return s, nil
}

// readPlain reads a plain client's frame. Depth is checked as if the message stood in
// {"message":…} already, the event's data that it becomes.
func readPlain(b []byte, take func(name string, v jsontext.Value) error) error {
	err := readEnvelope(b, MaxDepth, memberPlace, take)
	if err == nil {
		return nil
	}
	bad := err.(*DecodeError)
	if bad.deep && members(b, func(_, _ []byte) {}) {
		return ErrBadMembers // the depth is our limit and must not cost the connection
	}
	if skip := (skipper{b: b}); bad.Syntax || skip.peek() != '{' {
		return ErrNotFrame
	}
	return ErrBadMembers
}

// PlainData makes an event's data of a plain message: {"message":…}.
func PlainData(message []byte) []byte {
	b := append(make([]byte, 0, len(message)+12), `{"message":`...)
	b = append(b, message...)
	return append(b, '}')
}

// PlainMessage writes what a user sent as a plain client sees it:
// {"fromUserId","toUserId","message"}, the message being the event's
// data.message or else its data, byte for byte.
func PlainMessage(from, to string, event []byte) []byte {
	message := member(event, "data")
	if inner := member(message, "message"); inner != nil {
		message = inner
	}
	if message == nil {
		message = []byte("null")
	}
	b := append(make([]byte, 0, len(message)+len(from)+len(to)+48), `{"fromUserId":`...)
	b = AppendString(b, from)
	b = append(b, `,"toUserId":`...)
	b = AppendString(b, to)
	b = append(b, `,"message":`...)
	b = append(b, message...)
	return append(b, '}')
}

// member finds a member of a JSON object; nil where it has none, or is no object.
// Of several the last counts, as in JavaScript.
func member(object []byte, name string) (value []byte) {
	members(object, func(quoted, v []byte) {
		if string(quoted) == `"`+name+`"` || bytes.IndexByte(quoted, '\\') >= 0 && unquoteName(quoted) == name {
			value = v
		}
	})
	return value
}
