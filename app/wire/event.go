package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits on an event's members.
const (
	MaxTopicChars = 128
	// MaxTTLSeconds bounds ttl at a year. The bound keeps sums of times from
	// overflowing.
	MaxTTLSeconds = 365 * 24 * 60 * 60
	// MaxExceptSessions bounds except.sessions.
	MaxExceptSessions = 1_000
)

// Target is the "to" of an event as it was written; exactly one member is set.
type Target struct {
	User    string
	Users   []string
	Group   string
	All     bool
	Backend *string // a backend's name, empty for whichever fits; only in what users send
}

// Event is what a backend reports. Its data stays encoded.
type Event struct {
	Type      string
	Timestamp time.Time // zero where absent
	To        Target
	TTL       time.Duration // -1 where absent
	Escalate  time.Duration // 0 where absent
	Topic     string
	Except    []string
	Data      []byte // JSON, byte for byte; a copy of its own
	// Past is the pointer of the member by which the event had expired when it came;
	// empty where it had not. Such an event is only good as a repeat of an earlier one.
	Past string
}

// DecodeError is an event that cannot be taken. Detail names the place by JSON
// pointer and what belongs there, and never repeats what was sent.
type DecodeError struct {
	// Syntax is true where the input is not JSON (400), false where it is JSON but no
	// event (422).
	Syntax bool
	Detail string

	deep bool // it is nested too deeply; the grammar is right as far as it was read
}

func (e *DecodeError) Error() string { return e.Detail }

// Problem is what the sender is told.
func (e *DecodeError) Problem() Problem {
	if e.Syntax {
		return NewProblem(CodeMalformed, e.Detail)
	}
	return NewProblem(CodeInvalidEvent, e.Detail)
}

func badMember(pointer, want string) error {
	return &DecodeError{Detail: pointer + " " + want}
}

// DecodeEvent reads the body of an event. Of data it checks the grammar only. Unknown
// names are ignored. A name given twice is refused, since readers differ in which of
// the two they take.
func DecodeEvent(body []byte) (Event, error) {
	return decodeEvent(body, nil)
}

// DecodeSend reads the "to" and "event" members of a send frame into one Event.
func DecodeSend(s *Send) (Event, error) {
	if len(s.Event) == 0 || absent(s.Event) {
		return Event{}, badMember("/event", "is missing")
	}
	e := Event{TTL: -1}
	err := readEnvelope(s.Event, MaxDepth+aroundData, memberPlace, func(name string, v jsontext.Value) error {
		if name == "to" || name == "except" { // only a webhook's event has them
			return nil
		}
		return e.member(name, v)
	})
	if err == nil && e.Type == "" {
		err = missingType
	}
	switch {
	case err != nil:
		return Event{}, within("/event", err)
	case len(s.To) == 0 || absent(s.To):
		return Event{}, badMember("/to", "is missing")
	}
	if e.To, err = decodeTarget(s.To, true); err == nil && e.To.Backend != nil {
		err = within("/event", e.forBackend())
	}
	return e, err
}

// DecodeRequest reads the "event" and "to" members of a request into an Event to a
// backend. Without "to" any backend that fits will do.
func DecodeRequest(r *Request) (Event, error) {
	to := r.To
	if len(to) == 0 || absent(to) {
		to = jsontext.Value(`{"backend":true}`)
	}
	e, err := DecodeSend(&Send{To: to, Event: r.Event})
	if err == nil && e.To.Backend == nil {
		err = badMember("/to", `must be {"backend":true} or {"backend":"<name>"}`)
	}
	return e, err
}

// forBackend refuses members that mean nothing to a backend.
func (e *Event) forBackend() error {
	switch {
	case e.TTL >= 0:
		return badMember("/ttl", "does not go to a backend")
	case e.Topic != "":
		return badMember("/topic", "does not go to a backend")
	case e.Escalate != 0:
		return badMember("/escalate", "does not go to a backend")
	}
	return nil
}

// memberPlace names a member of an event or a frame in errors, by its pointer. An unknown
// name is the sender's own text, which errors do not repeat.
func memberPlace(name string) string {
	switch name {
	case "id", "type", "timestamp", "to", "ttl", "escalate", "topic", "except", "data", "ref", "event", "timeoutMs",
		"token", "after", "cursor":
		return "/" + name
	}
	return "a member that is not known here"
}

var missingType = badMember("/type", "is missing: name the kind of event, like patient.added")

// decodeEvent reads an event. Where other is set, it is called with each member that an
// event does not have.
func decodeEvent(body []byte, other func(name string, v jsontext.Value) error) (Event, error) {
	e := Event{TTL: -1}
	addressed := false
	err := readEnvelope(body, MaxDepth+aroundData, memberPlace, func(name string, v jsontext.Value) error {
		switch name {
		case "type", "timestamp", "ttl", "escalate", "topic", "except", "data":
			return e.member(name, v)
		case "to":
			if absent(v) {
				return nil
			}
			addressed = true
			var err error
			e.To, err = decodeTarget(v, false)
			return err
		}
		if other != nil {
			return other(name, v)
		}
		return nil
	})
	switch {
	case err != nil:
		return e, err
	case e.Type == "":
		return e, missingType
	case !addressed:
		return e, badMember("/to", `is missing: give {"user":"…"}, {"users":["…"]}, {"group":"…"} or {"all":true}`)
	}
	return e, nil
}

