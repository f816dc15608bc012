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
func (e *Store) Claim(ctx context.Context, id string, digest [sha256.Size]byte, at time.Time) error {
	return e.do(ctx, kindClaim, func(r *request) {
		r.msg = &bridge.Message{ID: id, Digest: digest, Type: bridge.ClaimType, At: at}
	})
}

func (w *writer) claim(r *request) error {
	if err := w.begin(); err != nil {
		return err
	}
	added, err := w.store.addMessage(w.nextNo, r.msg, w.now, []byte{})
	if err != nil {
		return err
	}
	if added {
		w.nextNo++
		return nil
	}
	k, err := w.store.find(r.msg.ID)
	if err == nil && !bytes.Equal(k.digest, r.msg.Digest[:]) {
		r.err = bridge.ErrConflict
	}
	return err
}
