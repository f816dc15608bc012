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
func (m *ExportMessage) Line() []byte { return exportLine("message", Encode(m), "event", m.Event) }

// ExportCallback is a callback about the user that is kept until its backend has it, under
// "callback".
type ExportCallback struct {
	ID      string `json:"id"` // its webhook-id
	Backend string `json:"backend"`
	GivenUp string `json:"givenUp,omitempty"` // when it was given up; absent while it waits
	Body    []byte `json:"-"`                 // what the backend gets; JSON, the member "body"
}

// Line is the callback as a line of an export.
func (c *ExportCallback) Line() []byte { return exportLine("callback", Encode(c), "body", c.Body) }

// exportLine is a member of an export whose own last member is JSON, kept byte for byte but
// for line breaks.
func exportLine(name string, head []byte, last string, value []byte) []byte {
	b := append(make([]byte, 0, len(head)+len(value)+32), `{"`+name+`":`...)
	b = append(b, head[:len(head)-1]...) // without its closing brace
	b = append(b, `,"`+last+`":`...)
	b = append(b, OneLine(value)...)
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
