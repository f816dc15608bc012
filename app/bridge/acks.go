package bridge

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/wire"
)

// ackTimeout is how long an ack may take to be on its way.
const ackTimeout = 10 * time.Second

// ack gives the store an ack of this session. The client is not told of a failure: an
// ack that is lost only repeats messages.
func (s *Session) ack(c cursor) {
	durable, err := s.storeAck(c)
	if err != nil {
		if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrRewound) {
			s.b.log.Warn("an ack was not kept; its messages may come again", "session", s.id, "error", err)
		}
		return
	}
	s.logAck(c)
	if durable {
		s.b.tellAcked(s.user, c)
	}
	s.b.noteAck(s.user, s.id, s.currentIdentity().TokenID, c)
}

// storeAck returns once the ack is noted, or, where a caller waits to be told of it or it
// is beyond what the session was given, once it is durable. A caller who begins to wait
// later finds it in the receipt. AckLater needs no timer for each ack: it brings its own
// patience.
func (s *Session) storeAck(c cursor) (durable bool, err error) {
	if s.wasWritten(c.at) && !s.b.waits.concern(s.user) {
		err := s.b.store.AckLater(context.Background(), s.user, s.id, c.life, c.at)
		if err != nil || !s.b.waits.concern(s.user) {
			return false, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	return true, s.b.store.Ack(ctx, s.user, s.id, c.life, c.at)
}

// wasWritten reports whether a place is one that the session's client was given.
func (s *Session) wasWritten(p Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.Max(s.start).Covers(p)
}

// tellAcked tells of a durable ack those who wait for it.
func (b *Bridge) tellAcked(user string, c cursor) {
	if c.life == b.store.Life() {
		b.waits.acked(user, c.at)
	}
}

// noteAck counts an ack that the store has taken, and audits it.
func (b *Bridge) noteAck(user, session, tokenID string, c cursor) {
	b.metrics.acks.Inc()
	if b.audit.On() {
		b.audit.acked(user, session, tokenID, c.String())
	}
}

// Ack takes an ack that came without a socket. It counts for the user's sessions
// that cannot ack by themselves, as far as they were sent what it covers.
// Errors: *RequestError where the cursor is not this user's, and the store's.
func (b *Bridge) Ack(ctx context.Context, id Identity, after string) error {
	c, err := parseCursor(after)
	if err != nil || c.tag != cursorTag(b.store.Epoch(), id.User) {
		return &RequestError{"/cursor must be one that this server gave to this user"}
	}
	session := ""
	var polls []*Session
	for _, s := range b.hub.of(id.User) {
		if s.oneWay {
			polls, session = append(polls, s), s.id
		}
	}
	if err := b.store.Ack(ctx, id.User, session, c.life, c.at); errors.Is(err, ErrRewound) {
		return nil // the messages are gone; the next poll or stream begins with a gap
	} else if err != nil {
		return err
	}
	for _, s := range polls {
		s.logAck(c)
	}
	b.tellAcked(id.User, c)
	b.noteAck(id.User, session, id.TokenID, c)
	return nil
}

// markSeen notes that the session's user saw an event.
func (s *Session) markSeen(id string) {
	if !validID(id) {
		s.refuse("", wire.NewProblem(wire.CodeInvalidFrame, "id must be an event's id"))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	switch err := s.b.store.Seen(ctx, s.user, s.id, id, s.b.cfg.Now()); {
	case errors.Is(err, ErrUnknown):
		s.refuse("", ProblemOf(err))
		return
	case errors.Is(err, ErrClosed):
		return
	case err != nil:
		s.b.log.Warn("a seen was not kept", "session", s.id, "error", err)
		s.refuse("", ProblemOf(err))
		return
	}
	s.b.metrics.seen.Inc()
	s.b.audit.seen(s.user, s.id, s.currentIdentity().TokenID, id)
}
