package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// This file decides which JSON is accepted, for webhooks, batches, CloudEvents, frames
// and request bodies alike: the grammar of RFC 8259 in UTF-8, with at most MaxDepth
// levels. Where the RFC leaves a choice, an event's data is taken as it is (a name may
// repeat, an escape may be half of a surrogate pair, as JavaScript writes for a cut
// string), because it is only passed on. In the envelope around it a repeated name is
// refused, because readers differ in which of the two they take.

// MaxDepth is how many levels of arrays and objects an event's data may have. Frames and
// replies add up to four around it. It is below the limits of common JSON readers: Go
// has 10,000, Python some 1,000, PHP 512.
const MaxDepth = 500

// Levels of envelope around an event's data.
const (
	aroundData = 1 // {"data":…}
	aroundSend = 2 // {"event":{"data":…}}
)

// lenient are the options to decode what a bridge sends. By default the decoder refuses
// repeated names and halves of surrogate pairs, even in data that is only passed on.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// CheckData checks that b is one JSON value that may be an event's data. Its
// error is a *DecodeError.
func CheckData(b []byte) error { return checkValue(b, MaxDepth) }

// TrimSpace leaves out the white space around a JSON value (RFC 8259 §2).
func TrimSpace(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// checkObject checks that b is one JSON object, the body of a request. Its error
// is a *DecodeError.
func checkObject(b []byte) error {
	if err := checkValue(b, MaxDepth); err != nil {
		return err
	}
	if jsontext.Value(b).Kind() != '{' {
		return &DecodeError{Syntax: true, Detail: "the body must be one JSON object"}
	}
	return nil
}

// Decode reads one JSON object into a struct. Unknown names are ignored; repeated ones,
// and strings with invalid UTF-8 or half a surrogate pair, are refused. Its error is a
// *DecodeError.
func Decode(b []byte, into any) error {
	if err := checkObject(b); err != nil {
		return err
	}
	err := json.Unmarshal(b, into)
	if bad, ok := errors.AsType[*json.SemanticError](err); ok {
		return &DecodeError{Detail: string(bad.JSONPointer) + " has the wrong type"}
	}
	if err != nil {
		return &DecodeError{Syntax: true, Detail: "the body must have each name once, and whole characters in its strings"}
	}
	return nil
}

// EncodeStrict is Encode for files: it fails where Encode would replace invalid UTF-8.
func EncodeStrict(v any) ([]byte, error) { return json.Marshal(v) }

// DecodeStrict reads what EncodeStrict wrote. It refuses unknown names, too.
func DecodeStrict(b []byte, into any) error {
	return json.Unmarshal(b, into, json.RejectUnknownMembers(true))
}

func checkValue(b []byte, levels int) error {
	dec, err := open(b, levels)
	if err != nil {
		return err
	}
	defer dec.close()
	if _, err := dec.ReadValue(); err != nil {
		return badSyntax(err)
	}
	return atEnd(dec)
}

// decoder reads bytes that are there whole.
type decoder struct {
	jsontext.Decoder
	from bytes.Buffer // a kind of reader whose bytes the decoder does not copy
}

// decoders pools decoders, since one is as large as a small event.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

func (d *decoder) close() { decoders.Put(d) }

// open checks encoding and depth, and returns a decoder that checks the rest. The caller
// closes it.
func open(b []byte, levels int) (*decoder, error) {
	if !utf8.Valid(b) {
		return nil, &DecodeError{Syntax: true, Detail: "the body is not JSON: it is not UTF-8"}
	}
	if deeper(b, levels) {
		return nil, &DecodeError{Syntax: true, deep: true, Detail: fmt.Sprintf("the body is nested too deeply: data may have %d levels", MaxDepth)}
	}
	dec := decoders.Get().(*decoder)
	dec.from = *bytes.NewBuffer(b)
	dec.Reset(&dec.from, lenient)
	return dec, nil
}

// deeper reports whether the value in b has more levels of arrays and objects.
func deeper(b []byte, levels int) bool {
	if bytes.Count(b, openingBrace)+bytes.Count(b, openingBracket) <= levels {
		return false // as nearly always, and much faster to find out
	}
	v := skipper{b: b}
	return v.depth() > levels
}

var openingBrace, openingBracket = []byte{'{'}, []byte{'['}

func atEnd(dec *decoder) error {
	if _, err := dec.ReadToken(); err != io.EOF {
		return &DecodeError{Syntax: true, Detail: "the body goes on after the JSON value ends"}
	}
	return nil
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

// readEnvelope reads a JSON object and calls take with each member, whose value is a part
// of b. place returns how an error names a member. A repeated name is refused. The
// error is a *DecodeError: bad syntax, wherever it is, else the first wrong member.
func readEnvelope(b []byte, levels int, place func(name string) string, take func(name string, v jsontext.Value) error) error {
	dec, err := open(b, levels)
	if err != nil {
		return err
	}
	defer dec.close()
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return badSyntax(err)
		}
		return &DecodeError{Detail: "the event must be a JSON object"}
	}
	var names nameSet
	var first error
	err = readMembers(dec, b, func(name string, v jsontext.Value) {
		err := take(name, v)
		if !names.add(name) {
			err = badMember(place(name), "is given twice")
		}
		if first == nil {
			first = err
		}
	})
	if err == nil {
		err = atEnd(dec)
	}
	if err == nil {
		err = first
	}
	return err
}

