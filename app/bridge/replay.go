package bridge

import (
	"context"
	"errors"
	"fmt"

	"hookbridge/app/wire"
)

// start is where a session begins to read, and how it is told.
type start struct {
	from    Position
	resumed bool
	gap     string   // reason of a gap that the cursor itself causes; empty without one
	told    Lost     // what needs no gap frame of its own
	agreed  Position // how far the store agrees with what the cursor's life has given out
}

// startFrom judges the cursor a client came with against where its user stands.
// lifeEnd is Store.LifeEnd for the user; it is asked only for another life than
// the store's own, and only its failure fails.
func startFrom(after, tag string, st JoinState, lifeEnd func(life string) (Position, error)) (start, error) {
	if after == "" {
		// A fresh device asked for nothing, so nothing that expired before it
		// came is missing to it; what a full mailbox lost unread is.
		return start{from: st.Acked, told: Lost{Expired: st.Head}}, nil
	}
	whole := func(reason string) (start, error) {
		return start{from: st.First, told: Lost{Expired: st.Head, Trimmed: st.Head}, gap: reason}, nil
	}
	c, err := parseCursor(after)
	switch {
	case err != nil:
		return whole(GapMalformed)
	case c.tag != tag:
		return whole(GapForeign)
	case c.life == "" && !st.Head.Covers(c.at): // it may be of a lost life, or of none
		return whole(GapAhead)
	case c.life != st.Life:
		end, err := lifeEnd(c.life)
		if errors.Is(err, ErrRewound) {
			// Everything held, and a word on what has expired: it may have come after
			// the store went back.
			return start{from: st.First, gap: GapRewound}, nil
		}
		if err != nil {
			return start{}, err
		}
		if !end.Covers(c.at) {
			// Up to the life's end the store is the one that the client knew.
			return start{from: c.at.Min(end).Max(st.First), gap: GapRewound}, nil
		}
		return start{from: c.at.Max(st.First), resumed: true, agreed: end}, nil
	case !st.Head.Covers(c.at):
		return whole(GapAhead)
	}
	return start{from: c.at.Max(st.First), resumed: true, agreed: st.Head}, nil
}

// fromLostTime tells whether a cursor was given out in a time that the store, which
// lives life now, has lost.
func fromLostTime(after, tag, life string, lifeEnd func(life string) (Position, error)) (bool, error) {
	c, err := parseCursor(after)
	if err != nil || c.tag != tag || c.life == life || c.life == "" {
		return false, nil
	}
	end, err := lifeEnd(c.life)
	if errors.Is(err, ErrRewound) {
		return true, nil
	}
	return err == nil && !end.Covers(c.at), err
}

// stand joins the session and finds where it is to read on, by the cursor it has.
func (s *Session) stand(ctx context.Context, after string) (JoinState, start, error) {
	// A token that was revoked before this is refused here; a revocation after it
	// finds the session in the hub.
	lifeEnd := func(life string) (Position, error) { return s.b.store.LifeEnd(ctx, s.user, life) }
	m := s.asMember()
	var err error
	if m.Returns, err = fromLostTime(after, cursorTag(s.b.store.Epoch(), s.user), s.b.store.Life(), lifeEnd); err != nil {
		return JoinState{}, start{}, fmt.Errorf("compare lives: %w", err)
	}
	s.joining.Lock()
	st, err := s.b.live.Join(ctx, m)
	s.joining.Unlock()
	if err != nil {
		return st, start{}, fmt.Errorf("join: %w", err)
	}
	s.mu.Lock()
	s.tag = cursorTag(s.b.store.Epoch(), s.user)
	s.mu.Unlock()
	from, err := startFrom(after, s.tag, st, lifeEnd)
	if err != nil {
		return st, from, fmt.Errorf("compare lives: %w", err)
	}
	return st, from, nil
}

func (s *Session) asMember() Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member()
}

func (s *Session) cursorTag() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tag
}

