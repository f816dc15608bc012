package soak

import (
	"encoding/json"
	"strconv"
)

// frame is any frame of the bridge, in either mode of the socket.
type frame struct {
	Type      string `json:"type"`
	Session   string `json:"session"`
	Cursor    string `json:"cursor"`
	After     string `json:"after"`
	Pending   int    `json:"pending"`
	From      string `json:"from"`
	Reason    string `json:"reason"`
	AfterMs   int    `json:"afterMs"`
	Ref       string `json:"ref"`
	ID        string `json:"id"`
	Status    string `json:"status"`
	Sessions  int    `json:"sessions"`
	Duplicate bool   `json:"duplicate"`
	Event     struct {
		ID   string          `json:"id"`
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	} `json:"event"`
	Problem struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
	} `json:"problem"`

	FromUserID string          `json:"fromUserId"`
	Message    json.RawMessage `json:"message"`
	Data       json.RawMessage `json:"data"`
	plain      bool
	raw        []byte
}

// parseFrame reads one; in plain mode everything but an error is an event.
func parseFrame(b []byte, plain bool) (*frame, error) {
	f := &frame{raw: b, plain: plain}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, err
	}
	if plain && f.Type != "error" {
		f.Type, f.From = "event", f.FromUserID
		f.Event.ID, f.Event.Data = f.ID, f.Data
	}
	return f, nil
}

// number is the event's number, which stands in its data; -1 without one.
func (f *frame) number() int {
	if f.Message != nil {
		return messageNumber(f.Message)
	}
	var d struct {
		N       *int
		Message json.RawMessage
	}
	if json.Unmarshal(f.Event.Data, &d) != nil {
		return -1
	}
	if d.N != nil {
		return *d.N
	}
	return messageNumber(d.Message)
}

func messageNumber(message json.RawMessage) int {
	var s string
	if json.Unmarshal(message, &s) != nil {
		return -1
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// is tells whether the frame shows the event as it was sent.
func (f *frame) is(e *Event) bool {
	if f.From != e.From || e.ID != "" && f.Event.ID != "" && f.Event.ID != e.ID {
		return false
	}
	if f.Message != nil { // only the message of what a user sent is shown in plain mode
		return string(f.Message) == strconv.Quote(strconv.Itoa(e.N))
	}
	return string(f.Event.Data) == e.Data
}
