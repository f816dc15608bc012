package bridge

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"
)

// validID reports whether an event can have this id: a webhook-id, after a named
// sender's name and a dot where it is that sender's. A name may have dots, a
// webhook-id has none.
func validID(id string) bool {
	own := id
	if dot := strings.LastIndexByte(id, '.'); dot >= 0 {
		name := id[:dot]
		own = id[dot+1:]
		if name == "" || len(name) > MaxNameBytes || !idChars(strings.ReplaceAll(name, ".", "")) {
			return false
		}
	}
	return own != "" && len(own) <= MaxIDBytes && idChars(own)
}

func idChars(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// claimPrefix begins the ids that claims are kept under, which no event can have.
const claimPrefix = "claim:"

// ClaimType is the type that engines give to what they remember of a claim, and
// that no event can have.
const ClaimType = "claimed webhook-id"

// Claim remembers the id of a webhook whose events have ids of their own, with all
// that the webhook said: it is no good for another one, be it of another form.
// Once more, with the same digest, is no error.
//
// Claims have ids apart from events, so that an event of a batch may have the
// batch's own id. A webhook that could also be read as a single event is claimed
// among the events (asEvent): whoever has seen the one must not be able to send
// the same signed bytes as the other.
// Errors: ErrDraining, and those of Engine.Claim.
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
