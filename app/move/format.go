// Package move writes a whole store to a file and makes a store of such a file.
// An export or import that broke off is not continued: it starts over.
//
// An export is lines of JSON. The first is its header; then come the store's
// entries (bridge.Entry), one a line, in sections. Each section is closed by a
// checkpoint, and the last one by the end:
//
//	{"hookbridge":"export","version":3,"export":"…","epoch":"…","at":"…"}
//	{"life":{…}}
//	{"event":{…}}
//	{"message":{…}}
//	{"place":"3","sum":"…"}
//	{"sight":{…}}
//	{"end":true,"entries":4,"sum":"…"}
//
// A sum covers everything before it, so that nothing of a section is loaded that is
// not as it was written. A checkpoint's place is any text: here the number of entries
// before it, in older files where the export could be continued.
package move

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"strconv"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	// version is the newest version of the format that is known here, and the one that
	// is written. Version 1 has neither callbacks nor timers, and version 2 does not tell
	// which callbacks were taken.
	version = 3
	// sectionEntries and sectionBytes end a section, whichever comes first. A
	// section is what an import loads at once.
	sectionEntries = 500
	sectionBytes   = 1 << 20
	// maxHeader and maxSection bound in bytes what a reader takes into memory of a
	// file that may be anything. One entry is 6 MB at most: the largest event there
	// may be, in base64, or 10,000 names.
	maxHeader  = 4 << 10
	maxSection = 64 << 20
)

var (
	// ErrForeign: the file is something else.
	ErrForeign = errors.New("this is no export of hookbridge")
	// ErrIncomplete: the export's end is missing.
	ErrIncomplete = errors.New("the export is incomplete")
	// ErrDamaged: the export is not as it was written.
	ErrDamaged = errors.New("the export is damaged")
	// ErrNothing: no bridge has run on the store yet.
	ErrNothing = errors.New("there is nothing to export: no bridge has run on this store")
)

// Moved is how far an export or import is.
type Moved struct {
	Entries int64
	Bytes   int64 // of the file
}

// header is the first line of an export.
type header struct {
	Hookbridge string    `json:"hookbridge"` // "export"
	Version    int       `json:"version"`
	Export     string    `json:"export"` // the export's own random name
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

// line is any line after the header: an entry; or what closes a section, which is a
// place or the end, and a sum.
type line struct {
	bridge.Entry
	Place   string `json:"place,omitempty"`
	End     bool   `json:"end,omitzero"`
	Entries int64  `json:"entries,omitzero"` // in the whole file; at the end only
	Sum     string `json:"sum,omitempty"`
}

func (l *line) closes() bool { return l.Place != "" || l.End }

// parseLine is strict: a member that is not known would be left behind silently.
func parseLine(b []byte) (l line, ok bool) {
	if wire.DecodeStrict(b, &l) != nil {
		return l, false
	}
	kinds := l.Kinds()
	if l.Place != "" {
		kinds++
	}
	if l.End {
		kinds++
	}
	return l, kinds == 1 && l.closes() == (l.Sum != "") && (l.End || l.Entries == 0)
}

// sealer makes the sums of sections. The header's line goes into the first, and each
// sum into the next one.
type sealer struct{ h hash.Hash }

func newSealer(header []byte) *sealer {
	s := &sealer{h: sha256.New()}
	s.add(header)
	return s
}

func (s *sealer) add(line []byte) { s.h.Write(line) }

// sum closes a section as l does.
func (s *sealer) sum(l line) string {
	how := "place " + l.Place
	if l.End {
		how = "end " + strconv.FormatInt(l.Entries, 10)
	}
	s.add([]byte(how))
	sum := hex.EncodeToString(s.h.Sum(nil)[:8])
	s.h.Reset()
	s.add([]byte(sum))
	return sum
}