// begin finds the session's place, queues its first frames and lets the writer
// start. The session is in the hub already, so nothing falls between.
func (s *Session) begin(ctx context.Context, after string) error {
	st, from, err := s.stand(ctx, after)
	if err != nil {
		return err
	}
	if st.Live > s.b.cfg.SessionsPerUser {
		if err := s.b.thinOut(ctx, s.user); err != nil {
			return err
		}
	}
	page, err := s.b.store.Read(ctx, s.user, st.Life, from.from, pageCount, pageBytes)
	for errors.Is(err, ErrOtherLife) { // the store went on to another one since the join
		if st, from, err = s.stand(ctx, after); err == nil {
			page, err = s.b.store.Read(ctx, s.user, st.Life, from.from, pageCount, pageBytes)
		}
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	pending := len(page.Deliveries)
	if page.More {
		if pending, err = s.b.store.Pending(ctx, s.user, from.from); err != nil {
			return fmt.Errorf("count: %w", err)
		}
	}
	_, _, lost := newlyLost(page.Lost, from.told)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil { // and a writer runs, to which all that follows belongs
		return nil
	}
	s.at, s.told, s.page, s.replay, s.start, s.life = from.from, from.told, &page, st.Head, from.from, st.Life
	if !s.plain {
		cursor := cursor{s.tag, st.Life, from.from}.String()
		first := []item{own(wire.Connected{
			Session: s.id, User: s.user, Cursor: cursor,
			Resumed: from.resumed && !lost, Pending: pending,
			PingMs: s.b.cfg.PingEvery.Milliseconds(), ExpiresAt: wire.Time(s.identity.Expires), MaxBytes: s.b.cfg.MaxBytes,
		}.Frame())}
		if from.gap != "" {
			first = append(first, own(wire.Gap{After: quotable(after), Cursor: cursor, Reason: from.gap}.Frame()))
			s.b.metrics.gaps.WithLabelValues(from.gap).Inc()
		}
		s.queue = append(first, s.queue...)
	}
	s.ready = true
	s.kick()
	return nil
}

// quotable is a client's own cursor as we dare to repeat it.
func quotable(cursor string) string {
	if _, err := parseCursor(cursor); err != nil {
		return ""
	}
	return cursor
}

// newlyLost compares what is gone with what was told, and returns the furthest
// place and the reason of what must be told now.
func newlyLost(lost, told Lost) (to Position, reason string, ok bool) {
	if lost.Expired.Mailbox > told.Expired.Mailbox || lost.Expired.Broadcast > told.Expired.Broadcast {
		to, reason = to.Max(lost.Expired), GapExpired
	}
	if lost.Trimmed.Mailbox > told.Trimmed.Mailbox || lost.Trimmed.Broadcast > told.Trimmed.Broadcast {
		to, reason = to.Max(lost.Trimmed), GapTrimmed
	}
	return to, reason, reason != ""
}

// gap appends a gap frame where a page shows that something is gone. Its cursor
// stops short of the page's first messages, so that cursors never go backwards.
func (w *writer) gap(page *Page) {
	s := w.s
	to, reason, ok := newlyLost(page.Lost, s.told)
	s.told.Expired = s.told.Expired.Max(page.Lost.Expired)
	s.told.Trimmed = s.told.Trimmed.Max(page.Lost.Trimmed)
	if !ok {
		return
	}
	var mailbox, broadcast bool // the first of each log was met
	for i := range page.Deliveries {
		d := &page.Deliveries[i]
		if d.Mailbox != 0 && !mailbox {
			mailbox = true
			to.Mailbox = min(to.Mailbox, d.Mailbox-1)
		}
		if d.Broadcast != 0 && !broadcast {
			broadcast = true
			to.Broadcast = min(to.Broadcast, d.Broadcast-1)
		}
	}
	after := cursor{s.tag, s.life, s.at}
	w.moveTo(s.at.Max(to), false)
	s.b.metrics.gaps.WithLabelValues(reason).Inc()
	if s.plain {
		return // a plain client has no cursor to mend
	}
	w.buf = s.conn.AppendText(w.buf, wire.Gap{After: after.String(), Cursor: cursor{s.tag, s.life, s.at}.String(), Reason: reason}.Frame())
}
