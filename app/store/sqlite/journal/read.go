package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// ErrDamaged: an entry in the middle of a file is not what was written.
var ErrDamaged = errors.New("the journal is damaged")

// Entry is what one Write has written.
type Entry struct {
	Segment uint64
	Life    string
	Data    []byte
}

// Present reports whether a journal lies in a folder, and names its first file.
func Present(dir string) (path string, err error) {
	for _, name := range fileNames {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look for the journal: %w", err)
		}
		if info.Size() > int64(fileHeader) {
			return path, nil
		}
	}
	return "", nil
}

// Read returns the entries of one life, behind a segment that the store has, in the order
// in which they were written, and counts those of other lives. An entry that was being
// written when the program or the machine died is left out. ErrDamaged where one cannot be
// read that has others behind it.
func Read(dir, life string, after uint64) (all []Entry, others int, err error) {
	for _, name := range fileNames {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the journal: %w", err)
		}
		entries, err := readFile(b, func(e Entry) bool {
			if e.Life != life {
				others++
			}
			return e.Life == life && e.Segment > after
		})
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %s", err, path)
		}
		all = append(all, entries...)
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return cmp.Compare(a.Segment, b.Segment) })
	return all, others, nil
}

// readFile returns the entries of one file that are wanted.
func readFile(b []byte, wanted func(Entry) bool) (entries []Entry, err error) {
	if len(b) <= fileHeader {
		return nil, nil // its making was cut off
	}
	if string(b[:len(fileMagic)]) != fileMagic {
		return nil, ErrDamaged
	}
	salt := [saltLength]byte(b[len(fileMagic):fileHeader])
	b = b[fileHeader:]
	newest := uint64(0)
	for {
		e, n, ok := parse(salt, b)
		if !ok || e.Segment < newest {
			break // what follows, if anything, is of an earlier use of the file
		}
		newest = e.Segment
		if wanted(e) {
			entries = append(entries, e)
		}
		b = b[n:]
	}
	// An entry that is wanted and comes later was written after the one that cannot be
	// read, which therefore was complete once.
	mark := binary.LittleEndian.AppendUint32(nil, entryMagic)
	for at := bytes.Index(b, mark); at >= 0; {
		if e, _, ok := parse(salt, b[at:]); ok && e.Segment >= newest && wanted(e) {
			return nil, ErrDamaged
		}
		next := bytes.Index(b[at+1:], mark)
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return entries, nil
}

// parse reads the entry at the start of b, and says how many bytes it takes.
func parse(salt [saltLength]byte, b []byte) (e Entry, n int, ok bool) {
	if len(b) < headLength || binary.LittleEndian.Uint32(b) != entryMagic {
		return e, 0, false
	}
	size := int64(binary.LittleEndian.Uint32(b[4:]))
	if size > int64(len(b)-headLength) {
		return e, 0, false
	}
	n = headLength + int(size)
	if sum(salt, b[:n]) != binary.LittleEndian.Uint32(b[8:]) {
		return e, 0, false
	}
	return Entry{Segment: binary.LittleEndian.Uint64(b[12:]), Life: string(b[20:headLength]), Data: b[headLength:n]}, n, true
}
