package redis

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hookbridge/app/bridge"
)

// A callback begins with its head, which scripts replace, and its number among those that
// are sent in order, which lua/outbox_lib.lua gives it once. One that was given up has
// further members at its end, the last of which count.

// callbackHead encodes how often a callback was tried, and since when.
func callbackHead(tries int, since time.Time) string {
	e := encoder{}
	e.number(tagTries, uint64(tries))
	e.number(tagSince, uint64(since.UnixNano()))
	return string(e.b)
}

func encodeCallback(c bridge.Callback, tries int, since time.Time, number int64) string {
	e := newEncoder(len(c.Body) + len(c.User) + 80)
	e.b = append(e.b, callbackHead(tries, since)...)
	e.text(tagNumber, digits(number, numberDigits))
	e.text(tagType, c.Type)
	e.text(tagUser, c.User)
	e.time(tagAt, c.At)
	e.bytes(tagEvent, c.Body)
	return string(e.b)
}

// numberDigits is DIGITS of lua/outbox_lib.lua.
const numberDigits = 16

// givenUp encodes when a callback was given up, and why: it follows the callback.
func givenUp(at time.Time, last string) string {
	e := encoder{}
	e.time(tagGivenUp, at)
	e.bytes(tagLast, []byte(last))
	return string(e.b)
}

// keptCallback is a callback as the store keeps it.
type keptCallback struct {
	bridge.Callback
	tries   int
	since   time.Time
	number  int64     // among those in order; 0 for others
	givenUp time.Time // zero while it waits
	last    string
}

func (k *keptCallback) encode() string {
	text := encodeCallback(k.Callback, k.tries, k.since, k.number)
	if !k.givenUp.IsZero() {
		text += givenUp(k.givenUp, k.last)
	}
	return text
}

// decodeCallback decodes a callback of a backend that is kept under an id.
func decodeCallback(backend, id, text string) (k keptCallback, err error) {
	k.Backend, k.ID = backend, id
	err = decode([]byte(text), func(tag byte, v []byte) {
		switch tag {
		case tagTries:
			k.tries = int(decodeNumber(v))
		case tagSince:
			k.since = decodeTime(v)
		case tagNumber:
			n, _ := strconv.ParseUint(string(v), 10, 62) // 0 if it has none
			k.number = int64(n)
		case tagType:
			k.Type = string(v)
		case tagUser:
			k.User = string(v)
		case tagAt:
			k.At = decodeTime(v)
		case tagEvent:
			k.Body = v
		case tagGivenUp:
			k.givenUp = decodeTime(v)
		case tagLast:
			k.last = string(v)
		}
	})
	return k, err
}

// stored is about when a callback was stored, microseconds.
func (k *keptCallback) stored() int64 {
	if k.number != 0 {
		return k.number
	}
	return k.At.UnixMicro()
}

// decodeCallbacks decodes what is kept for a backend by id, in the order in which it was
// stored.
func decodeCallbacks(backend string, kept []map[string]string) (list []keptCallback, err error) {
	for _, fields := range kept {
		for id, text := range fields {
			one, err := decodeCallback(backend, id, text)
			if err != nil {
				return nil, err
			}
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b keptCallback) int {
		return cmp.Or(cmp.Compare(a.stored(), b.stored()), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// encodeTimer encodes what a timer is about. It begins with when the timer is due, where
// passOver in lua/outbox_lib.lua looks for it.
func encodeTimer(t bridge.Timer) string {
	e := newEncoder(len(t.User) + len(t.EventID) + len(t.EventType) + 48)
	e.text(tagDue, digits(t.Due.UnixMilli(), untilDigits))
	e.text(tagID, t.EventID)
	e.text(tagType, t.EventType)
	e.text(tagUser, t.User)
	e.time(tagExpires, t.Due)
	e.number(tagAfter, uint64(t.After))
	return string(e.b)
}

// The first letter of a timer's name is its type, a capital one where the message was acked
// after its end; the place of its message follows.
const (
	unackedTimer = "u"
	expiredTimer = "x"
	offlineTimer = "o" // of which a user has one; it has no place
)

func decodeTimer(name, text string) (t bridge.Timer, err error) {
	switch {
	case name == offlineTimer:
		t.Type = bridge.CallbackOffline
	case strings.HasPrefix(strings.ToLower(name), unackedTimer):
		t.Type = bridge.CallbackUnacked
	default:
		t.Type = bridge.CallbackExpired
	}
	err = decode([]byte(text), func(tag byte, v []byte) {
		switch tag {
		case tagID:
			t.EventID = string(v)
		case tagType:
			t.EventType = string(v)
		case tagUser:
			t.User = string(v)
		case tagExpires:
			t.Due = decodeTime(v)
		case tagAfter:
			t.After = time.Duration(decodeNumber(v))
		}
	})
	return t, err
}

// decodeHeader reads the id and the type of a message whose end may be missing; both are
// empty if it cannot be read.
func decodeHeader(text string) (id, eventType string) {
	_ = decode([]byte(text), func(tag byte, v []byte) { // a part of a message ends in an error
		switch tag {
		case tagID:
			id = string(v)
		case tagType:
			eventType = string(v)
		}
	})
	return id, eventType
}
