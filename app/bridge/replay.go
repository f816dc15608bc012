package bridge

import (
	"context"
	"fmt"

	"hookbridge/app/wire"
)

// start is where a session begins to read, and how it is told.
type start struct {
	from    Position
	resumed bool
	gap     string // reason of a gap that the cursor itself causes; empty without one
	told    Lost   // what needs no gap frame of its own
}

// startFrom judges the cursor a client came with against where its user stands.
func startFrom(after, tag string, st Standing) start {
	if after == "" {
		// A fresh device asked for nothing, so nothing that expired before it
		// came is missing to it; what a full mailbox lost unread is.
		return start{from: st.Acked, told: Lost{Expired: st.Head}}
	}
	whole := start{from: st.First, told: Lost{Expired: st.Head, Trimmed: st.Head}}
	gotTag, p, err := parseCursor(after)
	switch {
	case err != nil:
		whole.gap = GapMalformed
		return whole
	case gotTag != tag:
		whole.gap = GapForeign
		return whole
	case !st.Head.Covers(p):
		whole.gap = GapAhead
		return whole
	}
	return start{from: p.Max(st.First), resumed: true}
}

// begin finds the session's place, queues its first frames and lets the writer
// start. The session is in the hub already, so nothing falls between.
func (s *Session) begin(ctx context.Context, after string) error {
	// A token that was revoked before this is refused here; a revocation after it
	// finds the session in the hub.
	st, err := s.b.engine.Join(ctx, s.member())
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if st.Live > s.b.cfg.SessionsPerUser {
		if err := s.b.thinOut(ctx, s.user); err != nil {
			return err
		}
	}
	from := startFrom(after, s.tag, st)
	page, err := s.b.engine.Read(ctx, s.user, from.from, pageCount, pageBytes)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	pending := len(page.Deliveries)
	if page.More {
		if pending, err = s.b.engine.Pending(ctx, s.user, from.from); err != nil {
			return fmt.Errorf("count: %w", err)
		}
	}
	_, _, lost := newlyLost(page.Lost, from.told)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil { // and a writer runs, to which all that follows belongs
		return nil
	}
	s.at, s.told, s.page, s.replay, s.start = from.from, from.told, &page, st.Head, from.from
	if !s.plain {
		cursor := formatCursor(s.tag, from.from)
		first := []item{{text: wire.Encode(wire.Connected{
			Type: wire.TypeConnected, Session: s.id, User: s.user, Cursor: cursor,
			Resumed: from.resumed && !lost, Pending: pending,
			PingMs: s.b.cfg.PingEvery.Milliseconds(), ExpiresAt: wire.Time(s.identity.Expires), MaxBytes: s.b.cfg.MaxBytes,
		})}}
		if from.gap != "" {
			first = append(first, item{text: wire.Encode(wire.Gap{Type: wire.TypeGap, After: quotable(after), Cursor: cursor, Reason: from.gap})})
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
	if _, _, err := parseCursor(cursor); err != nil {
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
	after := formatCursor(s.tag, s.at)
	w.moveTo(s.at.Max(to), false)
	s.b.metrics.gaps.WithLabelValues(reason).Inc()
	if s.plain {
		return // a plain client has no cursor to mend
	}
	w.buf = s.conn.AppendText(w.buf, wire.Encode(wire.Gap{Type: wire.TypeGap, After: after, Cursor: formatCursor(s.tag, s.at), Reason: reason}))
}