// member reads one member of an event other than "to". Null means that it is absent, but
// as data null is a value.
func (e *Event) member(name string, v jsontext.Value) (err error) {
	if name == "data" {
		e.Data = bytes.Clone(v)
		return nil
	}
	if absent(v) {
		return nil
	}
	switch name {
	case "type":
		var ok bool
		if e.Type, ok = readString(v); !ok || !validType(e.Type) {
			err = badMember("/type", "must be a string of 1 to 128 characters A-Z a-z 0-9 _ . -")
		}
	case "timestamp":
		s, ok := readString(v)
		if ok {
			e.Timestamp, err = parseTime(s)
		}
		if s == "" || err != nil {
			err = badMember("/timestamp", "must be an RFC 3339 time, like 2026-11-22T20:36:00Z")
		}
	case "ttl":
		n, ok := parseWhole(v)
		if !ok || n < 0 || n > MaxTTLSeconds {
			return badMember("/ttl", fmt.Sprintf("must be whole seconds from 0 to %d", MaxTTLSeconds))
		}
		e.TTL = time.Duration(n) * time.Second
	case "escalate":
		n, ok := parseWhole(v)
		if !ok || n < 1 || n > MaxTTLSeconds {
			return badMember("/escalate", "must be whole seconds from 1 to the event's ttl")
		}
		e.Escalate = time.Duration(n) * time.Second
	case "topic":
		var ok bool
		if e.Topic, ok = readString(v); !ok || e.Topic == "" || utf8.RuneCountInString(e.Topic) > MaxTopicChars {
			err = badMember("/topic", "must be a string of 1 to 128 characters")
		}
	case "except":
		var x struct {
			Sessions []string `json:"sessions"`
		}
		if v.Kind() != '{' || json.Unmarshal(v, &x) != nil || len(x.Sessions) > MaxExceptSessions {
			err = badMember("/except", `must be {"sessions":["ses_…"]} with at most 1000 entries`)
		}
		e.Except = x.Sessions
	}
	return err
}

// parseTime reads an RFC 3339 time into UTC, with T and Z in either case (§5.6), and a leap
// second as the second after it. It refuses what time.Parse takes beyond RFC 3339 (an hour
// of one digit, a comma before the fraction, an offset of 24 hours or of 60 minutes), and a
// time whose year in UTC RFC 3339 cannot write.
func parseTime(s string) (time.Time, error) {
	s = strings.ToUpper(s)
	const seconds = len("2006-01-02T15:04:")
	leap := len(s) > seconds+2 && s[seconds:seconds+2] == "60"
	if leap {
		s = s[:seconds] + "59" + s[seconds+2:]
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, err
	}
	t = t.UTC()
	if leap {
		if t.Hour() != 23 || t.Minute() != 59 {
			return time.Time{}, errTime
		}
		t = t.Add(time.Second)
	}
	offset := ""
	if !strings.HasSuffix(s, "Z") {
		offset = s[len(s)-len("00:00"):]
	}
	if s[13] != ':' || s[19] == ',' || offset != "" && (offset[:2] > "23" || offset[3:] > "59") || t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, errTime
	}
	return t, nil
}

var errTime = errors.New("not an RFC 3339 time, or not one in UTC")

// decodeTarget reads a "to". backend says whether it may be a backend.
func decodeTarget(v jsontext.Value, backend bool) (Target, error) {
	if user, ok := onlyUser(v); ok {
		return Target{User: user}, nil
	}
	return decodeAnyTarget(v, backend)
}

func decodeAnyTarget(v jsontext.Value, backend bool) (Target, error) {
	var t struct {
		User    *string        `json:"user"`
		Users   *[]string      `json:"users"`
		Group   *string        `json:"group"`
		All     *bool          `json:"all"`
		Backend jsontext.Value `json:"backend"`
	}
	if v.Kind() != '{' {
		return Target{}, badMember("/to", `must be an object like {"user":"…"}`)
	}
	if err := json.Unmarshal(v, &t); err != nil {
		if sem, ok := errors.AsType[*json.SemanticError](err); ok {
			switch p := sem.JSONPointer.LastToken(); p {
			case "user", "group":
				return Target{}, badMember("/to/"+p, "must be a string")
			case "all":
				return Target{}, badMember("/to/all", "must be true")
			}
			return Target{}, badMember("/to/users", "must be a list of strings")
		}
		return Target{}, badMember("/to", "must have each name once, and whole characters in its strings")
	}
	toBackend := backend && len(t.Backend) > 0 && !absent(t.Backend)
	n := 0
	for _, set := range []bool{t.User != nil, t.Users != nil, t.Group != nil, t.All != nil, toBackend} {
		if set {
			n++
		}
	}
	if n != 1 {
		kinds := "user, users, group, all"
		if backend {
			kinds += ", backend"
		}
		return Target{}, badMember("/to", fmt.Sprintf("must have exactly one of %s; it has %d", kinds, n))
	}
	switch {
	case toBackend:
		name := ""
		if string(t.Backend) != "true" && (json.Unmarshal(t.Backend, &name) != nil || name == "") {
			return Target{}, badMember("/to/backend", "must be true or a backend's name")
		}
		return Target{Backend: &name}, nil
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

// onlyUser reads the most common target, {"user":"…"} and nothing beside it, without a
// decoder. It returns false for all others; v was found to be JSON before.
func onlyUser(v []byte) (user string, ok bool) {
	found := 0
	whole := members(v, func(name, value []byte) {
		if found++; string(name) == `"user"` {
			user, ok = plainString(value)
		}
	})
	return user, whole && found == 1 && ok && user != ""
}
