package redis

import (
	"context"
	"crypto/sha256"
	"time"

	"hookbridge/app/bridge"
)

// Claim implements bridge.Store: the id is remembered like that of a message
// that was never stored, for nobody.
func (e *Store) Claim(ctx context.Context, id string, digest [sha256.Size]byte, at time.Time) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reply, err := e.runDurable(ctx, e.claim(&bridge.Message{ID: id, Digest: digest, Type: bridge.ClaimType, At: at}, nil, ""))
	if err != nil {
		return err
	}
	known, err := parse(reply)
	if err == nil && known.kind == 'c' {
		return bridge.ErrConflict
	}
	return err
}
