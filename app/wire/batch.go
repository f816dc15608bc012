package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxBatchEvents is how many events one batch may have.
const MaxBatchEvents = 1_000

// BatchItem is one event of a batch.
type BatchItem struct {
	ID    string // empty where it has none that is valid
	Raw   []byte // its bytes as they came: what its digest covers
	Event Event
	Err   error // *DecodeError; nil where Event is good
}

// DecodeBatch reads {"events":[{"id":…, and an event's members},…]}. Its error is
// about the body as a whole; what is wrong with one event stands in its item.
func DecodeBatch(body []byte) ([]BatchItem, error) {
	var list jsontext.Value
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return nil, badSyntax(err)
		}
		return nil, &DecodeError{Detail: `the batch must be a JSON object: {"events":[…]}`}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, badSyntax(err)
	}
	twice := false
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, badSyntax(err)
		}
		key := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, badSyntax(err)
		}
		if key == "events" {
			twice = twice || list != nil
			list = value.Clone()
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, badSyntax(err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, &DecodeError{Syntax: true, Detail: "the body goes on after the JSON object ends"}
	}
	switch {
	case twice:
		return nil, badMember("/events", "is given twice")
	case list.Kind() != '[':
		return nil, badMember("/events", "must be a list of events")
	}
	items, err := split(list, "/events")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, badMember("/events", "is empty")
	}
	for i := range items {
		it := &items[i]
		it.Event, it.Err = DecodeEvent(it.Raw)
		if id, ok := itemID(it.Raw); ok {
			it.ID = id
		} else if it.Err == nil {
			it.Err = badMember("/id", "must be given once: 1 to 64 characters A-Z a-z 0-9 _ -")
		}
		it.at(fmt.Sprintf("/events/%d", i))
	}
	return items, nil
}

// at puts the item's place in front of its error's pointer.
func (it *BatchItem) at(pointer string) {
	var bad *DecodeError
	if !errors.As(it.Err, &bad) {
		return
	}
	between := ": "
	if strings.HasPrefix(bad.Detail, "/") {
		between = ""
	}
	it.Err = &DecodeError{Syntax: bad.Syntax, Detail: pointer + between + bad.Detail}
}

// split takes a valid JSON array apart.
func split(list jsontext.Value, pointer string) ([]BatchItem, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(list), jsontext.AllowDuplicateNames(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, badSyntax(err)
	}
	items := []BatchItem{}
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, badSyntax(err)
		}
		if len(items) == MaxBatchEvents {
			return nil, badMember(pointer, fmt.Sprintf("has more than %d events; send the rest in another batch", MaxBatchEvents))
		}
		items = append(items, BatchItem{Raw: bytes.Clone(value)})
	}
	return items, nil
}

// itemID reads the one valid id of an event in a batch. Other names may stand
// there twice; that is judged elsewhere.
func itemID(raw []byte) (id string, ok bool) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return "", false
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return "", false
		}
		isID := name.String() == "id"
		value, err := dec.ReadValue()
		if err != nil || isID && (ok || json.Unmarshal(value, &id) != nil || !validEventID(id)) {
			return "", false
		}
		ok = ok || isID
	}
	return id, ok
}

func validEventID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
