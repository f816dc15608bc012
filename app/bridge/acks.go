package bridge

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/wire"
)

// ackTimeout is how long an ack may take to be on its way.
const ackTimeout = 10 * time.Second

// pong marks what the peer's socket has answered for. In plain mode, where the
// app cannot ack, it is the ack too.
func (s *Session) pong(payload []byte) {
	h, err := parsePong(payload)
	if err != nil {
		return // an unsolicited pong may carry anything (RFC 6455 §5.5.3)
	}
	if c, ok := s.answer(h); ok && s.plain {
		s.ack(c)
	}
}

// answer takes a pong, and returns the cursor up to which it answers; false for a
// place that we have not pinged with.
func (s *Session) answer(h heartbeat) (c cursor, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.rewinds != s.rewinds || !s.written.Covers(h.at) || h.frames > s.framesWritten {
		return c, false
	}
	p, frames := h.at, h.frames
	c = cursor{s.tag, s.life, p}
	s.received = s.received.Max(p)
	s.framesAnswered = max(s.framesAnswered, frames)
	if s.deliveries != nil {
		now := s.b.cfg.Now()
		s.deliveries.mark(&s.deliveries.Received, p, now)
		s.deliveries.unstoredReceived(frames, now)
	}
	s.b.waits.advance(s.user, func(id string, u *awaited) Status {
		if times, ok := s.timesOf(id, u.mailbox, u.broadcast); ok && !times.Received.IsZero() {
			return StatusReceived
		}
		return u.status
	})
	if s.plain && s.received != s.written || s.frameAwaited > s.framesAnswered {
		s.push(item{})
	}
	return c, true
}

// requestPong has the socket answer for all that it was handed, soon.
func (s *Session) requestPong() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil && !s.oneWay && s.framesWritten > s.framesAnswered {
		s.frameAwaited = s.framesWritten
		if !s.pinged {
			s.push(item{})
		}
	}
}

// statusOf tells how far this session is with a message; StatusQueued where it
// does not have it.
func (s *Session) statusOf(id string, mailbox, broadcast uint64) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.deliveries
	switch {
	case s.life != s.b.store.Life(): // it will read what the store has, whatever its places meant before
		t = &DeliveryLog{}
	case t == nil:
		t = &DeliveryLog{From: s.written.Max(s.start)}
	}
	return t.StatusOf(id, mailbox, broadcast)
}

// timesOf tells when the session was handed a message; mu is held.
func (s *Session) timesOf(id string, mailbox, broadcast uint64) (Times, bool) {
	if s.deliveries == nil {
		return Times{}, false
	}
	return s.deliveries.Of(id, mailbox, broadcast)
}

// ack passes an ack on. A failing engine is no reason to trouble the client:
// an ack that is lost repeats a message and loses none.
func (s *Session) ack(c cursor) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	if err := s.b.store.Ack(ctx, s.user, c.life, c.at); err != nil {
		if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrRewound) {
			s.b.log.Warn("an ack was not kept; its messages may come again", "session", s.id, "error", err)
		}
		return
	}
	s.logAck(c)
	s.b.ackTaken(s.user, s.id, s.currentIdentity().TokenID, c)
}

// logAck marks an ack in the session's delivery log. One of a life that the store has
// left counts for nothing there: the log may have been cut back since.
func (s *Session) logAck(c cursor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliveries == nil || c.life != s.life {
		return
	}
	s.deliveries.mark(&s.deliveries.Acked, c.at.Min(s.written), s.b.cfg.Now())
}

// ackTaken counts an ack that the engine has taken, and tells those who wait for it.
func (b *Bridge) ackTaken(user, session, tokenID string, c cursor) {
	b.metrics.acks.Inc()
	if c.life == b.store.Life() {
		b.waits.acked(user, c.at)
	}
	if b.audit.On() {
		b.audit.acked(user, session, tokenID, c.String())
	}
}

// Ack takes an ack that came without a socket. It counts for the user's sessions
// that cannot ack by themselves, as far as they were sent what it covers.
// Errors: *RequestError where the cursor is not this user's, and the engine's.
func (b *Bridge) Ack(ctx context.Context, id Identity, after string) error {
	c, err := parseCursor(after)
	if err != nil || c.tag != cursorTag(b.store.Epoch(), id.User) {
		return &RequestError{"/cursor must be one that this server gave to this user"}
	}
	if err := b.store.Ack(ctx, id.User, c.life, c.at); errors.Is(err, ErrRewound) {
		return nil // what it acks is gone, which the next poll or stream tells by a gap
	} else if err != nil {
		return err
	}
	session := ""
	for _, s := range b.hub.of(id.User) {
		if s.oneWay {
			s.logAck(c)
			session = s.id
		}
	}
	b.ackTaken(id.User, session, id.TokenID, c)
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

// logWrite brings the delivery log up to what is about to be written: place and frames are
// what the socket will have had then. mu is held.
func (s *Session) logWrite(place Position, frames uint64) {
	if place == s.written && frames == s.framesWritten {
		return
	}
	if frames > s.framesWritten || s.deliveries != nil {
		t := s.deliveryLog()
		now := s.b.cfg.Now()
		t.mark(&t.Sent, place, now)
		t.unstoredSent(frames, now)
	}
	s.written, s.framesWritten = place, frames
}

// deliveryLog is the session's own, made when there is something to keep in it; mu
// is held.
func (s *Session) deliveryLog() *DeliveryLog {
	if s.deliveries == nil {
		s.deliveries = &DeliveryLog{From: s.start}
	}
	return s.deliveries
}

// deliveryLogNow is a copy of it as it is now.
func (s *Session) deliveryLogNow() DeliveryLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyDeliveryLog()
}

func (s *Session) copyDeliveryLog() DeliveryLog {
	if s.deliveries == nil {
		return DeliveryLog{Member: s.member(), Life: s.life, From: s.written.Max(s.start), Ending: s.ending != nil}
	}
	t := s.deliveries.clone()
	t.Member, t.Life, t.Ending = s.member(), s.life, s.ending != nil
	return t
}
