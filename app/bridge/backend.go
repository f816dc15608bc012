package bridge

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/wire"
)

// storedPrefix begins the ids under which is claimed that a send with a ref is stored; no
// event can have one.
const storedPrefix = "stored:"

// SendToBackend takes a message from a user to a backend. When it returns without error
// the message is stored, and is sent until the backend has it, in the order in which
// the user's were taken. session is the one it came from; empty for one that came over
// HTTP. A ref makes a retry idempotent for this user.
// Errors: ErrForbiddenTarget, *RateError, ErrDraining, ErrConflict where the ref was used
// with other content, ErrOutboxFull, and the store's.
func (b *Bridge) SendToBackend(ctx context.Context, from Identity, session, ref string, e wire.Event) (Outcome, error) {
	o, backend, err := b.sendToBackend(ctx, from, session, ref, &e)
	b.metrics.sentToBackend(o, err)
	if err == nil {
		b.audit.sentToBackend(from, session, backend, e.Type, o)
	}
	return o, err
}

func (b *Bridge) sendToBackend(ctx context.Context, from Identity, session, ref string, e *wire.Event) (o Outcome, backend string, err error) {
	if backend, err = b.admitToBackend(from, e); err != nil {
		return o, "", err
	}
	o = Outcome{ID: sendID(from.User, ref), Status: StatusQueued}
	stored, digest, now := storedPrefix+o.ID, sendDigest(e), b.cfg.Now()
	if ref != "" {
		// The id is claimed first, so that of two messages that use one ref at the same
		// time one is refused and not stored. A second claim, after the message, says
		// that it is stored: a retry of a send that broke off between them stores it.
		if err := b.store.Claim(ctx, o.ID, digest, now); err != nil {
			return Outcome{}, "", err
		}
		if _, err := b.store.Lookup(ctx, stored); err == nil {
			o.Duplicate = true
			return o, backend, nil
		} else if !errors.Is(err, ErrUnknown) {
			return Outcome{}, "", err
		}
	}
	if err := b.cfg.Outbox.Post(ctx, SentCallback(backend, from.User, session, o.ID, e.Type, e.Data, now)); err != nil {
		return Outcome{}, "", err
	}
	if ref != "" {
		err = b.store.Claim(ctx, stored, digest, now)
	}
	return o, backend, err
}

// admitToBackend finds the backend that an event of a user's goes to, and counts the
// event by the user's rate.
func (b *Bridge) admitToBackend(from Identity, e *wire.Event) (backend string, err error) {
	if b.draining.Load() {
		return "", ErrDraining
	}
	if !from.Policy.MaySendToBackend(e.Type) {
		return "", ErrForbiddenTarget
	}
	if err := b.users.admit(from.User, len(e.Data)+len(e.Type), time.Now()); err != nil {
		return "", err
	}
	name := ""
	if e.To.Backend != nil {
		name = *e.To.Backend
	}
	backend, ok := b.cfg.Backends.Route(name, e.Type, from.User)
	if !ok {
		return "", ErrForbiddenTarget
	}
	return backend, nil
}

// sendResult is a label of metrics.
func sendResult(o Outcome, err error) string {
	switch {
	case err == nil && o.Duplicate:
		return "duplicate"
	case err == nil:
		return "queued"
	case errors.Is(err, ErrOutboxFull):
		return "full"
	}
	return ProblemOf(err).Code
}
