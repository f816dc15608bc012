package bridge

import (
	"context"
	"errors"
	"fmt"

	"hookbridge/app/wire"
)

// joinAt joins the session and finds where it is to read on, by the cursor it has.
func (s *Session) joinAt(ctx context.Context, after string) (JoinState, start, error) {
	// A token that was revoked before this is refused here; a revocation after it
	// finds the session in the hub.
	lifeEnd := func(life string) (Position, error) { return s.b.store.LifeEnd(ctx, s.user, life) }
	m := s.asMember()
	var err error
	if m.Returns, err = fromLostTime(after, cursorTag(s.b.store.Epoch(), s.user), s.b.store.Life(), lifeEnd); err != nil {
		return JoinState{}, start{}, fmt.Errorf("compare lives: %w", err)
	}
	m.Reads = readAhead(after, cursorTag(s.b.store.Epoch(), s.user))
	s.joining.Lock()
	st, err := s.b.live.Join(ctx, m)
	s.joining.Unlock()
	if err != nil {
		return st, start{}, fmt.Errorf("join: %w", err)
	}
	s.tellCome(st.Live) // whether or not the session gets further: others may have come after it
	s.mu.Lock()
	s.tag = cursorTag(s.b.store.Epoch(), s.user)
	s.mu.Unlock()
	from, err := startFrom(after, s.tag, st, lifeEnd)
	if err != nil {
		return st, from, fmt.Errorf("compare lives: %w", err)
	}
	return st, from, nil
}

// begin finds the session's place, queues its first frames and lets the writer
// start. The session is in the hub already, so nothing falls between.
func (s *Session) begin(ctx context.Context, after string) error {
	st, from, err := s.joinAt(ctx, after)
	if err != nil {
		return err
	}
	if st.Live > s.b.cfg.SessionsPerUser {
		if err := s.b.enforceSessionLimit(ctx, s.user); err != nil {
			return err
		}
	}
	page, err := s.firstPage(ctx, &st, from.from)
	for errors.Is(err, ErrOtherLife) { // the store went on to another one since the join
		if st, from, err = s.joinAt(ctx, after); err == nil {
			page, err = s.firstPage(ctx, &st, from.from)
		}
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	pending, told := len(page.Deliveries), toldGaps{Lost: from.told}
	if page.More && !s.plain {
		unread, err := s.b.store.Pending(ctx, s.user, from.from)
		if err != nil {
			return fmt.Errorf("count: %w", err)
		}
		if pending = unread.Count(); after == "" {
			told.pending = &unread
		}
	}
	_, _, lost := told.gap(&page)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil { // and a writer runs, to which all that follows belongs
		return nil
	}
	s.at, s.told, s.page, s.replay, s.start, s.life = from.from, told, &page, st.Head, from.from, st.Life
	if !s.plain {
		place := cursor{s.tag, st.Life, from.from}.String()
		first := []item{own(wire.Connected{
			Session: s.id, User: s.user, Cursor: place,
			Resumed: from.resumed && !lost, Pending: pending,
			PingMs: s.b.cfg.PingEvery.Milliseconds(), ExpiresAt: wire.Time(s.identity.Expires), MaxBytes: s.b.cfg.MaxBytes,
		}.Frame())}
		if from.gap != "" {
			first = append(first, own(wire.Gap{After: quotable(after), Cursor: place, Reason: from.gap}.Frame()))
			s.b.metrics.gaps.WithLabelValues(from.gap).Inc()
		}
		s.queue = append(first, s.queue...)
	}
	s.ready = true
	s.wakeWriter()
	return nil
}

// readAhead is which page Join should read for a session that comes with a cursor, as far
// as that can be told before the join; nil for none.
func readAhead(after, tag string) *ReadAhead {
	r := &ReadAhead{Fresh: after == "", MaxCount: pageCount, MaxBytes: pageBytes}
	if r.Fresh {
		return r
	}
	c, err := parseCursor(after)
	if err != nil || c.tag != tag || c.life == "" {
		return nil
	}
	r.Life, r.After = c.life, c.at
	return r
}

// firstPage is the page that Join has read, where it begins at the right place, or else
// it is read from the store.
func (s *Session) firstPage(ctx context.Context, st *JoinState, from Position) (Page, error) {
	if st.Page != nil && st.PageAfter == from {
		return *st.Page, nil
	}
	return s.b.store.Read(ctx, s.user, st.Life, from, pageCount, pageBytes)
}

// quotable is a client's own cursor as we dare to repeat it.
func quotable(cursor string) string {
	if _, err := parseCursor(cursor); err != nil {
		return ""
	}
	return cursor
}
