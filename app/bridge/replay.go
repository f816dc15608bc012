package bridge

import (
	"context"
	"errors"

	"hookbridge/app/wire"
)

// pull appends one page of what is stored; at the head of both logs the
// session goes live, unless something was stored meanwhile.
func (w *writer) pull() bool {
	s := w.s
	page := s.page
	s.page = nil
	if page == nil {
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		p, err := s.b.store.Read(ctx, s.user, s.life, s.at, pageCount, pageBytes)
		if errors.Is(err, ErrOtherLife) {
			if err = w.rejoin(ctx); err == nil {
				cancel()
				return !w.broken // the page is read in the next turn
			}
		}
		cancel()
		if err != nil {
			s.b.log.Warn("a replay stopped; its client will resume", "session", s.id, "error", err)
			s.Close(endingOf(err))
			return true
		}
		page = &p
	}
	w.gap(page)
	for i := range page.Deliveries {
		d := &page.Deliveries[i]
		skip := s.skipped(d.Message.ID)
		w.moveTo(s.at.Max(Position{Mailbox: d.Mailbox, Broadcast: d.Broadcast}), !skip)
		if skip {
			continue
		}
		w.event(d, d.Mailbox <= s.replay.Mailbox && d.Broadcast <= s.replay.Broadcast)
		if len(w.buf) >= writeChunk && !w.flush() {
			return false
		}
	}
	w.moveTo(s.at.Max(page.Next()), false)
	if page.More {
		return true
	}
	s.mu.Lock()
	if !s.moreStored {
		s.reading = false
		s.skip = nil // whatever it named is read or gone
		s.told.pending = nil
	}
	s.mu.Unlock()
	return true
}

// gap appends a gap frame where a page shows that something is gone.
func (w *writer) gap(page *Page) {
	s := w.s
	to, reason, due := s.told.gap(page)
	if !due {
		return
	}
	after := cursor{s.tag, s.life, s.at}
	w.moveTo(s.at.Max(to), false)
	w.tellGap(after, reason)
}

// tellGap appends a gap frame from a cursor to where the session is now. A plain
// client has no cursor to mend.
func (w *writer) tellGap(after cursor, reason string) {
	s := w.s
	s.b.metrics.gaps.WithLabelValues(reason).Inc()
	if !s.plain {
		w.buf = s.conn.AppendText(w.buf, wire.Gap{After: after.String(), Cursor: cursor{s.tag, s.life, s.at}.String(), Reason: reason}.Frame())
	}
}

// skipped tells whether a message names this session in its except, once.
func (s *Session) skipped(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.skip[id]; !ok {
		return false
	}
	delete(s.skip, id)
	return true
}

func (w *writer) readStore() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.reading, w.s.moreStored = true, true
}

// catchUp has the session read up to head from the store, unless it is there already.
func (w *writer) catchUp(head Position) {
	if !w.s.at.Covers(head) {
		w.readStore()
	}
}

// readLater drops a queued message, which is then read from the store.
func (w *writer) readLater(it *item) {
	s := w.s
	if it.skip {
		s.mu.Lock()
		s.leaveOut(it.d.Message.ID)
		s.mu.Unlock()
	}
	w.readStore()
}
