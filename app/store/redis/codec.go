package redis

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// A stored value is a version, then members: a tag, a length, the bytes. A reader
// ignores tags that it does not know, so that a newer machine may add some; it refuses a
// version that it does not know.
const formatVersion = 1

const (
	tagID byte = iota + 1
	tagFrom
	tagType
	tagAt
	tagExpires
	tagTopic
	tagExcept
	tagEvent // lua/lib.lua knows its number
	tagRecipient
	tagAll
	tagUser
	tagMachine
	tagToken
	tagWanted
	tagFingerprint // lua/join.lua knows its number
	tagTries
	tagSince
	tagGivenUp
	tagLast
	tagAfter
	tagNumber
	tagDue

	// These two come last, in this order: scripts look for them there.
	tagLife byte = 30
	tagBorn byte = 31
)

var errFormat = errors.New("redis: what is kept here was written by a newer version; run that one, or another prefix")

type encoder struct{ b []byte }

func newEncoder(size int) encoder { return encoder{append(make([]byte, 0, size), formatVersion)} }

// text adds a member, unless it is empty.
func (e *encoder) text(tag byte, s string) {
	if s == "" {
		return
	}
	e.b = append(binary.AppendUvarint(append(e.b, tag), uint64(len(s))), s...)
}

func (e *encoder) texts(tag byte, list []string) {
	for _, s := range list {
		e.text(tag, s)
	}
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

func decodeNumber(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func decodeTime(v []byte) time.Time { return time.Unix(0, int64(decodeNumber(v))).UTC() }

// encodeMessage encodes a message as a mailbox keeps it and as a channel carries it.
func encodeMessage(m *bridge.Message) []byte {
	e := newEncoder(len(m.Event) + len(m.ID) + len(m.Type) + len(m.From) + len(m.Topic) + 48)
	e.text(tagID, m.ID)
	e.text(tagFrom, m.From)
	e.text(tagType, m.Type)
	e.time(tagAt, m.At)
	e.time(tagExpires, m.Expires)
	e.text(tagTopic, m.Topic)
	e.texts(tagExcept, m.Except)
	e.bytes(tagEvent, m.Event)
	return e.b
}

// decodeMessage decodes a message to a user, or to all if user is empty. The message keeps
// b.
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
			m.At = decodeTime(v)
		case tagExpires:
			m.Expires = decodeTime(v)
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

// envelope precedes a message on a channel.
type envelope struct {
	user    string // whose mailbox; empty: to all
	machine string // that appended the message
	token   uint64 // of that machine's selfDelivery
	wanted  bridge.Status
	life    string // in which the message got its place; empty if an older version appended it
	born    int64  // that life's number
}

// encode encodes an envelope without its life: the script that stores the message appends
// the lifeMark of its life.
func (v *envelope) encode() []byte {
	e := newEncoder(len(v.user) + len(v.machine) + 32)
	e.text(tagUser, v.user)
	e.text(tagMachine, v.machine)
	e.number(tagToken, v.token)
	e.text(tagWanted, string(v.wanted))
	return append(binary.AppendUvarint(nil, uint64(len(e.b)+lifeMarkLength)), e.b...)
}

// lifeMark encodes a life as members of an envelope.
func lifeMark(name string, no int64) []byte {
	e := encoder{}
	e.text(tagLife, name)
	e.number(tagBorn, uint64(no))
	return e.b
}

// lifeMarkLength is the length of any lifeMark: two members of 8 bytes.
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
			v.token = decodeNumber(m)
		case tagWanted:
			v.wanted = bridge.Status(m)
		case tagLife:
			v.life = string(m)
		case tagBorn:
			v.born = int64(decodeNumber(m))
		}
	})
	return v, b[size+int(n):], err
}

// idRecord is what is known of the message with an id, after the message itself is gone.
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
	e.texts(tagExcept, r.except)
	if r.all {
		e.bytes(tagAll, nil)
	}
	e.texts(tagRecipient, r.users)
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
			r.at = decodeTime(v)
		case tagExpires:
			r.expires = decodeTime(v)
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

// The parts of a dedupEntry; see remember in lua/lib.lua.
const (
	untilDigits    = 13 // milliseconds
	recalledDigits = 19 // nanoseconds
	dedupHead      = sha256.Size + untilDigits + recalledDigits
)

// dedupEntry is what is known of an id.
type dedupEntry struct {
	*idRecord
	digest   string
	until    int64  // milliseconds
	seq      uint64 // the place in the one mailbox that the message went to
	placed   bool   // whether seq is kept here, even if it is 0
	recalled time.Time
}

// digits formats a number with leading zeros.
func digits(n int64, width int) string {
	text := itoa(n)
	return "0000000000000000000"[:max(0, width-len(text))] + text
}

func (r *dedupEntry) encode() string {
	place := ""
	if r.placed {
		place = itoa(r.seq)
	}
	at := int64(0)
	if !r.recalled.IsZero() {
		at = r.recalled.UnixNano()
	}
	return r.digest + digits(r.until, untilDigits) + digits(at, recalledDigits) + place + " " + r.idRecord.encode()
}

// decodeDedupEntry decodes what is known of an id.
func decodeDedupEntry(text string) (r dedupEntry, err error) {
	if len(text) <= dedupHead {
		return r, errFormat
	}
	r.digest = text[:sha256.Size]
	until, err := strconv.ParseUint(text[sha256.Size:sha256.Size+untilDigits], 10, 63)
	if err != nil {
		return r, err
	}
	at, err := strconv.ParseUint(text[sha256.Size+untilDigits:dedupHead], 10, 63)
	if err != nil {
		return r, err
	}
	if r.until = int64(until); at != 0 {
		r.recalled = time.Unix(0, int64(at)).UTC()
	}
	place, record, _ := strings.Cut(text[dedupHead:], " ")
	if r.placed = place != ""; r.placed {
		if r.seq, err = strconv.ParseUint(place, 10, 64); err != nil {
			return r, err
		}
	}
	r.idRecord, err = decodeRecord(record)
	return r, err
}
