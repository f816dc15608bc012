package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits on an event's members.
const (
	MaxTopicChars = 128
	// MaxTTLSeconds bounds ttl at a year: an event is no archive, and a bound
	// keeps every sum of times far from overflow.
	MaxTTLSeconds = 365 * 24 * 60 * 60
	// MaxExceptSessions bounds except.sessions.
	MaxExceptSessions = 1_000
)

// Target is the "to" of an event as it was written; exactly one member is set.
type Target struct {
	User  string
	Users []string
	Group string
	All   bool
}

// Event is what a backend reports, decoded but for its data.
type Event struct {
	Type      string
	Timestamp time.Time // zero where absent
	To        Target
	TTL       time.Duration // -1 where absent
	Topic     string
	Except    []string
	Data      []byte // JSON, byte for byte; a copy of its own
	// Past names the member by which the event's time was over when it came: it
	// is good for nothing but to find the event that it is a repeat of.
	Past string
}

// DecodeError is an event that cannot be taken. Detail names the place by JSON
// pointer and what belongs there, and never repeats what was sent.
type DecodeError struct {
	// Syntax tells input that is not JSON (400) from JSON that is no event (422).
	Syntax bool
	Detail string
}

func (e *DecodeError) Error() string { return e.Detail }

func badMember(pointer, want string) error {
	return &DecodeError{Detail: pointer + " " + want}
}

func badSyntax(err error) error {
	var syn *jsontext.SyntacticError
	detail := "the body is not one JSON object"
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF): // a syntax error carries the first, too
		detail = "the body is not JSON: it ends too early"
	case errors.As(err, &syn):
		detail = fmt.Sprintf("the body is not JSON: syntax error at byte %d", syn.ByteOffset)
	}
	return &DecodeError{Syntax: true, Detail: detail}
}

// DecodeEvent reads the body of an event. Only well-formedness is asked of
// data; names it does not know are ignored; a known name given twice is refused,
// since readers differ in which one they would take.
func DecodeEvent(body []byte) (Event, error) {
	return decodeEvent(body, true)
}

// DecodeSend reads the "to" and "event" members of a send frame into one Event.
func DecodeSend(s *Send) (Event, error) {
	if len(s.Event) == 0 {
		return Event{}, badMember("/event", "is missing")
	}
	e, err := decodeEvent(s.Event, false)
	if err != nil {
		return Event{}, err
	}
	if len(s.To) == 0 {
		return Event{}, badMember("/to", "is missing")
	}
	e.To, err = decodeTarget(s.To)
	return e, err
}

// decoders are kept: one is as large as a small event.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

func decodeEvent(body []byte, withTarget bool) (Event, error) {
	e := Event{TTL: -1}
	dec := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	if k := dec.PeekKind(); k != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return e, badSyntax(err)
		}
		return e, &DecodeError{Detail: "the event must be a JSON object"}
	}
	if _, err := dec.ReadToken(); err != nil {
		return e, badSyntax(err)
	}
	var seen uint
	var first error // the first wrong member; broken syntax further on still comes before it
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return e, badSyntax(err)
		}
		key := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return e, badSyntax(err)
		}
		bit, err := e.member(key, value, withTarget)
		if bit != 0 && seen&bit != 0 {
			err = badMember("/"+key, "is given twice")
		}
		seen |= bit
		if first == nil {
			first = err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return e, badSyntax(err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return e, &DecodeError{Syntax: true, Detail: "the body goes on after the JSON object ends"}
	}
	switch {
	case first != nil:
		return e, first
	case seen&hasType == 0:
		return e, badMember("/type", "is missing: name the kind of event, like patient.added")
	case withTarget && seen&hasTo == 0:
		return e, badMember("/to", `is missing: give {"user":"…"}, {"users":["…"]} or {"all":true}`)
	}
	return e, nil
}

const (
	hasType uint = 1 << iota
	hasTimestamp
	hasTo
	hasTTL
	hasTopic
	hasExcept
	hasData
)

