package sqlite

import (
	"encoding/binary"
	"errors"
)

// place is one recipient of a message and its sequence in that mailbox; seq is 0
// for a message that was never stored. The user "" stands for the log of
// messages to all.
type place struct {
	user string
	seq  uint64
}

var errBadTargets = errors.New("sqlite: a row's list of recipients is damaged")

// appendPlace encodes a place: length of the name, the name, the sequence.
func appendPlace(b []byte, p place) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.user)))
	b = append(b, p.user...)
	return binary.AppendUvarint(b, p.seq)
}

// parsePlaces decodes a list of places.
func parsePlaces(b []byte) ([]place, error) {
	var places []place
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errBadTargets
		}
		p := place{user: string(b[n : n+int(size)])}
		b = b[n+int(size):]
		if p.seq, n = binary.Uvarint(b); n <= 0 {
			return nil, errBadTargets
		}
		b = b[n:]
		places = append(places, p)
	}
	return places, nil
}

// placeLength is how many bytes the first of some places takes.
func placeLength(b []byte) (int, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return 0, errBadTargets
	}
	at := n + int(size)
	if _, n = binary.Uvarint(b[at:]); n <= 0 {
		return 0, errBadTargets
	}
	return at + n, nil
}

// appendNames and parseNames keep a list of session names in one column.
func appendNames(b []byte, names []string) []byte {
	for _, s := range names {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func parseNames(b []byte) ([]string, error) {
	var names []string
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errBadTargets
		}
		names = append(names, string(b[n:n+int(size)]))
		b = b[n+int(size):]
	}
	return names, nil
}

// packLifeStarts and parseLifeStarts keep where lives began in one column.
func packLifeStarts(list []lifeStart) []byte {
	var b []byte
	for _, s := range list {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.no)), s.after)
	}
	return b
}

var errLifeStarts = errors.New("sqlite: where a mailbox's lives began cannot be read")

func parseLifeStarts(b []byte) (list []lifeStart, err error) {
	for len(b) > 0 {
		no, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errLifeStarts
		}
		after, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil, errLifeStarts
		}
		list = append(list, lifeStart{int64(no), after})
		b = b[n+m:]
	}
	return list, nil
}