// readMembers reads the object in b that comes next in dec.
func readMembers(dec *decoder, b []byte, take func(name string, v jsontext.Value)) error {
	if _, err := dec.ReadToken(); err != nil {
		return badSyntax(err)
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return badSyntax(err)
		}
		name := unquoteName(quoted)
		value, err := dec.ReadValue()
		if err != nil {
			return badSyntax(err)
		}
		end := dec.InputOffset()
		take(name, b[end-int64(len(value)):end:end]) // the slice that the decoder returned is valid only until its next call
	}
	if _, err := dec.ReadToken(); err != nil {
		return badSyntax(err)
	}
	return nil
}

// unquoteName decodes a member's name, without an allocation for known ones.
func unquoteName(quoted []byte) string {
	switch string(quoted) {
	case `"id"`:
		return "id"
	case `"type"`:
		return "type"
	case `"timestamp"`:
		return "timestamp"
	case `"to"`:
		return "to"
	case `"ttl"`:
		return "ttl"
	case `"topic"`:
		return "topic"
	case `"except"`:
		return "except"
	case `"data"`:
		return "data"
	case `"ref"`:
		return "ref"
	case `"token"`:
		return "token"
	case `"after"`:
		return "after"
	case `"cursor"`:
		return "cursor"
	case `"event"`:
		return "event"
	case `"toUserId"`:
		return "toUserId"
	case `"message"`:
		return "message"
	}
	var name string
	// This does not fail: the decoder has read it with the same options.
	_ = json.Unmarshal(quoted, &name, lenient)
	return name
}

// readString reads a JSON string strictly: ids, names and cursors must be whole characters.
// Null reads as the empty string.
func readString(v jsontext.Value) (s string, ok bool) {
	if s, ok = plainString(v); ok {
		return s, true
	}
	var decoded string // on the heap
	err := json.Unmarshal(v, &decoded)
	return decoded, err == nil
}

// plainString reads a string that stands there as it is: of ASCII, without an escape. That
// is what nearly all are, and it saves a decoder. It returns false for all other values.
func plainString(v []byte) (string, bool) {
	n := len(v) - 1
	if n < 1 || v[0] != '"' || v[n] != '"' {
		return "", false
	}
	for _, c := range v[1:n] {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(v[1:n]), true
}

// nameSet holds the names of one object: the first few in an array, more in a map, so
// that an object of many members does not take quadratic time.
type nameSet struct {
	few  [8]string
	n    int
	many map[string]struct{}
}

// add reports whether the name is new.
func (s *nameSet) add(name string) bool {
	if slices.Contains(s.few[:s.n], name) {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if _, ok := s.many[name]; ok {
		return false
	}
	if s.many == nil {
		s.many = make(map[string]struct{})
	}
	s.many[name] = struct{}{}
	return true
}

// absent reports whether an optional member's value is null, which means absent.
func absent(v jsontext.Value) bool { return v.Kind() == 'n' }

// Whole is a whole number in JSON, however it is written: 60, 60.0 and 6e1 are
// one number (RFC 8259 §6).
type Whole int64

var errNotWhole = errors.New("not a whole number, or too large")

// UnmarshalJSON implements json.Unmarshaler.
func (w *Whole) UnmarshalJSON(b []byte) error {
	n, ok := parseWhole(b)
	if !ok {
		return errNotWhole
	}
	*w = Whole(n)
	return nil
}

// parseWhole reads a JSON number; ok is false where it is no whole number or does not fit.
func parseWhole(v []byte) (n int64, ok bool) {
	if jsontext.Value(v).Kind() != '0' {
		return 0, false
	}
	mantissa, exponent, _ := bytes.Cut(bytes.ToLower(v), []byte("e"))
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	fraction = bytes.TrimRight(fraction, "0")
	digits := append(bytes.Clone(whole), fraction...)
	if len(bytes.Trim(digits, "-0")) == 0 {
		return 0, true
	}
	shift := 0
	if len(exponent) > 0 {
		var err error
		if shift, err = strconv.Atoi(string(exponent)); err != nil {
			return 0, false // the exponent itself is too large
		}
	}
	if shift > len(fraction)+19 || shift < -len(v) { // more zeros than an int64 or the number itself has
		return 0, false
	}
	shift -= len(fraction)
	if shift < 0 { // whole if there are enough zeros at the end
		short := bytes.TrimRight(digits, "0")
		if len(digits)-len(short) < -shift {
			return 0, false
		}
		digits = digits[:len(digits)+shift]
	} else {
		digits = append(digits, bytes.Repeat([]byte("0"), shift)...)
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return n, err == nil
}
