package bridge

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"hookbridge/app/wire"
)

// Callbacks as backends get them. Each id is made of the backend and of what caused
// the callback, so that the same cause never makes two.

// AckedCallback says that a session has acked an event; session is empty for an ack
// that came over HTTP while the user had no stream.
func AckedCallback(backend, user, session, id, eventType string, at time.Time) Callback {
	return callback(backend, CallbackAcked, user, at, []string{id}, struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		User    string `json:"user"`
		Session string `json:"session,omitempty"`
		AckedAt string `json:"ackedAt"`
	}{id, eventType, user, session, wire.Time(at)})
}

// UnackedCallback says that an event was not acked within its escalate; state is how
// far it has come.
func UnackedCallback(backend string, t Timer, state Status, at time.Time) Callback {
	return callback(backend, CallbackUnacked, t.User, at, []string{t.EventID}, struct {
		ID           string `json:"id"`
		Type         string `json:"type"`
		User         string `json:"user"`
		AfterSeconds int64  `json:"afterSeconds"`
		State        Status `json:"state"`
	}{t.EventID, t.EventType, t.User, int64(t.After / time.Second), state})
}

// ExpiredCallback says that an event has come to its end and was not acked.
func ExpiredCallback(backend string, t Timer, at time.Time) Callback {
	return callback(backend, CallbackExpired, t.User, at, []string{t.EventID}, struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		User string `json:"user"`
	}{t.EventID, t.EventType, t.User})
}

// OnlineCallback says that a user has come, who was away.
func OnlineCallback(backend, user string, sessions int, at time.Time) Callback {
	return callback(backend, CallbackOnline, user, at, []string{at.UTC().Format(time.RFC3339Nano)}, struct {
		User     string `json:"user"`
		Sessions int    `json:"sessions"`
	}{user, sessions})
}

// OfflineCallback says that the user of a timer has gone, and was last seen when. The timer's
// time is part of the cause: a store that was killed may not know when a user was there last.
func OfflineCallback(backend string, t Timer, lastSeen, at time.Time) Callback {
	cause := []string{lastSeen.UTC().Format(time.RFC3339Nano), t.Due.UTC().Format(time.RFC3339Nano)}
	return callback(backend, CallbackOffline, t.User, at, cause, struct {
		User     string `json:"user"`
		LastSeen string `json:"lastSeen"`
	}{t.User, wire.Time(lastSeen)})
}

// SentCallback carries what a user has sent to the backend. id is that of the send; what
// was sent is part of the cause, too, since a ref, and the id with it, may be used again
// for something else once it is forgotten. session is empty for one that came over HTTP;
// data is JSON, kept byte for byte, and absent where it is nil.
func SentCallback(backend, user, session, id, eventType string, data []byte, at time.Time) Callback {
	c := callback(backend, CallbackSent, user, at, []string{id, eventType, string(data)}, struct {
		From    string `json:"from"`
		Session string `json:"session,omitempty"`
		ID      string `json:"id"`
	}{user, session, id})
	c.Body = withEvent(c.Body, eventType, data)
	return c
}

// withEvent puts an event at the end of the data of a callback's body; its data is JSON,
// kept byte for byte, and absent where it is nil.
func withEvent(body []byte, eventType string, data []byte) []byte {
	b := append(make([]byte, 0, len(body)+len(eventType)+len(data)+32), body[:len(body)-2]...)
	b = append(append(b, `,"event":{"type":`...), wire.Encode(eventType)...)
	if data != nil {
		b = append(append(b, `,"data":`...), data...)
	}
	return append(b, "}}}"...)
}

var callbackEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func callback(backend, kind, user string, at time.Time, cause []string, data any) Callback {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{backend, kind, user}, cause...), "\x00")))
	return Callback{
		ID: "cb_" + callbackEncoding.EncodeToString(sum[:16]), Backend: backend, Type: kind, User: user, At: at,
		Body: callbackBody(kind, at, data),
	}
}

func callbackBody(kind string, at time.Time, data any) []byte {
	return wire.Encode(struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      any    `json:"data"`
	}{kind, wire.Time(at), data})
}
