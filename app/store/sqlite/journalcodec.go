package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"hookbridge/app/bridge"
)

// appendJournaled encodes a message that has got its number and its places as it stands
// in the journal; born is when it came, in Unix nanoseconds.
func appendJournaled(b []byte, no, born int64, m *bridge.Message, places []byte) []byte {
	b = binary.AppendVarint(b, no)
	b = binary.AppendVarint(b, born)
	b = appendBytes(b, m.ID)
	b = append(b, m.Digest[:]...)
	stored, expires := byte(0), int64(0)
	if m.Stored() {
		stored, expires = 1, nanos(m.Expires)
	}
	b = append(b, stored)
	b = binary.AppendVarint(b, expires)
	b = appendBytes(b, m.From)
	b = appendBytes(b, m.Type)
	b = binary.AppendVarint(b, nanos(m.At))
	b = binary.AppendVarint(b, int64(m.Escalate))
	b = appendBytes(b, appendNames(nil, m.Except))
	b = appendBytes(b, m.Event)
	return appendBytes(b, places)
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// journaled is a message as the journal has it.
type journaled struct {
	no, born int64
	msg      *bridge.Message
	places   []place
}

var errBadEntry = errors.New("sqlite: an entry of the journal cannot be read")

// parseJournaled decodes the first message of an entry, and returns what follows.
func parseJournaled(b []byte) (journaled, []byte, error) {
	r := &entryReader{b: b}
	j := journaled{no: r.int(), born: r.int()}
	m := &bridge.Message{ID: string(r.bytes())}
	copy(m.Digest[:], r.take(sha256.Size))
	stored := r.take(1)
	if expires := r.int(); len(stored) == 1 && stored[0] == 1 {
		m.Expires = time.Unix(0, expires).UTC()
	}
	m.From, m.Type = string(r.bytes()), string(r.bytes())
	m.At = time.Unix(0, r.int()).UTC()
	m.Escalate = time.Duration(r.int())
	except, event, places := r.bytes(), r.bytes(), r.bytes()
	if r.bad {
		return j, nil, errBadEntry
	}
	m.Event = event
	var err error
	if m.Except, err = parseNames(except); err != nil {
		return j, nil, err
	}
	if j.places, err = parsePlaces(places); err != nil {
		return j, nil, err
	}
	for _, p := range j.places {
		m.To.Users = append(m.To.Users, p.user)
	}
	j.msg = m
	return j, r.b, nil
}

// entryReader reads values off the front of b; bad once something is missing.
type entryReader struct {
	b   []byte
	bad bool
}

func (r *entryReader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *entryReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *entryReader) bytes() []byte {
	size, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return nil
	}
	r.b = r.b[n:]
	return r.take(size)
}
