package wire

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// PlainType is the event type of what plain clients send.
const PlainType = "message"

// PlainToAll is the toUserId that means everybody.
const PlainToAll = "*"

// PlainToken is the first frame of a plain client that no other way has
// brought a token.
type PlainToken struct {
	Token string `json:"token"`
}

// PlainSend is what a plain client sends.
type PlainSend struct {
	ToUserID string         `json:"toUserId"`
	Message  jsontext.Value `json:"message"` // any JSON; a string as a rule
}

// ParsePlainToken reads a plain client's first frame. ErrNotFrame where it is not
// a JSON object, ErrBadMembers where it has no token.
func ParsePlainToken(b []byte) (string, error) {
	if v := jsontext.Value(b); v.Kind() != '{' || !v.IsValid() {
		return "", ErrNotFrame
	}
	var t PlainToken
	if err := json.Unmarshal(b, &t); err != nil || t.Token == "" {
		return "", ErrBadMembers
	}
	return t.Token, nil
}

// ParsePlainSend reads a plain client's message. ErrNotFrame where it is not a
// JSON object, ErrBadMembers where toUserId or message is missing or wrong.
func ParsePlainSend(b []byte) (PlainSend, error) {
	if v := jsontext.Value(b); v.Kind() != '{' || !v.IsValid() {
		return PlainSend{}, ErrNotFrame
	}
	var s PlainSend
	if err := json.Unmarshal(b, &s); err != nil || s.ToUserID == "" || len(s.Message) == 0 {
		return PlainSend{}, ErrBadMembers
	}
	return s, nil
}

// PlainData makes an event's data of a plain message: {"message":…}.
func PlainData(message []byte) []byte {
	b := append(make([]byte, 0, len(message)+12), `{"message":`...)
	b = append(b, message...)
	return append(b, '}')
}

// PlainMessage writes what a user sent as a plain client sees it:
// {"fromUserId","toUserId","message"}, the message being the event's
// data.message or else its data.
func PlainMessage(from, to string, event []byte) []byte {
	var e struct {
		Data jsontext.Value `json:"data"`
	}
	message := jsontext.Value("null")
	if err := json.Unmarshal(event, &e, jsontext.AllowDuplicateNames(true)); err == nil && len(e.Data) > 0 {
		message = e.Data
		var d struct {
			Message jsontext.Value `json:"message"`
		}
		if e.Data.Kind() == '{' && json.Unmarshal(e.Data, &d, jsontext.AllowDuplicateNames(true)) == nil && len(d.Message) > 0 {
			message = d.Message
		}
	}
	b := append(make([]byte, 0, len(message)+len(from)+len(to)+48), `{"fromUserId":`...)
	b = appendString(b, from)
	b = append(b, `,"toUserId":`...)
	b = appendString(b, to)
	b = append(b, `,"message":`...)
	b = append(b, message...)
	return append(b, '}')
}
