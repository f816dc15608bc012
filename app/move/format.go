// Package transfer carries a whole store to a file and from it: the file's
// format, and the loops that go on where an earlier run broke off.
//
// An export is lines of JSON. The first is its header; then come the store's
// entries (bridge.Entry), one a line, in sections. Each section is closed by a
// checkpoint, and the last one by the end:
//
//	{"hookbridge":"export","version":1,"export":"…","epoch":"…","at":"…"}
//	{"life":{…}}
//	{"event":{…}}
//	{"message":{…}}
//	{"place":"…","sum":"…"}
//	{"sight":{…}}
//	{"end":true,"entries":3,"sum":"…"}
//
// A checkpoint's place is where the export goes on after it, and its sum covers
// everything before it: nothing of a section is loaded that has not come whole.
package move

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"hookbridge/app/bridge"
)

const (
	// version is the newest version of the format that is known here.
	version = 1
	// sectionEntries and sectionBytes end a section, whichever comes first. A
	// section is what an import loads at once.
	sectionEntries = 500
	sectionBytes   = 1 << 20
	// maxHeader and maxSection bound what a reader takes into memory of a file
	// that may be anything. One entry is 6 MB at most: the largest event there
	// may be, in base64, or 10,000 names.
	maxHeader  = 4 << 10
	maxSection = 64 << 20
	// syncEvery is how often an export to a file makes its checkpoints durable.
	syncEvery = 3 * time.Second
)

// Errors of a transfer.
var (
	// ErrForeign: the file is something else.
	ErrForeign = errors.New("this is no export of hookbridge")
	// ErrIncomplete: the export's end is missing.
	ErrIncomplete = errors.New("the export is incomplete")
	// ErrDamaged: the export is not as it was written.
	ErrDamaged = errors.New("the export is damaged")
	// ErrFinished: the file holds a whole export already.
	ErrFinished = errors.New("the file holds a finished export")
	// ErrOther: what is there belongs to another store.
	ErrOther = errors.New("the file holds the export of another store")
	// ErrNothing: no bridge has run on the store yet.
	ErrNothing = errors.New("there is nothing to export: no bridge has run on this store")
)

// Options says who hears how a transfer goes. Each may be nil.
type Options struct {
	// Moved hears how far it is, after each section.
	Moved func(m Moved)
	// Say hears what the operator should know.
	Say func(text string)

	section int // entries of a section; sectionEntries when 0
}

func (o Options) withDefaults() Options {
	if o.Moved == nil {
		o.Moved = func(Moved) {}
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.section == 0 {
		o.section = sectionEntries
	}
	return o
}

// Moved is how far a transfer is.
type Moved struct {
	Entries int64 // in all
	Before  int64 // those of them that an earlier run moved
	Bytes   int64 // of the file, in all
}

// header is the first line of an export.
type header struct {
	Hookbridge string    `json:"hookbridge"` // "export"
	Version    int       `json:"version"`
	Export     string    `json:"export"` // the export's own name
	Epoch      string    `json:"epoch"`  // of the store that it came from
	At         time.Time `json:"at"`
}

// opening begins every header, as json writes it.
const opening = `{"hookbridge":"export",`

// mayBeExport tells whether b, the beginning of a file, may be an export's.
func mayBeExport(b []byte) bool {
	n := min(len(b), len(opening))
	return bytes.Equal(b[:n], []byte(opening[:n]))
}

// checkpoint closes a section, and ending the last one.
type checkpoint struct {
	Place string `json:"place"`
	Sum   string `json:"sum"`
}

type ending struct {
	End     bool   `json:"end"`
	Entries int64  `json:"entries"` // in the whole file
	Sum     string `json:"sum"`
}

// line is any line after the header.
type line struct {
	bridge.Entry
	Place   string `json:"place"`
	End     bool   `json:"end"`
	Entries int64  `json:"entries"`
	Sum     string `json:"sum"`
}

// parseLine is strict: what a version means is settled, so that a member that is
// not known would be something left behind without a word.
func parseLine(b []byte) (l line, ok bool) {
	if json.Unmarshal(b, &l, json.RejectUnknownMembers(true)) != nil {
		return l, false
	}
	n := 0
	for _, is := range []bool{
		l.Life != nil, l.Event != nil, l.Mailbox != nil, l.Message != nil, l.Membership != nil, l.Revocation != nil,
		l.Trail != nil, l.Sight != nil, l.Place != "", l.End,
	} {
		if is {
			n++
		}
	}
	closes := l.Place != "" || l.End
	return l, n == 1 && closes == (l.Sum != "") && (l.End || l.Entries == 0)
}

// sealer makes the sums of sections, each of which covers the one before.
type sealer struct{ h hash.Hash }

// newSealer begins with the header's line, or goes on from a section's sum.
func newSealer(from []byte) *sealer {
	s := &sealer{h: sha256.New()}
	s.add(from)
	return s
}

func (s *sealer) add(line []byte) { s.h.Write(line) }

// checkpoint and end close a section and return its sum.
func (s *sealer) checkpoint(place string) string { return s.close("place " + place) }
func (s *sealer) end(entries int64) string       { return s.close("end " + strconv.FormatInt(entries, 10)) }

func (s *sealer) close(how string) string {
	s.add([]byte(how))
	sum := hex.EncodeToString(s.h.Sum(nil)[:8])
	s.h.Reset()
	s.add([]byte(sum))
	return sum
}
