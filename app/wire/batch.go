package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxBatchEvents is how many events one batch may have.
const MaxBatchEvents = 1_000

// Item is one event of a webhook.
type Item struct {
	ID    string // empty where it has none that is valid
	Raw   []byte // its bytes as they came, which its digest is made of
	Event Event
	Err   error // of one of several: why it cannot be taken; nil where Event is good
}

// DecodeBatch reads {"events":[{"id":…, and an event's members},…]}. Its error is about
// the body as a whole, such as that it is not JSON. What is wrong with one event, even
// that it is nested too deeply, is its item's Err.
func DecodeBatch(body []byte) ([]Item, error) {
	if skip := (skipper{b: body}); skip.peek() != '{' {
		if err := CheckData(body); err != nil {
			return nil, err
		}
		return nil, &DecodeError{Detail: `the batch must be a JSON object: {"events":[…]}`}
	}
	var list []byte
	var first error
	fail := func(err error) {
		if first == nil {
			first = err
		}
	}
	var names nameSet
	whole := members(body, func(quoted, value []byte) {
		var name string
		if err := CheckData(quoted); err != nil {
			fail(err)
		} else if err := json.Unmarshal(quoted, &name, lenient); err != nil {
			fail(badSyntax(err))
		}
		place := "a member that is not known here"
		if name == "events" {
			place = "/events"
		}
		switch {
		case !names.add(name):
			fail(badMember(place, "is given twice"))
		case name == "events":
			list = value
		default:
			if err := CheckData(value); err != nil {
				fail(err)
			}
		}
	})
	switch {
	case !whole:
		return nil, notWhole(body)
	case first != nil:
		return nil, first
	case len(list) == 0 || list[0] != '[':
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
		items[i].decode()
		items[i].Err = within(fmt.Sprintf("/events/%d", i), items[i].Err)
	}
	return whollyJSON(items)
}

// whollyJSON refuses a batch with an item that is not JSON, since then the body is not
// JSON either.
func whollyJSON(items []Item) ([]Item, error) {
	for i := range items {
		if bad, ok := errors.AsType[*DecodeError](items[i].Err); ok && bad.Syntax && !bad.deep {
			return nil, bad
		}
	}
	return items, nil
}

// notWhole is the error of a body that members or elements cannot take apart.
func notWhole(body []byte) error {
	err := checkValue(body, MaxDepth+2)
	if err == nil { // does not happen: both read the same grammar
		err = &DecodeError{Syntax: true, Detail: "the body is not JSON"}
	}
	return err
}

// decode reads the item's event and id. A valid id is also kept where the event cannot
// be taken, so that its problem can name it.
func (it *Item) decode() {
	var id jsontext.Value
	it.Event, it.Err = decodeEvent(it.Raw, func(name string, v jsontext.Value) error {
		if name == "id" {
			id = v.Clone()
		}
		return nil
	})
	if it.Err != nil {
		id = it.findID()
	}
	if len(id) > 0 && (json.Unmarshal(id, &it.ID) != nil || !ValidID(it.ID)) {
		it.ID = ""
	}
	if it.ID == "" && it.Err == nil {
		it.Err = badMember("/id", "must be given once: 1 to 64 characters A-Z a-z 0-9 _ -")
	}
}

// findID finds the id of an event that cannot be decoded; nil unless it has exactly one.
func (it *Item) findID() (id jsontext.Value) {
	n := 0
	whole := members(it.Raw, func(quoted, value []byte) {
		var name string
		if json.Unmarshal(quoted, &name, lenient) == nil && name == "id" {
			n++
			id = value
		}
	})
	if !whole || n != 1 {
		return nil
	}
	return id
}

// within puts the pointer of an event in front of the one in its error.
func within(pointer string, err error) error {
	bad, ok := errors.AsType[*DecodeError](err)
	if !ok {
		return err
	}
	between := ": "
	if strings.HasPrefix(bad.Detail, "/") {
		between = ""
	}
	return &DecodeError{Syntax: bad.Syntax, deep: bad.deep, Detail: pointer + between + bad.Detail}
}

// split makes an item of each element of a JSON array.
func split(list []byte, pointer string) ([]Item, error) {
	items := []Item{}
	tooMany := false
	whole := elements(list, func(value []byte) bool {
		tooMany = len(items) == MaxBatchEvents
		if !tooMany {
			items = append(items, Item{Raw: bytes.Clone(value)})
		}
		return !tooMany
	})
	switch {
	case tooMany:
		return nil, badMember(pointer, fmt.Sprintf("has more than %d events; send the rest in another batch", MaxBatchEvents))
	case !whole:
		return nil, notWhole(list)
	}
	return items, nil
}
