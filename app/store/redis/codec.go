package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// What is kept is a version, then members: a tag, a length, the bytes. Tags that
// are not known are passed over, so that a newer machine may add some; a version
// that is not known is refused.
const formatVersion = 1

const (
	tagID byte = iota + 1
	tagFrom
	tagType
	tagAt
	tagExpires
	tagTopic
	tagExcept
	tagEvent
	tagRecipient
	tagAll
	tagUser
	tagMachine
	tagToken
	tagWanted
	tagFingerprint // lua/lib.lua knows its number

	// What follows stands last, in this order, where scripts look for it.
	tagLife byte = 30
	tagBorn byte = 31
)

var errFormat = errors.New("redis: what is kept here was written by a newer version; run that one, or another prefix")

type encoder struct{ b []byte }

func newEncoder(size int) encoder { return encoder{append(make([]byte, 0, size), formatVersion)} }

func (e *encoder) text(tag byte, s string) {
	if s == "" {
		return
	}
	e.b = append(binary.AppendUvarint(append(e.b, tag), uint64(len(s))), s...)
}

func (e *encoder) bytes(tag byte, s []byte) {
	e.b = append(binary.AppendUvarint(append(e.b, tag), uint64(len(s))), s...)
}

func (e *encoder) number(tag byte, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	e.bytes(tag, b[:])
}

func (e *encoder) time(tag byte, t time.Time) {
	if !t.IsZero() {
		e.number(tag, uint64(t.UnixNano()))
	}
}

// decode calls member with each member. The bytes are the caller's own.
func decode(b []byte, member func(tag byte, v []byte)) error {
	if len(b) == 0 || b[0] != formatVersion {
		return errFormat
	}
	for b = b[1:]; len(b) > 0; {
		tag := b[0]
		n, size := binary.Uvarint(b[1:])
		if size <= 0 || uint64(len(b)-1-size) < n {
			return fmt.Errorf("redis: what is kept here is damaged at member %d", tag)
		}
		member(tag, b[1+size:1+size+int(n)])
		b = b[1+size+int(n):]
	}
	return nil
}

func number(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func instant(v []byte) time.Time { return time.Unix(0, int64(number(v))).UTC() }

// encodeMessage writes what a mailbox keeps of a message, and what goes over a
// channel.
func encodeMessage(m *bridge.Message) []byte {
	e := newEncoder(len(m.Event) + len(m.ID) + len(m.Type) + len(m.From) + len(m.Topic) + 48)
	e.text(tagID, m.ID)
	e.text(tagFrom, m.From)
	e.text(tagType, m.Type)
	e.time(tagAt, m.At)
	e.time(tagExpires, m.Expires)
	e.text(tagTopic, m.Topic)
	for _, s := range m.Except {
		e.text(tagExcept, s)
	}
	e.bytes(tagEvent, m.Event)
	return e.b
}

// decodeMessage reads one back, for user, or for all where that is empty. It
// keeps b.
func decodeMessage(b []byte, user string) (*bridge.Message, error) {
	m := &bridge.Message{To: bridge.Target{User: user, All: user == ""}}
	err := decode(b, func(tag byte, v []byte) {
		switch tag {
		case tagID:
			m.ID = string(v)
		case tagFrom:
			m.From = string(v)
		case tagType:
			m.Type = string(v)
		case tagAt:
			m.At = instant(v)
		case tagExpires:
			m.Expires = instant(v)
		case tagTopic:
			m.Topic = string(v)
		case tagExcept:
			m.Except = append(m.Except, string(v))
		case tagEvent:
			m.Event = v
		}
	})
	if err == nil {
		m.Encode()
	}
	return m, err
}

// envelope is what goes before a message over a channel.
type envelope struct {
	user    string // whose mailbox; empty: to all
	machine string // that appended it
	token   uint64 // by which that one knows its own
	wanted  bridge.Status
	life    string // in which it got its place; empty where an older version appended it
	born    int64  // and that life's number
}

// encode writes an envelope without its life, which the script adds that puts the
// message into the mailbox: the lifeMark of that life follows.
func (v *envelope) encode() []byte {
	e := newEncoder(len(v.user) + len(v.machine) + 32)
	e.text(tagUser, v.user)
	e.text(tagMachine, v.machine)
	e.number(tagToken, v.token)
	e.text(tagWanted, string(v.wanted))
	return append(binary.AppendUvarint(nil, uint64(len(e.b)+lifeMarkLength)), e.b...)
}

// lifeMark is a life as members of an envelope.
func lifeMark(name string, no int64) []byte {
	e := encoder{}
	e.text(tagLife, name)
	e.number(tagBorn, uint64(no))
	return e.b
}

// lifeMarkLength is that of any life: two members of 8 bytes.
const lifeMarkLength = 2 + lifeLength + 2 + 8

func decodeEnvelope(b []byte) (v envelope, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || uint64(len(b)-size) < n {
		return v, nil, errors.New("redis: a damaged envelope")
	}
	err = decode(b[size:size+int(n)], func(tag byte, m []byte) {
		switch tag {
		case tagUser:
			v.user = string(m)
		case tagMachine:
			v.machine = string(m)
		case tagToken:
			v.token = number(m)
		case tagWanted:
			v.wanted = bridge.Status(m)
		case tagLife:
			v.life = string(m)
		case tagBorn:
			v.born = int64(number(m))
		}
	})
	return v, b[size+int(n):], err
}

// idRecord is what is remembered by an id.
type idRecord struct {
	from, typ   string
	at, expires time.Time
	except      []string
	all         bool
	users       []string
}

func recordOf(m *bridge.Message, users []string) *idRecord {
	return &idRecord{from: m.From, typ: m.Type, at: m.At, expires: m.Expires, except: m.Except, all: m.To.All, users: users}
}

func (r *idRecord) encode() string {
	e := newEncoder(96)
	e.text(tagFrom, r.from)
	e.text(tagType, r.typ)
	e.time(tagAt, r.at)
	e.time(tagExpires, r.expires)
	for _, s := range r.except {
		e.text(tagExcept, s)
	}
	if r.all {
		e.bytes(tagAll, nil)
	}
	for _, u := range r.users {
		e.text(tagRecipient, u)
	}
	return rueidis.BinaryString(e.b) // nobody writes to it any more
}

func decodeRecord(s string) (*idRecord, error) {
	r := &idRecord{}
	err := decode([]byte(s), func(tag byte, v []byte) {
		switch tag {
		case tagFrom:
			r.from = string(v)
		case tagType:
			r.typ = string(v)
		case tagAt:
			r.at = instant(v)
		case tagExpires:
			r.expires = instant(v)
		case tagExcept:
			r.except = append(r.except, string(v))
		case tagAll:
			r.all = true
		case tagRecipient:
			r.users = append(r.users, string(v))
		}
	})
	return r, err
}
