package sqlite

import (
	"context"
	"time"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
)

// Pending implements bridge.Store.
func (s *Store) Pending(ctx context.Context, user string, after bridge.Position) (p bridge.Pending, err error) {
	now := s.opts.Now().UnixNano()
	err = s.viewOf(ctx, user, func(r *reader) error {
		_, _, from, err := r.shelves(user, after)
		if err != nil {
			return err
		}
		if p.Mailbox, err = r.pending(user, from.Mailbox, now); err != nil {
			return err
		}
		p.Broadcast, err = r.pending("", from.Broadcast, now)
		return err
	})
	return p, err
}

// pending lists the places of a log with unexpired messages.
func (r *reader) pending(user string, after uint64, now int64) (ranges []bridge.Range, err error) {
	err = with(r.places).text(user).seq(after).int(now).each(func(row *sqlite3.Stmt) bool {
		seq := uint64(row.ColumnInt64(0))
		if n := len(ranges); n > 0 && ranges[n-1].Last == seq-1 {
			ranges[n-1].Last = seq
		} else {
			ranges = append(ranges, bridge.Range{First: seq, Last: seq})
		}
		return true
	})
	return ranges, err
}

// Read implements bridge.Store. The two logs come mixed in the order in which
// the messages arrived. A place beyond a log's head reads as empty, and Next is
// that head: what comes later has to be found.
func (s *Store) Read(ctx context.Context, user, life string, after bridge.Position, maxCount, maxBytes int) (bridge.Page, error) {
	if life != s.lives.name {
		return bridge.Page{}, bridge.ErrOtherLife
	}
	var p bridge.Page
	now := s.opts.Now().UnixNano()
	err := s.viewOf(ctx, user, func(r *reader) error {
		mine, all, from, err := r.shelves(user, after)
		if err != nil {
			return err
		}
		m := &stretch{rows: r.mail, shelf: mine, to: bridge.Target{User: user}}
		b := &stretch{rows: r.all, shelf: all, to: bridge.Target{All: true}}
		if err = firstOf(m.start(user, from.Mailbox, now), b.start("", from.Broadcast, now)); err == nil {
			p, err = mix(m, b, max(maxCount, 1), maxBytes)
		}
		for i := range p.Deliveries {
			p.Deliveries[i].Life = life
		}
		// An answer that was not read to its end keeps a view of the file.
		return firstOf(err, m.rows.Reset(), b.rows.Reset())
	})
	if err != nil {
		return bridge.Page{}, err
	}
	return p, nil
}

// stretch walks along one log from a place on.
type stretch struct {
	rows  *sqlite3.Stmt
	shelf shelf
	to    bridge.Target
	after uint64 // the walk began here
	at    uint64 // everything up to here is read, or gone
	now   int64

	// The row that is next; ok is false at the log's head.
	ok      bool
	seq     uint64
	no      int64
	expires int64
}

// start begins the walk, step goes one row further.
func (s *stretch) start(user string, after uint64, now int64) error {
	s.after, s.now = min(after, s.shelf.head), now
	s.at = s.after
	a := with(s.rows).text(user).seq(s.at)
	if a.err != nil {
		return a.err
	}
	return s.step()
}

// step looks at the next row that has not expired.
func (s *stretch) step() error {
	for {
		s.ok = s.rows.Step()
		if !s.ok {
			s.at = s.shelf.head
			return s.rows.Err()
		}
		s.seq, s.no, s.expires = uint64(s.rows.ColumnInt64(0)), s.rows.ColumnInt64(1), s.rows.ColumnInt64(2)
		if s.expires > s.now {
			s.at = s.seq - 1
			return nil
		}
		s.at = s.seq
		s.shelf.expired = max(s.shelf.expired, s.seq)
	}
}

// found is what the walk has come by.
func (s *stretch) found() bridge.Stretch {
	return bridge.Stretch{After: s.after, Next: s.at, Trimmed: s.shelf.trimmed, Removed: removed(s.shelf.explicit, s.shelf.expired, s.shelf.head)}
}

// message makes the Message of the row that is next.
func (s *stretch) message() (*bridge.Message, error) {
	m := &bridge.Message{
		ID:      s.rows.ColumnText(3),
		From:    s.rows.ColumnText(4),
		To:      s.to,
		Event:   s.rows.ColumnBlob(7, []byte{}),
		Expires: time.Unix(0, s.expires).UTC(),
		Type:    s.rows.ColumnText(8),
		At:      time.Unix(0, s.rows.ColumnInt64(9)).UTC(),
		Topic:   s.rows.ColumnText(10),
	}
	copy(m.Digest[:], s.rows.ColumnRawBlob(5))
	var err error
	if m.Except, err = parseNames(s.rows.ColumnRawBlob(6)); err != nil {
		return nil, err
	}
	m.Encode()
	return m, nil
}

// mix reads both stretches, oldest arrival first, until the page is full.
func mix(mine, all *stretch, maxCount, maxBytes int) (bridge.Page, error) {
	var p bridge.Page
	bytes := 0
	for mine.ok || all.ok {
		s := mine
		if !mine.ok || (all.ok && all.no < mine.no) {
			s = all
		}
		if len(p.Deliveries) == maxCount {
			p.More = true
			break
		}
		m, err := s.message()
		if err != nil {
			return p, err
		}
		bytes += len(m.Event)
		if len(p.Deliveries) > 0 && bytes > maxBytes {
			p.More = true
			break
		}
		d := bridge.Delivery{Message: m}
		if s == mine {
			d.Mailbox = s.seq
		} else {
			d.Broadcast = s.seq
		}
		p.Deliveries = append(p.Deliveries, d)
		s.at = s.seq
		if err := s.step(); err != nil {
			return p, err
		}
	}
	p.Mailbox, p.Broadcast = mine.found(), all.found()
	return p, nil
}
