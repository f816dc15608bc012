package wire

import "github.com/go-json-experiment/json/jsontext"

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
	Cursor  string         `json:"cursor"`
	From    string         `json:"from,omitempty"`
	ToAll   bool           `json:"toAll,omitzero"`
	Topic   string         `json:"topic,omitempty"`
	Expires string         `json:"expires"`
	Event   jsontext.Value `json:"event"`
}

// ExportSession is a session of an export, under "session".
type ExportSession struct {
	Session   string `json:"session"`
	Transport string `json:"transport"`
	Since     string `json:"since"`
	Until     string `json:"until,omitempty"` // absent while it lives
}
