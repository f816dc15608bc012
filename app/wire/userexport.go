package wire

import "bytes"

// ExportUser is the first line of a user's export.
type ExportUser struct {
	User     string   `json:"user"`
	At       string   `json:"at"` // when the export was made
	Online   bool     `json:"online"`
	LastSeen string   `json:"lastSeen,omitempty"`
	Groups   []string `json:"groups"`
}

// ExportMessage is a message of an export, under "message".
type ExportMessage struct {
	Cursor  string `json:"cursor"`
	From    string `json:"from,omitempty"`
	ToAll   bool   `json:"toAll,omitzero"`
	Topic   string `json:"topic,omitempty"`
	Expires string `json:"expires"`
	Event   []byte `json:"-"` // the event object as sessions see it; JSON, the member "event"
}

// Line is the message as a line of an export.
func (m *ExportMessage) Line() []byte {
	head := Encode(m)
	b := append(make([]byte, 0, len(head)+len(m.Event)+24), `{"message":`...)
	b = append(b, head[:len(head)-1]...) // without its closing brace
	b = append(b, `,"event":`...)
	b = append(b, OneLine(m.Event)...)
	return append(b, "}}"...)
}

// OneLine returns the same JSON without line breaks, for formats with one value a line.
// JSON has line breaks only between tokens, where a space means the same.
func OneLine(value []byte) []byte {
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return value
	}
	line := bytes.Clone(value)
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' '
		}
	}
	return line
}

// ExportSession is a session of an export, under "session".
type ExportSession struct {
	Session   string `json:"session"`
	Transport string `json:"transport"`
	Since     string `json:"since"`
	Until     string `json:"until,omitempty"` // absent while it lives
}
