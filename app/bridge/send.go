package bridge

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"hookbridge/app/wire"
)

// sendID is the id of what a user sends: the same for the same ref, which makes a retry
// idempotent for this user; without one each send has an id of its own.
func sendID(user, ref string) string {
	if ref == "" {
		return "msg_" + ulid.Make().String()
	}
	sum := sha256.Sum256([]byte("send\x00" + user + "\x00" + ref))
	return "msg_" + tagEncoding.EncodeToString(sum[:16])
}

// Send takes a message from one user to others. A ref makes a retry idempotent
// for this user; without one each call is a message of its own.
// Errors: ErrForbiddenTarget, *RateError and those of Publish.
func (b *Bridge) Send(ctx context.Context, from Identity, ref string, e wire.Event) (Outcome, error) {
	m, err := b.message(sendID(from.User, ref), from.User, b.cfg.Now(), sendDigest(&e), &e)
	if err != nil {
		return Outcome{}, err
	}
	if !from.Policy.MaySend(m.To) {
		return Outcome{}, ErrForbiddenTarget
	}
	if e.TTL > b.cfg.DefaultTTL {
		return Outcome{}, invalid("/event/ttl must be at most %d seconds: what users send is kept no longer than the default (BRIDGE_DEFAULT_TTL)",
			int(b.cfg.DefaultTTL.Seconds()))
	}
	if err := b.users.admit(from.User, len(m.Event), time.Now()); err != nil {
		return Outcome{}, err
	}
	p := b.append(ctx, []*Message{m}, Wait{})[0]
	if p.Err == nil {
		b.audit.accepted("", from, m, p.Outcome)
	}
	return p.Outcome, p.Err
}

// sendDigest covers what a user asked for, so that a reused ref with other
// content is a conflict. Stores keep digests: what is added to it must leave those of
// sends without the addition as they are.
func sendDigest(e *wire.Event) (sum [sha256.Size]byte) {
	h := sha256.New()
	kind, names := "", e.To.Users // the kind is a part of its own, as a group may have a user's name
	switch {
	case e.To.All:
		kind = "all"
	case e.To.Group != "":
		kind, names = "group", []string{e.To.Group}
	case e.To.Backend != nil:
		kind, names = "backend", []string{*e.To.Backend}
	}
	if e.Escalate != 0 { // after an empty name, which is in no list of users
		names = append(slices.Clone(names), "", e.Escalate.String())
	}
	parts := append([]string{e.Type, string(e.Data), e.Topic, e.TTL.String(), e.To.User, kind}, names...)
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Sum(sum[:0])
	return sum
}
