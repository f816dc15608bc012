package client

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Whatever comes, what is handed out is JSON, and its data a part of what came.
func FuzzPlainMessage(f *testing.F) {
	f.Add([]byte(`{"id":"msg_1","type":"t","timestamp":"2026-11-22T20:36:00Z","data":{"a": "\ud800", "a": 1.0}}`))
	f.Add([]byte(`{"fromUserId":"doctor-7","toUserId":"u","message":"hello"}`))
	f.Add([]byte(`{"fromUserId":"doctor-7"}`))
	f.Add([]byte(`{"type":"error","problem":{"code":"invalid_frame"}}`))
	f.Add([]byte(` {"data":null} `))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, refused, err := parsePlain(b)
		if err != nil || refused != nil {
			return
		}
		if !json.Valid(e.Raw) || e.Raw[0] != '{' || !bytes.Contains(b, e.Raw) {
			t.Errorf("raw %q", e.Raw)
		}
		if e.Data != nil && (!json.Valid(e.Data) || e.From == "" && !bytes.Contains(b, e.Data)) {
			t.Errorf("data %q", e.Data)
		}
	})
}
