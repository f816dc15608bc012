package bridge

import (
	"context"
	"errors"
)

// compare finds out how far what the session has seen still holds in the life
// that the store lives now, tells its client where it does not, and goes on from
// there. What is written already stays written as of the life before.
func (w *writer) compare(ctx context.Context) error {
	s := w.s
	if !w.flush() {
		w.broken = true
		return nil
	}
	before := cursor{s.tag, s.life, s.at}
	st, from, err := s.stand(ctx, before.String())
	if t, left := s.lastTrail(); left {
		// The session left while it joined again: only this call knows that it is
		// present once more.
		return errors.Join(err, s.b.live.Leave(ctx, t))
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
			s.told, s.replay = told{Lost: from.told}, st.Head
		}
	}()
	s.at = from.from
	if from.gap == "" {
		// Beyond where the lives agree, the places of what was told of are those of
		// other messages now.
		s.told.rewind(from.agreed)
		s.replay = s.replay.Min(from.agreed)
		return nil
	}
	w.tellGap(before, from.gap)
	return nil
}

// lastTrail is the trail of a session that has left; false for one that has not, and
// whose reader is going to.
func (s *Session) lastTrail() (DeliveryLog, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left.IsZero() {
		return DeliveryLog{}, false
	}
	t := s.copyTrail()
	t.end(s.left)
	return t, true
}

// trailsOf is Engine.TrailsOf with each trail cut back to what the store still knows
// of the life that it was written in.
func (b *Bridge) trailsOf(ctx context.Context, users []string, live bool) ([][]DeliveryLog, error) {
	lists, err := b.live.TrailsOf(ctx, users, live)
	if err != nil {
		return nil, err
	}
	for i, user := range users {
		if err := b.agree(ctx, user, lists[i]); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

// agree cuts a user's trails back to what the store still knows of their lives.
func (b *Bridge) agree(ctx context.Context, user string, trails []DeliveryLog) (err error) {
	ends := map[string]Position{}
	for i := range trails {
		t := &trails[i]
		if t.Life == b.store.Life() {
			continue
		}
		end, asked := ends[t.Life]
		if !asked {
			if end, err = b.store.LifeEnd(ctx, user, t.Life); err != nil && !errors.Is(err, ErrRewound) {
				return err
			}
			ends[t.Life] = end // of a life that was lost: the beginning
		}
		t.rewind(end)
	}
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
	if s.trail != nil {
		s.trail.rewind(p)
	}
}

// rewind cuts the trail back to p.
func (t *DeliveryLog) rewind(p Position) {
	t.From = t.From.Min(p)
	for _, list := range []*[]Mark{&t.Sent, &t.Received, &t.Acked} {
		cut := (*list)[:0]
		for _, m := range *list {
			m.Place = m.Place.Min(p)
			if n := len(cut); n == 0 || !cut[n-1].Place.Covers(m.Place) {
				cut = append(cut, m)
			}
		}
		*list = cut
	}
	holes := t.Holes[:0]
	for _, h := range t.Holes {
		if h.Last = h.Last.Min(p); h.First.Mailbox <= h.Last.Mailbox && h.First.Broadcast <= h.Last.Broadcast {
			holes = append(holes, h)
		}
	}
	t.Holes = holes
}
