package bridge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestWriteDeadline(t *testing.T) {
	t.Run("is later for a large event", writeDeadlineOfLarge)
}

// patientLine is a socket in memory that notes how long the write of each frame
// might have taken.
type patientLine struct {
	*line
	allowed chan time.Duration // of frames with an event
}

func (l *patientLine) Write(frames []byte, deadline time.Time) error {
	if bytes.Contains(frames, []byte(`"type":"event"`)) {
		l.allowed <- time.Until(deadline)
	}
	return l.line.Write(frames, deadline)
}

// TryWrite takes nothing, as when the kernel's buffer is full.
func (l *patientLine) TryWrite([]byte) (int, error) { return 0, nil }

// A slow link needs longer for a large event than for a small one. Were both to
// have the same time, the large one would be tried for ever.
func writeDeadlineOfLarge(t *testing.T) {
	store := openStore(t, sqlite.Options{})
	b := bridge.New(bridge.QuietConfig(func(c *bridge.Config) { c.MaxBytes = 4 << 20 }), store, store, noTokens{})
	t.Cleanup(func() {
		if err := b.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &patientLine{newLine(), make(chan time.Duration, 2)}
	l.in <- `{"type":"connect"}`
	b.Accept(l, bridge.Handshake{Identity: &bridge.Identity{User: "patient-1", Expires: time.Now().Add(time.Hour)}})
	l.next(t)
	allowed := func(id string, size int) time.Duration {
		t.Helper()
		data := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), size)...), '"')
		if _, err := b.Publish(t.Context(), bridge.PublishRequest{ID: id, Timestamp: time.Now(), Digest: sha256.Sum256([]byte(id)),
			Event: wire.Event{Type: "t", To: wire.Target{User: "patient-1"}, TTL: -1, Data: data}}, bridge.Wait{}); err != nil {
			t.Fatal(err)
		}
		l.next(t)
		return <-l.allowed
	}
	// 4 MiB at 64 KiB a second take 64 s; the margin is for a slow machine.
	small, large := allowed("small", 10), allowed("large", 4<<20-1024)
	if small > 11*time.Second || large < 44*time.Second {
		t.Errorf("small: %v, large: %v", small, large)
	}
}
