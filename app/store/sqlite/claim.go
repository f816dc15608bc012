package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"hookbridge/app/bridge"
)

// Claim implements bridge.Store: the id gets a row in log like that of a message
// that was never stored, for nobody.
func (s *Store) Claim(ctx context.Context, id string, digest [sha256.Size]byte, at time.Time) error {
	m := &bridge.Message{ID: id, Digest: digest, Type: bridge.ClaimType, At: at}
	return s.ask(ctx, &request{needsRoom: true, write: func(w *writer) error { return w.claim(m) }})
}

func (w *writer) claim(m *bridge.Message) error {
	if err := w.begin(); err != nil {
		return err
	}
	added, err := w.sql.addMessage(w.nextNo, m, w.now, []byte{})
	if err != nil {
		return err
	}
	if added {
		w.nextNo++
		return nil
	}
	k, err := w.sql.find(m.ID)
	if err == nil && !bytes.Equal(k.digest, m.Digest[:]) {
		return refuse(bridge.ErrConflict)
	}
	return err
}