// member reads one member into e and tells which one it was (0: not known).
func (e *Event) member(key string, v jsontext.Value, withTarget bool) (bit uint, err error) {
	switch key {
	case "type":
		if json.Unmarshal(v, &e.Type) != nil || !validType(e.Type) {
			err = badMember("/type", "must be a string of 1 to 128 characters A-Z a-z 0-9 _ . -")
		}
		return hasType, err
	case "timestamp":
		var s string
		if json.Unmarshal(v, &s) == nil {
			e.Timestamp, err = parseTime(s)
		}
		if s == "" || err != nil {
			err = badMember("/timestamp", "must be an RFC 3339 time, like 2026-11-22T20:36:00Z")
		}
		return hasTimestamp, err
	case "to":
		if !withTarget {
			return 0, nil
		}
		e.To, err = decodeTarget(v)
		return hasTo, err
	case "ttl":
		var n int64
		if v.Kind() != '0' || json.Unmarshal(v, &n) != nil || n < 0 || n > MaxTTLSeconds {
			return hasTTL, badMember("/ttl", fmt.Sprintf("must be whole seconds from 0 to %d", MaxTTLSeconds))
		}
		e.TTL = time.Duration(n) * time.Second
		return hasTTL, nil
	case "topic":
		if json.Unmarshal(v, &e.Topic) != nil || e.Topic == "" || utf8.RuneCountInString(e.Topic) > MaxTopicChars {
			err = badMember("/topic", "must be a string of 1 to 128 characters")
		}
		return hasTopic, err
	case "except":
		if !withTarget {
			return 0, nil
		}
		var x struct {
			Sessions []string `json:"sessions"`
		}
		if v.Kind() != '{' || json.Unmarshal(v, &x) != nil || len(x.Sessions) > MaxExceptSessions {
			err = badMember("/except", `must be {"sessions":["ses_…"]} with at most 1000 entries`)
		}
		e.Except = x.Sessions
		return hasExcept, err
	case "data":
		e.Data = bytes.Clone(v)
		return hasData, nil
	}
	return 0, nil
}

// parseTime reads an RFC 3339 time into UTC. It refuses what time.Parse takes
// beside those (an hour of one digit, a comma before the fraction), and what an
// offset leads out of the years that RFC 3339 can write.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, err
	}
	t = t.UTC()
	if s[13] != ':' || s[19] == ',' || t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, errTime
	}
	return t, nil
}

var errTime = errors.New("not an RFC 3339 time, or not one in UTC")

func validType(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

func decodeTarget(v jsontext.Value) (Target, error) {
	var t struct {
		User  *string   `json:"user"`
		Users *[]string `json:"users"`
		Group *string   `json:"group"`
		All   *bool     `json:"all"`
	}
	if v.Kind() != '{' {
		return Target{}, badMember("/to", `must be an object like {"user":"…"}`)
	}
	if err := json.Unmarshal(v, &t); err != nil {
		var sem *json.SemanticError
		if errors.As(err, &sem) {
			switch p := sem.JSONPointer.LastToken(); p {
			case "user", "group":
				return Target{}, badMember("/to/"+p, "must be a string")
			case "all":
				return Target{}, badMember("/to/all", "must be true")
			}
			return Target{}, badMember("/to/users", "must be a list of strings")
		}
		return Target{}, badMember("/to", "has a name given twice or is not JSON")
	}
	n := 0
	for _, set := range []bool{t.User != nil, t.Users != nil, t.Group != nil, t.All != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return Target{}, badMember("/to", fmt.Sprintf("must have exactly one of user, users, group, all; it has %d", n))
	}
	switch {
	case t.User != nil && *t.User == "":
		return Target{}, badMember("/to/user", "must not be empty")
	case t.Group != nil && *t.Group == "":
		return Target{}, badMember("/to/group", "must not be empty")
	case t.User != nil:
		return Target{User: *t.User}, nil
	case t.Users != nil:
		return Target{Users: *t.Users}, nil
	case t.Group != nil:
		return Target{Group: *t.Group}, nil
	case !*t.All:
		return Target{}, badMember("/to/all", "must be true")
	}
	return Target{All: true}, nil
}
