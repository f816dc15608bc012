package bridge

import (
	"context"
	"errors"
)

// rejoin finds out how far what the session has seen still holds in the life
// that the store lives now, tells its client where it does not, and goes on from
// there. What is written already stays written as of the life before.
func (w *writer) rejoin(ctx context.Context) error {
	s := w.s
	if !w.flush() {
		w.broken = true
		return nil
	}
	before := cursor{s.tag, s.life, s.at}
	st, from, err := s.joinAt(ctx, before.String())
	if log, left := s.lastDeliveryLog(); left {
		// The session left while it joined again: only this call knows that it is
		// present once more.
		return errors.Join(err, s.b.live.Leave(ctx, log))
	}
	if err != nil {
		return err
	}
	func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.life = st.Life
		if from.gap != "" {
			s.rewindTo(from.from)
			w.last = Position{}
			s.told, s.replay = toldGaps{Lost: from.told}, st.Head
		}
	}()
	s.at = from.from
	if from.gap == "" {
		// Beyond the position up to which the lives agree, other messages now have the
		// positions of those that the client was told of.
		s.told.rewind(from.agreed)
		s.replay = s.replay.Min(from.agreed)
		return nil
	}
	w.tellGap(before, from.gap)
	return nil
}

// rewindTo forgets all that the session was handed beyond p: the store knows
// nothing of it any more, and the same places may name other messages. A pong
// that is still on its way counts for nothing, so that the next ping does not wait
// for it. mu is held.
func (s *Session) rewindTo(p Position) {
	s.rewinds++
	s.pinged = false
	s.written, s.received, s.start = s.written.Min(p), s.received.Min(p), s.start.Min(p)
	if s.deliveries != nil {
		s.deliveries.rewind(p)
	}
}
