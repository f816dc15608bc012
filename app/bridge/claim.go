package bridge

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	"hookbridge/app/wire"
)

// validID reports whether an event can have this id: a webhook-id, after a named
// sender's name and a dot where it is that sender's. A name may have dots, a
// webhook-id has none.
func validID(id string) bool {
	dot := strings.LastIndexByte(id, '.')
	if dot >= 0 {
		if name := id[:dot]; name == "" || len(name) > MaxNameBytes || !wire.Alphanumeric(name, "_.-") {
			return false
		}
	}
	return wire.ValidID(id[dot+1:])
}

// claimPrefix begins the ids that claims are kept under, which no event can have.
const claimPrefix = "claim:"

// ClaimType is the type that stores give to what they remember of a claim, and
// that no event can have.
const ClaimType = "claimed webhook-id"

// Claim remembers the id of a webhook whose events have ids of their own, with all
// that the webhook said, so that no other webhook can use the id, in this or another
// form. To claim an id again with the same digest is no error.
//
// Claims have ids apart from events, so that an event of a batch may have the
// batch's own id. A webhook that could also be read as a single event is claimed
// among the events (asEvent): whoever has seen the one must not be able to send
// the same signed bytes as the other.
// Errors: ErrDraining, and those of Store.Claim.
func (b *Bridge) Claim(ctx context.Context, from Sender, id string, digest [sha256.Size]byte, at time.Time, asEvent bool) error {
	if b.draining.Load() {
		return ErrDraining
	}
	id = from.EventID(id)
	if !asEvent {
		id = claimPrefix + id
	}
	return b.store.Claim(ctx, id, digest, at)
}
